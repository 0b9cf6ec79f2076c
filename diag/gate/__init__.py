"""A run held to a baseline: what regressed, what did not, and what too few seeds cannot tell."""
