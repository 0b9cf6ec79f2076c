"""Learning-rate schedules: torch's wherever torch has one.

t counts the optimizer steps taken, so that the first is taken at the rate of t = 0; eta0 is the recipe's rate. Times
are shares of all steps, so that a schedule keeps its shape when the training is made shorter.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim import lr_scheduler

from diag.recipes.kinds import schedule
from diag.recipes.spec import RecipeError

Optimizer = torch.optim.Optimizer


@schedule("constant")
def constant(optimizer: Optimizer, steps: int) -> None:
    """The same rate throughout."""


@schedule("power", source="LeCun et al. 2012, section 4.7; Bottou 2012, section 5.2")
def power(optimizer: Optimizer, steps: int, *, s: float = 0.1, c: float = 1.0) -> Any:
    """eta0 / (1 + t/s)^c, with s as a share of all steps."""
    _need("power", "s above 0", s > 0, s)
    return lr_scheduler.LambdaLR(optimizer, lambda t: (1 + t / (s * steps)) ** -c)


@schedule("exponential", source="Senior et al. 2013, section 3")
def exponential(optimizer: Optimizer, steps: int, *, s: float = 0.5) -> Any:
    """eta0 0.1^(t/s), with s as a share of all steps: after s the rate is a tenth."""
    _need("exponential", "s above 0", s > 0, s)
    return lr_scheduler.LambdaLR(optimizer, lambda t: 0.1 ** (t / (s * steps)))


@schedule("piecewise", source="Krizhevsky et al. 2012, section 5")
def piecewise(
    optimizer: Optimizer, steps: int, *, at: tuple[float, ...] = (0.5, 0.75), factors: tuple[float, ...] = (0.1, 0.01)
) -> Any:
    """Constant pieces: eta0, and from the share at[i] of all steps on eta0 times factors[i]."""
    numbers = all(isinstance(one, (int, float)) and one >= 0 for one in (*at, *factors))
    rising = numbers and len(at) == len(factors) and list(at) == sorted(at)
    _need("piecewise", "as many rising numbers `at` as `factors`", rising, (at, factors))
    pieces = [(share * steps, factor) for share, factor in zip(at, factors, strict=True)]
    return lr_scheduler.LambdaLR(optimizer, lambda t: ([1.0] + [f for start, f in pieces if t >= start])[-1])


@schedule("performance", source="Senior et al. 2013, section 3 (performance scheduling)")
def performance(optimizer: Optimizer, steps: int, *, factor: float = 0.3, patience: int = 2) -> Any:
    """Cuts the rate by a factor when the validation loss has not improved for more than `patience` validations.

    torch's ReduceLROnPlateau: improved means below 0.9999 times the best loss so far.
    """
    _need("performance", "a factor above 0 and below 1", 0 < factor < 1, factor)
    _need("performance", "a patience from 0", patience >= 0, patience)
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, threshold=1e-4)


@schedule("one_cycle", source="Smith & Topin 2018, section 2")
def one_cycle(
    optimizer: Optimizer,
    steps: int,
    *,
    up: float = 0.3,
    start: float = 25.0,
    end: float = 1e4,
    low_momentum: float = 0.85,
    high_momentum: float = 0.95,
) -> Any:
    """Up to the recipe's rate, then down; momentum (or beta1) is the mirror image where the optimizer has one.

    The rate goes from eta0 / start at t = 0 to eta0 at t = up * steps and to eta0 / (start end) at t = steps, along
    cosines (torch's OneCycleLR; the paper's lines are straight). Momentum goes from high_momentum to low_momentum and
    back, whatever the optimizer's own was; an optimizer without momentum is left without.
    """
    _need("one_cycle", "`up` above 0 and below 1", 0 < up < 1, up)
    _need("one_cycle", "start and end above 0", start > 0 and end > 0, (start, end))
    ordered = 0 <= low_momentum <= high_momentum < 1
    _need("one_cycle", "0 <= low_momentum <= high_momentum < 1", ordered, (low_momentum, high_momentum))
    group = optimizer.param_groups[0]
    total = steps + 1
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[one["lr"] for one in optimizer.param_groups],
        # torch counts the times t = 0 ... total - 1, and puts the peak at pct_start * total - 1.
        total_steps=total,
        pct_start=(up * steps + 1) / total,
        div_factor=start,
        final_div_factor=end,
        cycle_momentum=bool(group.get("betas")) or group.get("momentum", 0) > 0,
        base_momentum=low_momentum,
        max_momentum=high_momentum,
    )


@schedule("cosine", source="Loshchilov & Hutter 2017, equation 5, one period")
def cosine(optimizer: Optimizer, steps: int, *, end: float = 0.0) -> Any:
    """eta0 (end + (1 - end) (1 + cos(pi t / steps)) / 2): half a cosine down to the share `end`."""
    _need("cosine", "`end` from 0 to 1", 0 <= end <= 1, end)
    return lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=end * optimizer.param_groups[0]["lr"])


@schedule("warmup", source="Goyal et al. 2017, section 2.2; then=linear: Devlin et al. 2019, appendix A.2")
def warmup(optimizer: Optimizer, steps: int, *, share: float = 0.1, then: str = "constant") -> Any:
    """Linear from eta0 / (n + 1) to eta0 in the first n = share * steps steps; then constant, linear or cosine.

    n is rounded and at least 1. then: "constant" stays at eta0; "linear" and "cosine" fall to 0 at t = steps.
    """
    falls = {
        "constant": lambda part: 1.0,
        "linear": lambda part: 1 - part,
        "cosine": lambda part: (1 + math.cos(math.pi * part)) / 2,
    }
    _need("warmup", "a share from 0 to 1", 0 <= share <= 1, share)
    _need("warmup", f"for `then` one of {', '.join(falls)}", then in falls, then)
    rising = max(1, round(share * steps))
    fall = falls[then]

    def factor(t: int) -> float:
        return (t + 1) / (rising + 1) if t < rising else fall((t - rising) / max(1, steps - rising))

    return lr_scheduler.LambdaLR(optimizer, factor)


def _need(name: str, what: str, met: bool, got: Any) -> None:
    if not met:
        raise RecipeError(f"the schedule '{name}' takes {what}, got {got!r}")
