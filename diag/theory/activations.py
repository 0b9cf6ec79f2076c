"""Activation functions with their slopes and kinks, in float64, under torch's names and with torch's parameters."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diag.errors import DiagError, nearest
from diag.theory.quadrature import Array, Function

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


@dataclass(frozen=True)
class Activation:
    """phi: the function. slope: its derivative (at a kink, torch's). kinks: where phi or a derivative of it jumps.

    width: over what distance from 0 it bends. rises: whether it is nowhere decreasing.
    """

    name: str
    phi: Function
    slope: Function
    kinks: tuple[float, ...] = ()
    width: float = 1.0
    rises: bool = True


Builder = Callable[..., Activation]
_ENTRIES: dict[str, Builder] = {}


def activation(name: str, **parameters: float | str) -> Activation:
    """The activation of this name. parameters: by torch's names (negative_slope, alpha, beta, approximate, ...).

    Raises: DiagError for an unknown name or parameter, or a parameter that cannot be.
    """
    if name not in _ENTRIES:
        raise DiagError(f"theory knows no activation '{name}'{nearest(name, _ENTRIES)}: one of {', '.join(names())}")
    known = inspect.signature(_ENTRIES[name]).parameters
    for parameter in parameters:
        if parameter not in known:
            has = ", ".join(known) or "none"
            raise DiagError(f"{name} has no parameter '{parameter}'{nearest(parameter, known)}: it has {has}")
    return _ENTRIES[name](**parameters)


def names() -> list[str]:
    """Every activation that theory knows."""
    return sorted(_ENTRIES)


def _entry(name: str) -> Callable[[Builder], Builder]:
    def add(build: Builder) -> Builder:
        _ENTRIES[name] = build
        return build

    return add


@_entry("identity")
def _identity() -> Activation:
    return Activation("identity", lambda x: x, np.ones_like)


@_entry("sigmoid")
def _sigmoid() -> Activation:
    return Activation("sigmoid", expit, lambda x: expit(x) * expit(-x))


@_entry("tanh")
def _tanh() -> Activation:
    return Activation("tanh", np.tanh, lambda x: 1 - np.tanh(x) ** 2)


@_entry("softsign")
def _softsign() -> Activation:
    return Activation("softsign", lambda x: x / (1 + np.abs(x)), lambda x: (1 + np.abs(x)) ** -2.0, (0.0,))


@_entry("relu")
def _relu() -> Activation:
    return _clamped("relu", 0.0, math.inf)


@_entry("relu6")
def _relu6() -> Activation:
    return _clamped("relu6", 0.0, 6.0)


@_entry("hardtanh")
def _hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Activation:
    if not min_val < max_val:
        raise DiagError(f"hardtanh needs min_val < max_val, got {min_val!r} and {max_val!r}")
    return _clamped("hardtanh", min_val, max_val)


@_entry("hardsigmoid")
def _hardsigmoid() -> Activation:
    return Activation("hardsigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1), lambda x: (np.abs(x) < 3) / 6, (-3.0, 3.0))


@_entry("leaky_relu")
def _leaky_relu(negative_slope: float = 0.01) -> Activation:
    return _bent("leaky_relu", negative_slope)


@_entry("prelu")
def _prelu(init: float = 0.25) -> Activation:
    return _bent("prelu", init)


@_entry("elu")
def _elu(alpha: float = 1.0) -> Activation:
    return _exponential("elu", alpha)


@_entry("selu")
def _selu() -> Activation:
    return _exponential("selu", SELU_ALPHA, scale=SELU_SCALE)


@_entry("celu")
def _celu(alpha: float = 1.0) -> Activation:
    if not alpha > 0:
        raise DiagError(f"celu needs alpha > 0, got {alpha!r}")
    return _exponential("celu", alpha, width=alpha)


@_entry("gelu")
def _gelu(approximate: str = "none") -> Activation:
    """z Phi(z); with approximate="tanh", Phi by tanh (Hendrycks & Gimpel 2016, section 2)."""
    if approximate == "none":
        return Activation("gelu", lambda x: x * _normal_cdf(x), lambda x: _normal_cdf(x) + x * _density(x), rises=False)
    if approximate != "tanh":
        raise DiagError(f"gelu's approximate is 'none' or 'tanh', got {approximate!r}")
    root = math.sqrt(2 / math.pi)

    def inner(x: Array) -> Array:
        return np.tanh(root * (x + 0.044715 * x**3))

    def slope(x: Array) -> Array:
        t = inner(x)
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x)

    return Activation("gelu", lambda x: 0.5 * x * (1 + inner(x)), slope, rises=False)


@_entry("silu")
def _silu() -> Activation:
    return _swish(1.0)


@_entry("swish")
def _swish(beta: float = 1.0) -> Activation:
    """z sigmoid(beta z) (Ramachandran, Zoph & Le 2017, section 4)."""

    def slope(x: Array) -> Array:
        s = expit(beta * x)
        return s * (1 + beta * x * expit(-beta * x))

    return Activation("swish", lambda x: x * expit(beta * x), slope, width=1 / max(abs(beta), 1e-300), rises=beta == 0)


@_entry("hardswish")
def _hardswish() -> Activation:
    def slope(x: Array) -> Array:
        return np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3 + 0.5))

    return Activation("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6, slope, (-3.0, 3.0), rises=False)


@_entry("mish")
def _mish() -> Activation:
    def slope(x: Array) -> Array:
        t = np.tanh(np.logaddexp(0, x))
        return t + x * (1 - t * t) * expit(x)

    return Activation("mish", lambda x: x * np.tanh(np.logaddexp(0, x)), slope, rises=False)


@_entry("softplus")
def _softplus(beta: float = 1.0) -> Activation:
    if not beta > 0:
        raise DiagError(f"softplus needs beta > 0, got {beta!r}")
    return Activation("softplus", lambda x: np.logaddexp(0, beta * x) / beta, lambda x: expit(beta * x), width=1 / beta)


def _clamped(name: str, low: float, high: float) -> Activation:
    kinks = tuple(one for one in (low, high) if math.isfinite(one))
    return Activation(
        name, lambda x: np.clip(x, low, high), lambda x: np.where((x > low) & (x < high), 1.0, 0.0), kinks
    )


def _bent(name: str, below: float) -> Activation:
    return Activation(
        name,
        lambda x: np.where(x > 0, x, below * x),
        lambda x: np.where(x > 0, 1.0, below),
        (0.0,),
        rises=below >= 0,
    )


def _exponential(name: str, alpha: float, scale: float = 1.0, width: float = 1.0) -> Activation:
    """scale x above 0, scale alpha (exp(x / width) - 1) below."""

    def phi(x: Array) -> Array:
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / width))

    def slope(x: Array) -> Array:
        return scale * np.where(x > 0, 1.0, alpha / width * np.exp(np.minimum(x, 0) / width))

    return Activation(name, phi, slope, (0.0,), width, rises=alpha >= 0)


def _normal_cdf(x: Array) -> Array:
    from scipy.special import ndtr

    result: Array = ndtr(x)
    return result


def expit(x: Array) -> Array:
    """1 / (1 + exp(-x)). Here and above scipy is imported late, since most networks have neither and it takes long."""
    from scipy.special import expit as sigmoid

    result: Array = sigmoid(x)
    return result


def _density(x: Array) -> Array:
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
