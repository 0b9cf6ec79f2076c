"""A chain of layers as theory sees it: second moments upwards, those of gradients downwards, and their sampling error.

Each step of the chain has `forward` and `backward`. A map of second moments has one entry per position of an image or
sequence, and is a single number (shape ()) where there are no positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from diag.theory import mean_field
from diag.theory.activations import Activation
from diag.theory.quadrature import Array, expect
from diag.theory.window import Window

_DIRECT = 24
"""Different values of q up to which each is integrated; beyond, a curve through so many is read."""


@dataclass(frozen=True)
class State:
    """A signal. second: its second moment, per position. covariance: of one unit on two samples, on average.

    error: variance of the logarithm of the second moment from one draw of the weights to another.
    units: how many there are; infinite where that is not known, or nothing is to be sampled.
    """

    second: Array
    covariance: float = 0.0
    error: float = 0.0
    units: float = math.inf

    @property
    def rms(self) -> float:
        """Root of the mean of the second moment over all positions."""
        return math.sqrt(float(self.second.mean()))

    @property
    def sampled(self) -> float:
        """Standard error of ln(rms) as measured on one network: sqrt(error + 2 / units) / 2, 2 / units for normal h^2.

        It is what remains where all samples look alike; where they differ the error is smaller.
        """
        return math.sqrt(self.error + 2 / self.units) / 2


class Step(Protocol):
    """One operation of the chain."""

    def forward(self, state: State) -> State:
        """What comes out for what comes in."""
        ...

    def backward(self, gradient: State, before: State) -> State:
        """The gradient with respect to what came in (`before`), for the one with respect to what came out."""
        ...


@dataclass(frozen=True)
class Affine:
    """A linear or convolutional layer of independent weights with mean 0.

    weight: s_w^2 = fan_in E[w^2]. bias: s_b^2 = E[b^2]. aspect: fan_out / fan_in. window: of a convolution.
    Forward q' = s_w^2 m + s_b^2 for an input of second moment m; backward aspect s_w^2.
    Source: Poole et al. 2016, equation 3; He et al. 2015, equations 8 and 13.
    """

    weight: float
    bias: float = 0.0
    aspect: float = 1.0
    units: float = math.inf
    window: Window | None = None

    def forward(self, state: State) -> State:
        """Shape [*positions] to the window's outputs, or the same."""
        gathered = state.second if self.window is None else self.window.gather(state.second)
        second = self.weight * gathered + self.bias
        share = 1 - self.bias / float(second.mean()) if self.bias else 1.0
        mean = float(state.second.mean())
        # What lies in the padding is 0 for every sample: it takes as much from the covariance.
        within = float(gathered.mean()) / mean if mean > 0 else 1.0
        covariance = self.weight * within * state.covariance + self.bias
        return State(second, covariance, share**2 * state.error, self.units)

    def backward(self, gradient: State, before: State) -> State:
        """The transposed weights: fan_out in the place of fan_in."""
        scattered = gradient.second if self.window is None else self.window.scatter(gradient.second)
        return State(self.aspect * self.weight * scattered, 0.0, gradient.error, before.units)


@dataclass(frozen=True)
class Bend:
    """An elementwise activation of a normal signal: forward E[phi^2], backward E[phi'^2]."""

    activation: Activation
    correlated: bool = True

    def forward(self, state: State) -> State:
        """`correlated`: whether the covariance over samples is followed too, which a batch norm above needs."""
        phi, q = self.activation, float(state.second.mean())
        moment = mean_field.second_moment(phi, q)
        growth = mean_field.moment_slope(phi, q) * q / moment if moment > 0 else 0.0
        uneven = mean_field.fourth_moment(phi, q) / moment**2 - 1 if moment > 0 else 0.0
        covariance = mean_field.cross_moment(phi, q, state.covariance) if self.correlated else 0.0
        second = _over(state.second, lambda one: mean_field.second_moment(phi, one))
        return State(second, covariance, growth**2 * state.error + max(uneven, 0.0) / state.units, state.units)

    def backward(self, gradient: State, before: State) -> State:
        """The slope where the signal was."""
        phi, q = self.activation, float(before.second.mean())
        factor = _over(before.second, lambda one: mean_field.slope_moment(phi, one))
        mean = mean_field.slope_moment(phi, q)
        fourth = expect(lambda x: phi.slope(x) ** 4, math.sqrt(q), kinks=phi.kinks, width=phi.width)
        uneven = max(3 * fourth / mean**2 - 1, 0.0) / before.units if mean > 0 else 0.0
        return replace(gradient, second=gradient.second * factor, error=gradient.error + uneven)


