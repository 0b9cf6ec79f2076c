"""When an element is saturated: where the activation that made it is flat, so that no gradient comes through."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

SATURATION_SLOPE = 0.01  # an element is saturated where |slope| <= this share of the function's largest |slope|

_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717


@dataclass(frozen=True)
class Bounds:
    """An element is saturated where its value v, of the activation's output or input, has v <= low or v >= high."""

    on: Literal["output", "input"]
    low: float = -math.inf
    high: float = math.inf


def bounds_for(op: str, **parameters: float | str) -> Bounds | None:
    """Where an activation is saturated, by the definition of SATURATION_SLOPE.

    Monotone functions are judged by their output, which an in-place operation leaves; the others by their input, on
    the flat tail. None where the function is unknown, never flat, or flat only in between (softshrink, tanhshrink).

    Args:
        op: the functional's or the module's name in any case: "leaky_relu", "LeakyReLU", "relu_".
        parameters: the function's parameters by torch's names; those missing take torch's defaults, others are
            ignored.
    """
    rule = _RULES.get(op.replace("_", "").lower())
    return None if rule is None else rule(parameters)


Parameters = dict[str, float | str]


def _number(parameters: Parameters, name: str, default: float) -> float:
    return float(parameters.get(name, default))


def _fixed(bounds: Bounds) -> Callable[[Parameters], Bounds | None]:
    return lambda parameters: bounds


def _hardtanh(parameters: Parameters) -> Bounds:
    return Bounds("output", _number(parameters, "min_val", -1.0), _number(parameters, "max_val", 1.0))


def _elu(parameters: Parameters) -> Bounds | None:
    """Slope below 0: alpha e^x = y + alpha; above: 1."""
    alpha = _number(parameters, "alpha", 1.0)
    if alpha < 0 or alpha * SATURATION_SLOPE >= 1:  # not monotone; flat above 0
        return None
    return Bounds("output", min(0.0, SATURATION_SLOPE * max(1.0, alpha) - alpha))


def _celu(parameters: Parameters) -> Bounds | None:
    """Slope below 0: e^(x/alpha) = y/alpha + 1; above: 1."""
    alpha = _number(parameters, "alpha", 1.0)
    return Bounds("output", alpha * (SATURATION_SLOPE - 1.0)) if alpha > 0 else None


def _leaky_relu(parameters: Parameters) -> Bounds | None:
    """torch's default slope of 0.01 is meant to carry gradient: only less than SATURATION_SLOPE counts as flat."""
    slope = _number(parameters, "negative_slope", 0.01)
    if abs(slope) >= SATURATION_SLOPE:
        return None
    return Bounds("output" if slope >= 0 else "input", 0.0)


def _softplus(parameters: Parameters) -> Bounds | None:
    """Slope: sigmoid(beta x) = 1 - e^(-beta y)."""
    beta = _number(parameters, "beta", 1.0)
    return Bounds("output", -math.log1p(-SATURATION_SLOPE) / beta) if beta > 0 else None


def _threshold(parameters: Parameters) -> Bounds | None:
    """x above the threshold, else a value: with a value below the threshold the output tells the two apart."""
    if "threshold" not in parameters:
        return None
    threshold = _number(parameters, "threshold", 0.0)
    value = _number(parameters, "value", 0.0)
    return Bounds("output" if value <= threshold else "input", threshold)


def _gelu(parameters: Parameters) -> Bounds:
    return Bounds("input", _TAILS["gelu_tanh" if parameters.get("approximate") == "tanh" else "gelu"])


def _swish(parameters: Parameters) -> Bounds | None:
    """Slope of x sigmoid(beta x): silu's at beta x. Linear for beta = 0; with a learned beta the tail moves."""
    beta = parameters.get("beta", 1.0)
    if not isinstance(beta, (int, float)) or beta == 0:
        return None
    low = _TAILS["silu"] / beta
    return Bounds("input", low) if beta > 0 else Bounds("input", high=low)


_TAILS = {
    "gelu": -3.0216626340984147,
    "gelu_tanh": -3.0093577396311386,
    "silu": -6.14291570019562,
    "mish": -6.158741309632246,
}
"""Inputs below which |slope| stays at most SATURATION_SLOPE of its maximum; solved for in the tests, since the solver
takes half a second to import."""

_SIGMOID_EDGE = (1.0 - math.sqrt(1.0 - SATURATION_SLOPE)) / 2.0  # slope s (1 - s), at most 1/4
_TANH_EDGE = math.sqrt(1.0 - SATURATION_SLOPE)  # slope 1 - y^2
_SOFTSIGN_EDGE = 1.0 - math.sqrt(SATURATION_SLOPE)  # slope (1 - |y|)^2

_RULES: dict[str, Callable[[Parameters], Bounds | None]] = {
    "sigmoid": _fixed(Bounds("output", _SIGMOID_EDGE, 1.0 - _SIGMOID_EDGE)),
    "tanh": _fixed(Bounds("output", -_TANH_EDGE, _TANH_EDGE)),
    "softsign": _fixed(Bounds("output", -_SOFTSIGN_EDGE, _SOFTSIGN_EDGE)),
    "hardsigmoid": _fixed(Bounds("output", 0.0, 1.0)),
    "hardtanh": _hardtanh,
    "relu": _fixed(Bounds("output", 0.0)),
    "relu6": _fixed(Bounds("output", 0.0, 6.0)),
    "elu": _elu,
    "celu": _celu,
    "selu": _fixed(Bounds("output", (SATURATION_SLOPE - 1.0) * _SELU_SCALE * _SELU_ALPHA)),
    "leakyrelu": _leaky_relu,
    "softplus": _softplus,
    "logsigmoid": _fixed(Bounds("output", high=math.log1p(-SATURATION_SLOPE))),  # slope 1 - e^y
    "gelu": _gelu,
    "silu": _fixed(Bounds("input", _TAILS["silu"])),
    "swish": _swish,
    "mish": _fixed(Bounds("input", _TAILS["mish"])),
    "hardswish": _fixed(Bounds("input", -3.0)),  # slope 0 up to here, then at once -1/2
    "threshold": _threshold,
}
