"""What an operation is called, and what role it plays: for modules and for functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from diag.trace.operations import LAYERS, NONLINEARITIES

PRODUCTS = frozenset("matmul mm bmm addmm baddbmm einsum".split())
"""Layers only where an operand is a parameter; otherwise they multiply two signals, as attention scores do."""
NORMALIZATIONS = frozenset(
    "batch_norm layer_norm group_norm instance_norm local_response_norm rms_norm normalize".split()
)
HAZARDS = frozenset(
    "log log2 log10 log1p sqrt rsqrt reciprocal div exp pow norm std var asin acos "
    "atanh logit cosine_similarity".split()
)
"""Functions with a pole or an edge: where a non-finite value can be born."""
POOLINGS = frozenset(
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d".split()
)
LOSSES = frozenset(
    "cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss smooth_l1_loss "
    "huber_loss kl_div poisson_nll_loss gaussian_nll_loss hinge_embedding_loss margin_ranking_loss "
    "triplet_margin_loss cosine_embedding_loss soft_margin_loss ctc_loss".split()
)
DROPOUTS = frozenset("dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout".split())

_ALIASES = {
    "expit": "sigmoid",
    "special_expit": "sigmoid",
    "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
    "special_log1p": "log1p",
    "special_logit": "logit",
    "_threshold": "threshold",
    "clip": "clamp",
    "clip_": "clamp",
    "clamp_min_": "clamp",
    "true_divide": "div",
    "true_divide_": "div",
    "__rdiv__": "div",
    "__itruediv__": "div",
    "__ipow__": "pow",
    "__truediv__": "div",
    "__rtruediv__": "div",
    "__pow__": "pow",
    "__rpow__": "pow",
    "__matmul__": "matmul",
    "__rmatmul__": "matmul",
    "clamp_min": "clamp",
    "max_pool1d_with_indices": "max_pool1d",
    "max_pool2d_with_indices": "max_pool2d",
    "_max_pool1d": "max_pool1d",
    "_max_pool2d": "max_pool2d",
    "boolean_dispatch": "",
    "multi_head_attention_forward": "attention",
    "scaled_dot_product_attention": "attention",
    "vector_norm": "norm",
    "linalg_norm": "norm",
    "linalg_vector_norm": "norm",
}

_ROLES: dict[str, str] = {
    **dict.fromkeys(NONLINEARITIES, "nonlinearity"),
    **dict.fromkeys(LAYERS, "layer"),
    **dict.fromkeys(NORMALIZATIONS, "normalization"),
    **dict.fromkeys(HAZARDS, "elementwise"),
    **dict.fromkeys(POOLINGS, "pooling"),
    **dict.fromkeys(DROPOUTS, "dropout"),
    **dict.fromkeys(LOSSES, "loss"),
    "embedding": "embedding",
    "embedding_bag": "embedding",
    "attention": "attention",
    "lstm": "recurrent",
    "gru": "recurrent",
    "rnn": "recurrent",
    "input": "input",
}

_MODULES: tuple[tuple[Any, str], ...] = (
    (nn.Linear, "linear"),
    (nn.Bilinear, "bilinear"),
    (nn.Conv1d, "conv1d"),
    (nn.Conv2d, "conv2d"),
    (nn.Conv3d, "conv3d"),
    (nn.ConvTranspose1d, "conv_transpose1d"),
    (nn.ConvTranspose2d, "conv_transpose2d"),
    (nn.ConvTranspose3d, "conv_transpose3d"),
    (nn.LSTM, "lstm"),
    (nn.GRU, "gru"),
    (nn.RNN, "rnn"),
    (nn.LSTMCell, "lstm"),
    (nn.GRUCell, "gru"),
    (nn.RNNCell, "rnn"),
    (nn.Embedding, "embedding"),
    (nn.EmbeddingBag, "embedding_bag"),
    (nn.MultiheadAttention, "attention"),
    (nn.modules.batchnorm._BatchNorm, "batch_norm"),
    (nn.LayerNorm, "layer_norm"),
    (nn.GroupNorm, "group_norm"),
    (nn.modules.instancenorm._InstanceNorm, "instance_norm"),
    (nn.LocalResponseNorm, "local_response_norm"),
    (nn.RMSNorm, "rms_norm"),
    (nn.AlphaDropout, "alpha_dropout"),
    (nn.modules.dropout._DropoutNd, "dropout"),
    (nn.modules.pooling._MaxPoolNd, "max_pool2d"),
    (nn.modules.pooling._AvgPoolNd, "avg_pool2d"),
    (nn.modules.pooling._AdaptiveAvgPoolNd, "adaptive_avg_pool2d"),
    (nn.ReLU6, "relu6"),
    (nn.Hardtanh, "hardtanh"),
    (nn.ReLU, "relu"),
    (nn.LeakyReLU, "leaky_relu"),
    (nn.PReLU, "prelu"),
    (nn.RReLU, "rrelu"),
    (nn.ELU, "elu"),
    (nn.SELU, "selu"),
    (nn.CELU, "celu"),
    (nn.GELU, "gelu"),
    (nn.SiLU, "silu"),
    (nn.Mish, "mish"),
    (nn.Hardswish, "hardswish"),
    (nn.Hardsigmoid, "hardsigmoid"),
    (nn.Sigmoid, "sigmoid"),
    (nn.Tanh, "tanh"),
    (nn.Softsign, "softsign"),
    (nn.Softplus, "softplus"),
    (nn.LogSigmoid, "logsigmoid"),
    (nn.Hardshrink, "hardshrink"),
    (nn.Softshrink, "softshrink"),
    (nn.Tanhshrink, "tanhshrink"),
    (nn.Threshold, "threshold"),
    (nn.Softmax, "softmax"),
    (nn.LogSoftmax, "log_softmax"),
    (nn.Softmin, "softmin"),
    (nn.GLU, "glu"),
)

_SLOPE_PARAMETERS = {
    "hardtanh": ("min_val", "max_val"),
    "elu": ("alpha",),
    "celu": ("alpha",),
    "leaky_relu": ("negative_slope",),
    "softplus": ("beta", "threshold"),
    "gelu": ("approximate",),
    "swish": ("beta",),
    "hardshrink": ("lambd",),
    "softshrink": ("lambd",),
    "threshold": ("threshold", "value"),
}
"""The arguments an activation's slope depends on, by name and in the order its function takes them after the input."""

