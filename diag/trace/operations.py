"""What the names of operations in a trace mean."""

from __future__ import annotations

RELU_LIKE = frozenset({"relu", "relu_", "leaky_relu", "leaky_relu_", "prelu", "rrelu", "relu6", "threshold"})
"""Nonlinearities whose flat side is their zero side: judged by zeros and dead units, not by saturation."""
NONLINEARITIES = frozenset(
    "relu relu6 sigmoid tanh softsign elu selu celu leaky_relu prelu rrelu gelu silu swish mish hardswish hardsigmoid "
    "hardtanh softplus logsigmoid hardshrink softshrink tanhshrink threshold softmax log_softmax softmin glu "
    "clamp".split()
)
"""Functions of one tensor, element by element or along an axis, that bend it."""
LAYERS = frozenset(
    "linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
    "matmul mm bmm addmm baddbmm einsum".split()
)
"""Those that multiply by weights, or multiply two signals."""
OF_LOSS = r"(?:^|\.)loss:"
"""In the name of a site: what the loss function computes outside of the network."""
