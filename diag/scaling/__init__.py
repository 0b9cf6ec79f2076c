"""How a network's signals change with its width or depth: the coordinate check, judged."""
