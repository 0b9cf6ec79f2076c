"""Gradients that vanish or explode on their way down."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from diag.rules.blocked import blocked
from diag.rules.derivatives import no_curvature
from diag.rules.evidence import Evidence, Trend
from diag.rules.finding import Finding, Severity
from diag.rules.forgotten import forgotten
from diag.rules.passes import by_layer
from diag.rules.registry import rule
from diag.rules.remembered import remembered
from diag.rules.scales import at_the_mean, learned
from diag.rules.underflow import underflows

_SQUASHING = ("sigmoid", "tanh", "softsign", "hardsigmoid", "hardtanh")
_CLEAR_FALL = 0.1
_USUAL = 1e-4
"""An update over its weight that is no small one: about 1e-3 is usual."""
_STOOD, _ROSE, _STANDS = 4, 0.02, 100
"""A loss that stands for the first one in so many steps, by how much it may then move; and steps from which that is
long."""
_SLACK = 10.0**0.5
"""The ends of a trend may be so much closer together than what is fitted to it."""
_THROUGH_TIME = (
    "Initialize the recurrent weight to keep the signal (orthogonal, or the identity under ReLU), use an LSTM or a GRU"
    " with a forget gate's bias of 1, or pass by fewer steps (attention, a sum or mean over them)."
)
_PASCANU = "Pascanu, Mikolov & Bengio 2013, section 2; Le, Jaitly & Hinton 2015"
_BENGIO = "Glorot & Bengio 2010, section 4.2; He et al. 2015, section 2.2"


@rule("vanishing-gradient")
def vanishing_gradient(evidence: Evidence) -> Iterator[Finding]:
    """The gradient's norm falls over the depth of the signal-carrying layers, or is zero in most of them."""
    straight = no_curvature(evidence)
    if straight is not None:
        yield straight
        return
    forgets = forgotten(evidence)
    if forgets is not None:
        yield forgets
        return
    evidence = by_layer(evidence)
    zero = underflows(evidence) or _all_zero(evidence)
    if zero is not None:
        yield zero
        return
    steps, trend = _decay(evidence)
    if trend is None:
        return
    ratio = 10.0**-trend.total
    severity = _vanishing_severity(evidence, trend)
    if severity is None:
        return
    note = ""
    waits = steps == evidence.early and _stood(evidence)
    harmless = severity == "error" and not waits and not at_the_mean(evidence)
    if harmless and _bottom_learns(evidence):
        severity, note = "warning", " The optimizer rescales it and the loss falls, so it does no visible harm yet."
    elif harmless and learned(evidence):
        severity, note = "warning", " Most of what there is was learned, so it does no visible harm yet."
    site = _start(trend)
    yield Finding(
        "vanishing-gradient",
        severity,
        site,
        f"The gradient's norm falls from {10 ** trend.values[-1]:.1e} at {trend.sites[-1]} to"
        f" {10 ** trend.values[0]:.1e} at {trend.sites[0]}: {trend.told(upward=False)}.{note}",
        {
            "step": evidence.clean[0],
            "steps": [steps[0], steps[-1]],
            "layers": len(trend.sites),
            "factor_per_layer": trend.factor**-1,
            "ratio_bottom_to_top": ratio,
            "top": trend.sites[-1],
            "bottom": trend.sites[0],
            "norm_top": float(10 ** trend.values[-1]),
            "norm_bottom": float(10 ** trend.values[0]),
            "recurs": trend.recurs,
        },
        _THROUGH_TIME if trend.recurs else _vanishing_remedy(evidence),
        _PASCANU if trend.recurs else _BENGIO,
    )


@rule("exploding-gradient")
def exploding_gradient(evidence: Evidence) -> Iterator[Finding]:
    """The gradient's norm grows on its way down, by a robust fit over the signal-carrying layers."""
    evidence = by_layer(evidence)
    windows = (evidence.early, evidence.late)
    trends = [trend for steps in windows if (trend := evidence.trend("gradient", steps, "norm"))]
    if not trends:
        return
    trend = min(trends, key=lambda one: one.total)
    growth = 10.0**-trend.total
    limit = evidence.thresholds
    if growth < limit["exploding_gradient_warning"]:
        return
    # Projections that are normalized right behind have large gradients of their own, without a growth over depth.
    grows = min(growth, _ends(trend) * _SLACK) >= limit["exploding_gradient_error"]
    least = -math.log10(limit["exploding_gradient_warning"])
    step = evidence.onset("gradient", "norm", evidence.clean, lambda one: one.total <= least)
    yield Finding(
        "exploding-gradient",
        "error" if grows else "warning",
        trend.sites[0],
        f"The gradient's norm grows from {10 ** trend.values[-1]:.1e} at {trend.sites[-1]} to"
        f" {10 ** trend.values[0]:.1e} at {trend.sites[0]}: {trend.told(upward=False)}.",
        {
            "step": step,
            "layers": len(trend.sites),
            "factor_per_layer": trend.factor**-1,
            "growth": growth,
            "top": trend.sites[-1],
            "bottom": trend.sites[0],
        },
        "Scale the initialization down (he_normal for ReLU, glorot_normal for tanh, orthogonal for recurrent weights),"
        " normalize, or clip: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).",
        "Pascanu, Mikolov & Bengio 2013, section 2; Glorot & Bengio 2010, section 4.2",
    )