_FUNCTIONS = {
    **{name: name for name in _ROLES},
    **_ALIASES,
    **{f"{name}_": name for name in NONLINEARITIES | HAZARDS},
}


def function_op(func: Any) -> str | None:
    """The name under which a torch function is recorded, or None when it is not."""
    return _FUNCTIONS.get(getattr(func, "__name__", "")) or None


def role_of(op: str) -> str:
    """The role of a named operation; `other` for one that is not known."""
    return _ROLES.get(op, "other")


def module_op(module: nn.Module) -> str:
    """The operation a leaf module performs; for one that torch does not define, its class name."""
    for kind, op in _MODULES:
        if isinstance(module, kind):
            return op
    # torch has none; whoever writes one, diag.recipes too, calls it so.
    return "swish" if type(module).__name__ == "Swish" and hasattr(module, "beta") else type(module).__name__


def module_role(module: nn.Module, op: str) -> str:
    """The role of a leaf module: a `layer` too where an unknown class owns a matrix."""
    role = role_of(op)
    if role == "other" and any(p.ndim >= 2 for p in module.parameters(recurse=False)):
        return "layer"
    if role == "other" and "norm" in op.lower():
        return "normalization"
    return role


def module_slope_parameters(module: nn.Module, op: str) -> dict[str, Any]:
    """What the slope of a module's activation depends on."""
    return {name: getattr(module, name) for name in _SLOPE_PARAMETERS.get(op, ()) if hasattr(module, name)}


def call_slope_parameters(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What the slope of a functional activation depends on, from its call."""
    found = dict(zip(_SLOPE_PARAMETERS.get(op, ()), args[1:], strict=False))
    found.update({name: kwargs[name] for name in _SLOPE_PARAMETERS.get(op, ()) if name in kwargs})
    return found


def is_recorded_call(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this call tells something about training: a product only with a parameter, a clamp only at 0."""
    if op in PRODUCTS:
        return any(_is_parameter(arg) for arg in args)
    if op == "clamp":
        low = kwargs.get("min", args[1] if len(args) > 1 else None)
        high = kwargs.get("max", args[2] if len(args) > 2 else None)
        return isinstance(low, (int, float)) and low == 0 and high is None
    return True


def _is_parameter(value: Any) -> bool:
    if isinstance(value, nn.Parameter):
        return True
    return isinstance(value, torch.Tensor) and value._is_view() and isinstance(value._base, nn.Parameter)
