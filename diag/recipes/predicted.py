"""What a trained network says of some inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Predicted:
    """mean: class probabilities or values, [count, outputs]. variance: over stochastic passes, same shape, or None.

    For classification, log_mean is the logarithm of the mean probabilities, computed without underflow.
    """

    mean: torch.Tensor
    variance: torch.Tensor | None = None
    log_mean: torch.Tensor | None = None