@dataclass(frozen=True)
class BatchNorm:
    """gamma (h - mean) / sqrt(var + eps) + beta per feature, over the samples and positions of a batch.

    scale: E[gamma^2]. shift: E[beta^2]. The variance over samples is q less the covariance c between them, so the
    backward factor is scale / (q - c + eps); with ReLU before and after, that makes pi / (pi - 1) a layer. For a large
    batch: what the norm takes out of the gradient, two directions of the batch, counts for nothing.
    Source: Ioffe & Szegedy 2015, algorithm 1; Yang et al. 2019, A Mean Field Theory of Batch Normalization, section 4.
    """

    scale: float = 1.0
    shift: float = 0.0
    eps: float = 1e-5

    def forward(self, state: State) -> State:
        """Every feature has variance `scale` afterwards; between samples of a batch there is no covariance left."""
        spread = max(float(state.second.mean()) - state.covariance, 0.0)
        second = self.scale * (state.second - state.covariance) / (spread + self.eps) + self.shift
        return State(np.maximum(second, 0.0), self.shift, 0.0, state.units)

    def backward(self, gradient: State, before: State) -> State:
        """Divided by the standard deviation that was divided by."""
        spread = max(float(before.second.mean()) - before.covariance, 0.0)
        return replace(gradient, second=gradient.second * self.scale / (spread + self.eps))


@dataclass(frozen=True)
class Dropout:
    """Zeros in the place of a share of the elements, the others divided by the share kept. keep: that share."""

    keep: float

    def forward(self, state: State) -> State:
        """E[x^2] / keep: the mean stays, the second moment grows."""
        return replace(state, second=state.second / self.keep)

    def backward(self, gradient: State, before: State) -> State:
        """The same mask, the same factor."""
        return replace(gradient, second=gradient.second / self.keep)


@dataclass(frozen=True)
class Reshape:
    """Positions become features, or features positions: what follows sees their mean everywhere.

    positions: the shape of the map afterwards; () for none.
    """

    positions: tuple[int, ...] = ()

    def forward(self, state: State) -> State:
        """[*before] to [*positions]."""
        return replace(state, second=np.full(self.positions, state.second.mean()))

    def backward(self, gradient: State, before: State) -> State:
        """The mean again."""
        return replace(gradient, second=np.full(before.second.shape, gradient.second.mean()), units=before.units)


def propagate(start: State | float, steps: Sequence[Step]) -> list[State]:
    """The signal before the first step and after each: len(steps) + 1 states.

    start: a state, or its second moment.
    """
    states = [start if isinstance(start, State) else State(np.asarray(float(start)))]
    for step in steps:
        states.append(step.forward(states[-1]))
    return states


def back_propagate(top: float, steps: Sequence[Step], states: Sequence[State]) -> list[State]:
    """Second moments of the gradient with respect to each of `states`, which `propagate` gave.

    top: that of the last one, over all its elements. The gradient is taken as independent of the weights it passes.
    Source: Schoenholz et al. 2017, section 4 (the assumption, and how well it holds).
    """
    gradients = [State(np.full_like(states[-1].second, top), units=states[-1].units)]
    for step, before in zip(reversed(steps), reversed(states[:-1]), strict=True):
        gradients.append(step.backward(gradients[-1], before))
    return gradients[::-1]


def _over(moments: Array, function: Callable[[float], float]) -> Array:
    """A function of q for each entry of a map; where these are many, from a monotone curve through some in ln q."""
    values, where = np.unique(moments, return_inverse=True)
    if len(values) <= _DIRECT:
        results = np.array([function(float(one)) for one in values])
    else:
        from scipy.interpolate import PchipInterpolator

        low, high = max(float(values[0]), float(values[-1]) * 1e-12), float(values[-1])
        grid = np.geomspace(low, high * (1 + 1e-9), _DIRECT)
        curve = PchipInterpolator(np.log(grid), [function(float(one)) for one in grid])
        results = curve(np.log(np.clip(values, low, high)))
    return np.asarray(results[where].reshape(moments.shape))