def _decay(evidence: Evidence) -> tuple[list[int], Trend | None]:
    """The decay in the last steps; the one at the start where that was worse, and the loss has hardly fallen since or
    stood for long."""
    late, early = evidence.trend("gradient", evidence.late, "norm"), evidence.trend("gradient", evidence.early, "norm")
    if early is None or (late is not None and late.total >= early.total):
        return evidence.late, late
    if evidence.fall() > _CLEAR_FALL and not _stood(evidence):
        return evidence.late, late
    return evidence.early, early


@remembered
def _stood(evidence: Evidence) -> bool:
    """Whether the loss stood, after its first fall, until a good part of the steps was over, and at the end most of it
    is left: what the gradient did then has cost these steps."""
    losses = evidence.clean_losses
    first = losses.iloc[: len(losses) // _STOOD]
    if len(losses) < _STANDS or not evidence.tells or evidence.alternates or evidence.is_half_solved:
        return False
    parts = [float(np.median(one)) for one in np.array_split(first.to_numpy()[len(first) // 5 :], 4)]
    return bool(max(parts) - min(parts) < _ROSE * abs(parts[0]))


def _vanishing_severity(evidence: Evidence, trend: Trend) -> Severity | None:
    """An error for a large decay in all, or a smaller one that is steep in each layer."""
    limit = evidence.thresholds
    fitted, ends = 10.0**-trend.total, _ends(trend)
    ratio = max(fitted, ends / _SLACK)
    steep = ratio <= limit["vanishing_steep_error"] and 1 / trend.factor <= limit["vanishing_steep_factor"]
    stuck = max(fitted, ends) <= limit["vanishing_crawl_error"] and evidence.stuck
    if ratio <= limit["vanishing_error"] or steep or stuck:
        return "error"
    return "warning" if fitted <= limit["vanishing_warning"] else None


def _ends(trend: Trend) -> float:
    """The norm at the bottom over that at the top, whatever lies between."""
    return float(10.0 ** (trend.values[0] - trend.values[-1]))


def _all_zero(evidence: Evidence) -> Finding | None:
    """From some layer down to the first every gradient is exactly zero although there is a loss.

    At initialization that is what a last layer or gate of zeros does until the first step, so it is a warning there.
    """
    done = set(evidence.losses.index[evidence.losses == 0])  # a margin that every sample keeps asks for nothing
    steps = [step for step in evidence.late if step not in done]
    rms = evidence.profile("gradient", steps, "rms") if steps else pd.Series(dtype=float)
    if len(rms) < 2:
        return None
    zero = rms.to_numpy() == 0
    down = int(np.argmin(zero)) if not zero.all() else len(zero)
    if down < 0.5 * len(zero):
        return None
    site = rms.index[down - 1][0]
    shut = blocked(evidence)
    rows = evidence.rows("gradient", evidence.clean)
    own = rows[rows["site"].eq(site) & ~rows["step"].isin(done)].groupby("step")["rms"].max()
    alive = [int(str(step)) for step, value in own.items() if value > 0]
    since = min((step for step in evidence.clean if step > max(alive, default=-1)), default=evidence.clean[0])
    return Finding(
        "vanishing-gradient",
        "error" if evidence.trains and (len(evidence.clean) > 1 or len(evidence.measured) == 1) else "warning",
        site,
        f"The gradient is exactly zero from {site} down: {down} of {len(rms)} layers get none.{shut}",
        {"step": since, "layers": len(rms), "zero_layers": down},
        "Initialize it at random and train it: nothing passes through a weight of zeros."
        if shut
        else "Find what blocks it above this layer: dead or saturated units, a zero weight, rounding, or underflow in"
        " half precision (scale the loss: torch.amp.GradScaler, or use bfloat16).",
        "Micikevicius et al. 2018, section 3.2 (underflow); Glorot & Bengio 2010, section 4.2",
    )


def _bottom_learns(evidence: Evidence) -> bool:
    """Whether the lowest third of the matrices moves, for its size, about as fast as the highest, and loss falls."""
    table = evidence.parameters
    moved = (
        table[table["step"].isin(evidence.late)]
        .groupby("site")
        .agg(ratio=("update_ratio", "median"), order=("order", "first"))
    )
    moved = moved[(moved["order"] >= 0) & (moved["ratio"] > 0)].sort_values("order")  # an expert may have no turn
    if len(moved) < 3 or not evidence.loss_falls() or evidence.fall() < 0.05:
        return False
    third = max(1, len(moved) // 3)
    low, high = moved["ratio"].iloc[:third].median(), moved["ratio"].iloc[-third:].median()
    # A last layer that began at zero moves by many times itself.
    return bool(low > 0.1 * high or low > _USUAL)


def _start(trend: Trend) -> str:
    """Where the decay starts, coming from the loss: at a bottleneck if that is most of it, else below the top."""
    drops = np.diff(trend.values)
    worst = int(np.argmax(drops))
    return trend.sites[worst] if drops[worst] > 0.5 * trend.total else trend.sites[-2]


def _vanishing_remedy(evidence: Evidence) -> str:
    op = evidence.usual_nonlinearity()
    if op in _SQUASHING:
        fix = "glorot_normal for tanh" if op == "tanh" else "ReLU, GELU or SiLU with he_normal in place of " + op
        return f"Use {fix}; in a deep network add batch or layer normalization, or residual connections."
    if op == "":
        return (
            "Scale the initialization up (lecun_normal, or orthogonal with gain 1), add normalization, or residual"
            " connections."
        )
    return (
        f"Initialize with he_normal (torch.nn.init.kaiming_normal_) for {op}; in a deep network add normalization or"
        " residual connections."
    )
