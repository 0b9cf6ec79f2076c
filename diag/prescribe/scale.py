"""Whether inputs are far from what weights are made for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

SMALLEST, LARGEST, OFFSET = 0.2, 5.0, 3.0
"""Of an input's rms, and of its mean over its deviation: LeCun et al. 1998, section 4.3, ask for 1 and 0."""
UNEVEN = 30.0
"""Of the deviations of features, the largest over the median one."""


@dataclass(frozen=True)
class Misfit:
    """How an input is out of scale. by_feature: whether features differ. why: the numbers. over: the dimensions over
    which mean and deviation are to be taken, as arguments; "" for all of them."""

    by_feature: bool
    why: str
    over: str


def misfit(x: torch.Tensor) -> Misfit | None:
    """How these inputs are out of scale; None where they are not, or are constant."""
    rms, deviation = float(x.square().mean().sqrt()), float(x.std())
    spreads = x.flatten(2).std((0, 2)) if x.ndim > 2 else x.std(0)
    spreads = spreads[spreads > 0]
    if x.ndim > 1 and len(spreads) > 1 and spreads.max() > UNEVEN * spreads.median():
        # [batch, channels, ...] by channel, [batch, features] by feature.
        over = "0" if x.ndim == 2 else f"({', '.join(str(d) for d in range(x.ndim) if d != 1)}), keepdim=True"
        return Misfit(True, f"deviations from {float(spreads.min()):.2g} to {float(spreads.max()):.2g}", over)
    off = not SMALLEST <= rms <= LARGEST or float(x.mean().abs()) > OFFSET * deviation
    return Misfit(False, f"rms {rms:.2g}", "") if deviation > 0 and off else None
