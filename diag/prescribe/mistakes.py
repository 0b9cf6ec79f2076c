"""What is so far out of the usual that no finding is needed to doubt it: options of an optimizer, hidden sigmoids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from diag.prescribe.remedy import SIGNAL, SLOW, STEP, Remedy
from diag.rules.momentum import LONGEST, summed

PLACE = 50
DECAYED = 0.01
"""What weight decay may take off a weight in one step, as a share of it: 0.01 leaves half after 69 steps."""
LARGEST_PENALTY = 0.1
"""Beyond it, decay as a part of the gradient outweighs gradients of the usual size, below 0.1 of the weights."""
SMALLEST_EPS, LARGEST_EPS = 1e-12, 1e-2
DOUBTFUL = ("sigmoid",)
"""Activation functions that are worth an exchange wherever most hidden ones are of them: Glorot & Bengio 2010."""

_OPTION = """for group in optimizer.param_groups:
    group[{name!r}] = {value!r}
"""


def is_mistaken(optimizer: torch.optim.Optimizer | None) -> bool:
    """Whether an option is worth a trial though nothing was found."""
    return optimizer is not None and next(mistakes(optimizer), None) is not None


def mistakes(optimizer: torch.optim.Optimizer) -> Iterator[Remedy]:
    """A remedy for each option that is."""
    groups = optimizer.param_groups
    if any(group.get("maximize") for group in groups):
        yield set_option("minimized", "Minimize the loss: maximize=True ascends it.", "maximize", False)
    eps = [float(group["eps"]) for group in groups if isinstance(group.get("eps"), (int, float))]
    if any(not SMALLEST_EPS <= one <= LARGEST_EPS for one in eps):
        yield set_option("usual eps", f"Set eps to 1e-8: {eps[0]:g} swallows the steps or divides by 0.", "eps", 1e-8)
    momentum = max((float(group.get("momentum") or 0.0) for group in groups), default=0.0)
    if momentum >= LONGEST:
        change = f"Lower the momentum from {momentum:g}, which adds up {summed(momentum):.0f} steps, to 0.9."
        yield set_option("usual momentum", change, "momentum", 0.9)
    betas = [group["betas"] for group in groups if isinstance(group.get("betas"), (tuple, list))]
    wrong = next((one for one in betas if len(one) == 2 and float(one[0]) ** 2 > float(one[1])), None)
    if wrong is not None:
        change = f"Set betas to 0.9 and 0.999: of {wrong[0]:g} and {wrong[1]:g} the first's square is above the second."
        yield set_option("usual betas", change, "betas", (0.9, 0.999))
    if any(_decays(optimizer, group) for group in groups):
        decay = max(float(group.get("weight_decay", 0.0)) for group in groups)
        change = f"Lower the weight decay from {decay:g} to 0.0001."
        yield set_option("less weight decay", change, "weight_decay", 1e-4)


def set_option(name: str, change: str, option: str, value: Any) -> Remedy:
    """The remedy that gives all groups one value of an option."""
    code = _OPTION.format(name=option, value=value)
    return Remedy(name, "optimizer", change, code, (*STEP, *SLOW, *SIGNAL), direct=True, place=PLACE)


def _decays(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> bool:
    """Whether weight decay takes too much off a weight in one step; where an adaptive optimizer adds it to the gradient
    and divides by both, whether it leaves too little of the gradient."""
    decay, rate = float(group.get("weight_decay") or 0.0), float(group.get("lr", 0.0))
    adaptive = any(name in group for name in ("betas", "rho", "alpha")) and not group.get("decoupled_weight_decay")
    if adaptive and not isinstance(optimizer, torch.optim.AdamW):
        return decay > LARGEST_PENALTY
    return decay * rate > DECAYED
