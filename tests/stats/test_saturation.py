"""Bounds against slopes: the definition, by automatic differentiation in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.optimize import brentq, minimize_scalar
from torch.nn import functional as F

from diag.stats.saturation import _TAILS, SATURATION_SLOPE, Bounds, bounds_for

Function = Callable[[torch.Tensor], torch.Tensor]

CASES: list[tuple[str, dict[str, float | str], Function]] = [
    ("sigmoid", {}, torch.sigmoid),
    ("tanh", {}, torch.tanh),
    ("softsign", {}, F.softsign),
    ("hardtanh", {"min_val": -0.5, "max_val": 2.0}, lambda x: F.hardtanh(x, -0.5, 2.0)),
    ("hardsigmoid", {}, F.hardsigmoid),
    ("relu", {}, F.relu),
    ("relu6", {}, F.relu6),
    ("elu", {}, F.elu),
    ("elu", {"alpha": 0.3}, lambda x: F.elu(x, 0.3)),
    ("elu", {"alpha": 2.5}, lambda x: F.elu(x, 2.5)),
    ("elu", {"alpha": 0.004}, lambda x: F.elu(x, 0.004)),
    ("celu", {"alpha": 0.5}, lambda x: F.celu(x, 0.5)),
    ("selu", {}, F.selu),
    ("leaky_relu", {"negative_slope": 0.001}, lambda x: F.leaky_relu(x, 0.001)),
    ("leaky_relu", {"negative_slope": -0.001}, lambda x: F.leaky_relu(x, -0.001)),
    ("softplus", {}, F.softplus),
    ("softplus", {"beta": 3.0}, lambda x: F.softplus(x, 3.0)),
    ("logsigmoid", {}, F.logsigmoid),
    ("gelu", {}, F.gelu),
    ("gelu", {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
    ("silu", {}, F.silu),
    ("swish", {}, F.silu),
    ("swish", {"beta": 1.7}, lambda x: x * torch.sigmoid(1.7 * x)),
    ("swish", {"beta": 0.9}, lambda x: x * torch.sigmoid(0.9 * x)),
    ("swish", {"beta": -1.2}, lambda x: x * torch.sigmoid(-1.2 * x)),
    ("mish", {}, F.mish),
    ("hardswish", {}, F.hardswish),
    ("threshold", {"threshold": 0.4, "value": -1.0}, lambda x: F.threshold(x, 0.4, -1.0)),
    ("threshold", {"threshold": 0.4, "value": 9.0}, lambda x: F.threshold(x, 0.4, 9.0)),
]


def slopes(function: Function) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Input, output and |slope| relative to its maximum, on a grid that avoids the kinks."""
    grid = (torch.arange(-16000, 16000, dtype=torch.float64) + 0.5) / 800
    x = torch.cat([grid, torch.tensor([-1e-12, 1e-12], dtype=torch.float64)]).requires_grad_()
    y = function(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return x.detach(), y.detach(), slope.abs() / slope.abs().max()


IDS = [f"{op}-{number}" for number, (op, *_) in enumerate(CASES)]


@pytest.mark.parametrize(("op", "parameters", "function"), CASES, ids=IDS)
def test_bounds_are_where_the_slope_says(op: str, parameters: dict[str, float | str], function: Function) -> None:
    bounds = bounds_for(op, **parameters)
    assert bounds is not None
    x, y, slope = slopes(function)
    value = y if bounds.on == "output" else x
    found = (value <= bounds.low) | (value >= bounds.high)
    expected = slope <= SATURATION_SLOPE
    if op in ("gelu", "silu", "swish", "mish", "hardswish"):  # flat around their minimum as well; only the tail counts
        steep = x[slope > SATURATION_SLOPE]
        expected &= x < steep.min() if bounds.high == math.inf else x > steep.max()
    assert expected.any() and not expected.all()
    close = (slope - SATURATION_SLOPE).abs() < 1e-6
    assert torch.equal(found[~close], expected[~close])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("op", ["sigmoid", "tanh"])
def test_outputs_rounded_to_the_bound(op: str, dtype: torch.dtype) -> None:
    """In low precision the far tails are exactly the asymptote, and the middle is never saturated."""
    bounds = bounds_for(op)
    assert bounds is not None
    y = getattr(torch, op)(torch.tensor([-30.0, -2.0, 0.0, 2.0, 30.0]).to(dtype))
    found = (y.double() <= bounds.low) | (y.double() >= bounds.high)
    assert found.tolist() == [True, False, False, False, True]


@pytest.mark.parametrize(
    "op", ["prelu", "rrelu", "leaky_relu", "softshrink", "hardshrink", "tanhshrink", "identity", "softmax", "threshold"]
)
def test_without_bounds(op: str) -> None:
    assert bounds_for(op) is None


def test_parameters_that_leave_nothing_to_say() -> None:
    assert bounds_for("elu", alpha=-1.0) is None
    assert bounds_for("elu", alpha=200.0) is None
    assert bounds_for("celu", alpha=-1.0) is None
    assert bounds_for("softplus", beta=0.0) is None
    assert bounds_for("leaky_relu", negative_slope=0.2) is None
    assert bounds_for("swish", beta=0.0) is None


@pytest.mark.parametrize("name", ["ReLU", "relu_", "relu"])
def test_names(name: str) -> None:
    assert bounds_for(name, inplace=True) == Bounds("output", 0.0, math.inf)


def test_known_values() -> None:
    assert bounds_for("tanh") == Bounds("output", -math.sqrt(0.99), math.sqrt(0.99))
    assert bounds_for("LeakyReLU", negative_slope=0.0) == bounds_for("relu")
    assert bounds_for("SiLU") == bounds_for("swish")


def _gelu_slope(x: float) -> float:
    """Phi(x) + x phi(x)."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0)) + x * math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _gelu_tanh_slope(x: float) -> float:
    u = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    t = math.tanh(u)
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * math.sqrt(2.0 / math.pi) * (1.0 + 3 * 0.044715 * x * x)


def _silu_slope(x: float) -> float:
    s = 1.0 / (1.0 + math.exp(-x))
    return s * (1.0 + x * (1.0 - s))


def _mish_slope(x: float) -> float:
    t = math.tanh(math.log1p(math.exp(x)))
    return t + x * (1.0 - t * t) / (1.0 + math.exp(-x))


_SLOPES: dict[str, Callable[[float], float]] = {
    "gelu": _gelu_slope,
    "gelu_tanh": _gelu_tanh_slope,
    "silu": _silu_slope,
    "mish": _mish_slope,
}


@pytest.mark.parametrize("name", _SLOPES)
def test_tails_begin_where_the_slope_is_small_for_good(name: str) -> None:
    """Solved between the slope's extremes."""
    slope = _SLOPES[name]
    top = -float(minimize_scalar(lambda x: -slope(x), bounds=(0.0, 6.0), method="bounded").fun)
    bottom = float(minimize_scalar(slope, bounds=(-6.0, 0.0), method="bounded").x)
    root = brentq(lambda x: slope(x) + SATURATION_SLOPE * top, -40.0, bottom, xtol=1e-12)
    assert _TAILS[name] == pytest.approx(root, rel=1e-9)
