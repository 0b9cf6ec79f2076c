"""What the names of operations in a trace mean."""

from __future__ import annotations

RELU_LIKE = frozenset({"relu", "relu_", "leaky_relu", "leaky_relu_", "prelu", "rrelu", "relu6", "threshold"})
"""Nonlinearities whose flat side is their zero side: judged by zeros and dead units, not by saturation."""
