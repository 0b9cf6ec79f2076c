"""What is known in closed form of wide random layers, with its source; measurements are held to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from diag.errors import DiagError, nearest


@dataclass(frozen=True)
class ClosedForm:
    """One set-up of square layers and the factors by which a layer changes second moments.

    forward: of the pre-activation, upwards. backward: of its gradient, downwards. None: nothing is claimed.
    bound: whether the backward factor is only an upper bound. q: the second moment at which it holds, where it holds
    at a fixed point only. norm: batch normalization before the activation.
    """

    name: str
    activation: str
    init: str
    forward: float | None
    backward: float | None
    source: str
    norm: bool = False
    bound: bool = False
    q: float | None = None


_HE = "He et al. 2015, Delving Deep into Rectifiers, equations 9 and 14"
TABLE = (
    ClosedForm("relu_he", "relu", "he_normal", 1.0, 1.0, _HE),
    ClosedForm("relu_glorot", "relu", "glorot_normal", 1 / 2, 1 / 2, _HE),
    ClosedForm("relu_legacy", "relu", "legacy_uniform", 1 / 6, 1 / 6, _HE + "; Glorot & Bengio 2010, equation 1"),
    ClosedForm(
        "sigmoid_legacy",
        "sigmoid",
        "legacy_uniform",
        None,
        1 / 48,
        "the slope of a sigmoid is at most 1/4: 1/3 times 1/16; Glorot & Bengio 2010, equations 1 and 6",
        bound=True,
    ),
    ClosedForm(
        "relu_batch_norm",
        "relu",
        "he_normal",
        1.0,
        math.pi / (math.pi - 1),
        "Yang et al. 2019, A Mean Field Theory of Batch Normalization, section 4",
        norm=True,
    ),
    ClosedForm(
        "selu_lecun",
        "selu",
        "lecun_normal",
        1.0,
        None,
        "Klambauer et al. 2017, Self-Normalizing Neural Networks, section 2: mean 0 and variance 1 are its fixed point",
        q=1.0,
    ),
)
"""The rows of closed form; for any other activation and variances there is `mean_field.variance_map` and `chi`."""

_VARIANCES: dict[str, Callable[[float, float], float]] = {
    "legacy_uniform": lambda fan_in, fan_out: 1 / (3 * fan_in),
    "glorot_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "lecun_uniform": lambda fan_in, fan_out: 1 / fan_in,
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "he_normal": lambda fan_in, fan_out: 2 / fan_in,
    "orthogonal": lambda fan_in, fan_out: 1 / max(fan_in, fan_out),
}


def weight_variance(init: str, fan_in: float, fan_out: float) -> float:
    """Var[w] of an initialization, by its rule; that of he is for a negative slope of 0, orthogonal's for a gain of 1.

    Raises: DiagError for an initialization whose variance is not known.
    Source: Glorot & Bengio 2010; LeCun et al. 1998; He et al. 2015; Saxe et al. 2014.
    """
    if init not in _VARIANCES:
        known = ", ".join(_VARIANCES)
        raise DiagError(f"theory knows no variance of '{init}'{nearest(init, _VARIANCES)}: one of {known}")
    return _VARIANCES[init](fan_in, fan_out)


def glorot_over_he(depth: int) -> float:
    """Standard deviation after `depth` ReLU layers under Glorot over that under He, square layers: 2^(-depth / 2).

    Source: He et al. 2015, section 2.2.
    """
    return 2.0 ** (-depth / 2)
