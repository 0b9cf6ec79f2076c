"""Wide random layers: how the second moment of a signal changes from one to the next, and where it settles.

A pre-activation over random weights of mean 0 is normal with mean 0; q is its second moment. s_w^2 is fan_in times the
weights' variance, s_b^2 the biases'.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from diag.errors import DiagError
from diag.theory.activations import Activation
from diag.theory.quadrature import Array, expect, hermite

Phase = Literal["ordered", "critical", "chaotic"]
CRITICAL = 1e-6
"""How far chi may be from 1 and still be called critical: what quadrature and root finding leave."""

_FLAT = 1e-10
_LEAST = 1e-12


@dataclass(frozen=True)
class FixedPoint:
    """A q that a layer hands on unchanged. slope: dq'/dq there. chi: the gradient's factor there."""

    q: float
    slope: float
    chi: float

    @property
    def stable(self) -> bool:
        """Whether a q nearby comes nearer."""
        return abs(self.slope) < 1

    @property
    def phase(self) -> Phase:
        """Ordered: two inputs grow alike and gradients vanish. Chaotic: they part and gradients explode."""
        if abs(self.chi - 1) <= CRITICAL:
            return "critical"
        return "ordered" if self.chi < 1 else "chaotic"

    @property
    def depth_scale(self) -> float:
        """Layers over which the gradient's second moment changes by a factor e: 1 / |ln chi|; infinite at chi = 1.

        Source: Schoenholz et al. 2017, Deep Information Propagation, section 4.
        """
        return math.inf if self.phase == "critical" else 1 / abs(math.log(self.chi)) if self.chi > 0 else 0.0


def second_moment(activation: Activation, q: float) -> float:
    """E[phi(sqrt(q) z)^2], z ~ N(0, 1)."""
    return _expect(activation, lambda x: activation.phi(x) ** 2, q)


def slope_moment(activation: Activation, q: float) -> float:
    """E[phi'(sqrt(q) z)^2]."""
    return _expect(activation, lambda x: activation.slope(x) ** 2, q)


def mean(activation: Activation, q: float) -> float:
    """E[phi(sqrt(q) z)]."""
    return _expect(activation, activation.phi, q)


def fourth_moment(activation: Activation, q: float) -> float:
    """E[phi(sqrt(q) z)^4]: how uneven the second moment is over units."""
    return _expect(activation, lambda x: activation.phi(x) ** 4, q)


def moment_slope(activation: Activation, q: float) -> float:
    """d E[phi(sqrt(q) z)^2] / dq = E[z phi(sqrt(q) z) phi'(sqrt(q) z)] / sqrt(q)."""
    q = max(q, _LEAST)
    return _expect(activation, lambda x: x * activation.phi(x) * activation.slope(x), q) / q


def cross_moment(activation: Activation, q: float, c: float) -> float:
    """E[phi(z1) phi(z2)] for z1, z2 of second moment q each and covariance c: the same unit on two samples.

    = E_u[(E_v phi(sqrt(c) u + sqrt(q - c) v))^2] with u, v ~ N(0, 1), for 0 <= c <= q; a negative c counts as 0.
    Source: Poole et al. 2016, equation 5.
    """
    c = min(max(c, 0.0), q)
    if c == 0:
        return mean(activation, q) ** 2
    if q - c <= 1e-9 * q:
        return second_moment(activation, q)
    u, weights = hermite()
    kinks, width = activation.kinks, activation.width
    inner = [expect(activation.phi, math.sqrt(q - c), math.sqrt(c) * float(one), kinks, width) for one in u]
    return float(weights @ np.square(inner))


def variance_map(q: float, weight: float, bias: float, activation: Activation) -> float:
    """q' = s_w^2 E[phi(sqrt(q) z)^2] + s_b^2. weight: s_w^2. bias: s_b^2.

    Source: Poole et al. 2016, Exponential Expressivity in Deep Neural Networks, equation 3.
    """
    return weight * second_moment(activation, q) + bias


def chi(q: float, weight: float, activation: Activation) -> float:
    """s_w^2 E[phi'(sqrt(q) z)^2]: the factor of the gradient's second moment, layer by layer downwards, when square.

    Source: Schoenholz et al. 2017, Deep Information Propagation, section 4.
    """
    return weight * slope_moment(activation, q)


def fixed_points(weight: float, bias: float, activation: Activation, largest: float = 1e6) -> list[FixedPoint]:
    """Every q from 0 to `largest` with q' = q, in order.

    Where a whole range is fixed (ReLU with s_w^2 = 2 and s_b = 0), q = 1 stands for it.

    Raises: DiagError for a negative variance.
    """
    from scipy.optimize import brentq

    if weight < 0 or bias < 0:
        raise DiagError(f"variances are at least 0, got s_w^2 = {weight!r} and s_b^2 = {bias!r}")

    def excess(log_q: float) -> float:
        q = math.exp(log_q)
        return variance_map(q, weight, bias, activation) / q - 1

    grid = np.linspace(math.log(1e-8), math.log(largest), 120)
    values = np.array([excess(float(one)) for one in grid])
    found = [0.0] if bias == 0 and float(activation.phi(np.zeros(1))[0]) == 0 else []
    if np.all(np.abs(values) < _FLAT):
        found.append(1.0)
    else:
        values[np.abs(values) < _FLAT] = 0.0
        crossings = np.flatnonzero(values[:-1] * values[1:] < 0)
        found += [math.exp(brentq(excess, grid[i], grid[i + 1], xtol=1e-13)) for i in crossings]
        found += [math.exp(float(grid[i])) for i in np.flatnonzero(values == 0)]
    return [_fixed_point(q, weight, activation) for q in sorted(found)]


def _fixed_point(q: float, weight: float, activation: Activation) -> FixedPoint:
    return FixedPoint(q, weight * moment_slope(activation, q), chi(max(q, _LEAST), weight, activation))


def _expect(activation: Activation, function: Callable[[Array], Array], q: float) -> float:
    return expect(function, math.sqrt(max(q, 0.0)), kinks=activation.kinks, width=activation.width)
