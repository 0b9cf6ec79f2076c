"""Where tensors are met: the only code that registers hooks."""
