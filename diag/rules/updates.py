"""Steps that are too small to matter or too large to help."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from diag.rules.answered import at_a_guess
from diag.rules.blocked import frozen_zeros
from diag.rules.decay import decayed
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed
from diag.rules.momentum import remembers, unbalanced
from diag.rules.omissions import (
    clipped_nothing,
    lags_behind,
    layers_made_anew,
    never_follows,
    never_stepped,
    plain_tensors,
    stopped_stepping,
    thrown_away,
    unregistered,
)
from diag.rules.optimizer import (
    as_warm_up,
    clipped,
    clipped_values,
    decays_each_step,
    ends_early,
    frozen,
    made_anew,
    never_trained,
    never_warm,
    on_scaled_gradients,
    rates,
    scaled_away,
)
from diag.rules.registry import rule
from diag.rules.rounding import rounded_away
from diag.rules.scales import is_open, learned, scales_of_weights
from diag.rules.statistics import stale_statistics
from diag.rules.targets import misfit
from diag.trace.shapes import sizes

_FEWEST_UNCLEARED, _MOST_UNCLEARED = 3, 0.5
_TINY, _WHOLE = 1e-5, 1e-3
"""A largest update below a hundredth of what is usual, under a gradient whose norm is no smaller than this share of the
weight's: the step is too small, whatever becomes of gradients below."""
_UNTOLD = 3e-5
"""The same where no loss tells what is learned, as in reinforcement."""
_TENTH, _LITTLE, _MANY_STEPS = 1.5e-4, 0.1, 100
"""A largest update that is too small where after so many steps the loss has fallen by less than this share."""
_USUAL, _FEWEST_GROWN = 0.3, 12
"""Times 1 / sqrt(fan_in), the rms of a weight that was not initialized to little on purpose; steps it may grow in."""
_FIRST = 3
"""Steps in which a learning rate that is far too large remakes the weights: later they have grown to it."""
_RISES, _AFTER_WARM_UP = 0.5, 0.75
"""Of its largest value, a learning rate that begins as a warm-up; of the threshold, strides at its end that are too
large: of steps that come so late fewer are by chance."""
_ENDED, _SHARE_BEFORE = 0.01, 0.25
"""Of its largest value, a learning rate that has come to its end; the share of the steps before they are small."""
_NO_BETTER = 0.9
"""Of the first loss: what ends above it has learned nothing worth the name."""
_SMALL = 1e-3
"""Of the matrices' median rms: below it a weight was initialized to zero, and its ratio says nothing."""


@rule("stalled-update")
def stalled_update(evidence: Evidence) -> Iterator[Finding]:
    """The weights hardly move, or some that are trained are in no optimizer."""
    if not evidence.trains:
        yield from never_stepped(evidence)
        return
    left_out = [
        *_not_optimized(evidence),
        *unregistered(evidence),
        *layers_made_anew(evidence),
        *thrown_away(evidence),
        *plain_tensors(evidence),
        *stopped_stepping(evidence),
    ]
    yield from left_out
    yield from never_follows(evidence)
    yield from lags_behind(evidence)
    yield from stale_statistics(evidence)
    # Beside what was forgotten, what is frozen may well be so on purpose.
    zeros = frozen_zeros(evidence)
    fixed = [zeros] if zeros is not None else list(never_trained(evidence)) or list(frozen(evidence))
    yield from (replace(one, severity="warning") if left_out else one for one in fixed)
    schedule = made_anew(evidence) or decays_each_step(evidence) or ends_early(evidence) or never_warm(evidence)
    if schedule is not None:
        yield schedule
        return
    slight = rounded_away(evidence) or _slight(evidence)
    if slight is not None:
        yield slight


def _slight(evidence: Evidence) -> Finding | None:
    """Updates that are too small for the loss to fall, by their ratio to the weights; or what made them so."""
    ratios = _ratios(evidence)
    recent = ratios[ratios["step"].isin(evidence.late)]
    largest = recent.groupby("site")["update_ratio"].max()
    broke = len(evidence.clean) < 2 <= len(evidence.measured)  # in its first step
    # At its end a training may stand still, and where it goes on with what was learned before.
    if not len(largest) or broke or evidence.is_half_solved or learned(evidence):
        return None
    typical = float(largest.median())
    clip = clipped(evidence, typical) or clipped_values(evidence, typical)
    if clip is not None:
        return clip
    limit = evidence.thresholds
    slow = _is_slow(evidence, float(ratios.groupby("site")["update_ratio"].max().median()))
    if slow:
        typical = slow
    still = evidence.crawls() or at_a_guess(evidence) is not None
    if not slow and (not still or typical >= (limit["stalled_warning"] if evidence.tells else _UNTOLD)):
        return None
    by_step = ratios.groupby("step")["update_ratio"].median()
    moving = by_step[by_step >= limit["stalled_warning"]]
    since = int(by_step.index[by_step.index > moving.index.max()].min()) if len(moving) else int(by_step.index.min())
    lr, rate = rates(evidence)
    first = evidence.in_order(largest.index)[0]
    # A fall that noise may explain as well is no proof that nothing is learned, unless next to nothing moves.
    # Nor need the losses of adversaries fall, or their weights move, once they are even.
    at_rest = typical < limit["stalled_error"] and not evidence.may_fall() and not evidence.alternates
    found = Finding(
        "stalled-update",
        "error"
        if (at_rest or slow > 0 or (typical < _TINY and not evidence.loss_falls())) and not _ends_small(evidence, since)
        else "warning",
        str(first),
        f"Updates are {typical:.0e} of the weights they change (about 1e-3 is usual){rate}, and the loss hardly falls:"
        " next to nothing is learned.",
        {
            "step": since,
            "update_ratio": typical,
            **({"of": "step"} if _steps_are_tiny(recent) else {}),
            "lr": lr,
            "matrices": len(largest),
        },
        "Raise the learning rate by factors of ten until updates are about 1e-3 of the weights; look for a schedule, a"
        " clipping norm, an epsilon or a precision (bfloat16 weights) that swallows them.",
        "Karpathy 2019, 'A recipe for training neural networks'; Zhang et al. 2021 (AUTOTRAINER)",
    )
    return scaled_away(evidence) or as_warm_up(evidence, found)


def _ends_small(evidence: Evidence, since: int) -> bool:
    """Whether steps are small only because a schedule ends, after many of usual size in which nothing was learned
    either: then it is not their size."""
    lr = evidence.steps.set_index("step")["lr"].dropna()  # of the stage in which this model is trained
    ended = len(lr) > 0 and float(lr.iloc[-1]) < _ENDED * float(lr.max())
    return ended and int((lr.index < since).sum()) >= _SHARE_BEFORE * len(lr)


def _is_slow(evidence: Evidence, largest: float) -> float:
    """The largest updates of the median matrix, where after many steps the loss has come down by a little at a tenth of
    what is usual or less; else 0."""
    if len(evidence.clean_losses) < _MANY_STEPS:
        return 0.0
    if not evidence.tells:
        return largest if largest < _UNTOLD else 0.0
    little = not evidence.alternates and evidence.fall() < _LITTLE and is_open(evidence)
    return largest if little and largest < _TENTH else 0.0


def _steps_are_tiny(recent: pd.DataFrame) -> bool:
    """Whether not one matrix moves, one that gets a whole gradient among them."""
    whole = recent["gradient_norm"] >= _WHOLE * recent["norm"]
    return bool(whole.any() and (recent["update_ratio"] < _TINY).all())


def _not_optimized(evidence: Evidence) -> Iterator[Finding]:
    """Parameters that require a gradient and get one, but that no optimizer holds."""
    got = evidence.rows("weight_gradient")
    idle = got[~got["optimized"].fillna(False).astype(bool) & (got["rms"] > 0)]
    if not len(idle):
        return
    order = idle.sort_values(["order", "site"])
    sites = list(dict.fromkeys(order["site"]))
    replaced = evidence.trace.coverage.get("replaced") or []
    waits = set(sites) <= set(evidence.trace.coverage.get("held_without_step") or [])
    if waits:
        yield _waiting(sites, int(order["step"].min()))
        return
    stale = " The optimizer holds what stood there before the model was changed." if set(sites) & set(replaced) else ""
    yield Finding(
        "stalled-update",
        "error",
        str(sites[0]),
        f"{len(sites)} trainable parameter{' gets' if len(sites) == 1 else 's get'} gradients but"
        f" {'is in no optimizer, so it never moves' if len(sites) == 1 else 'are in no optimizer, so they never move'}:"
        f" {listed(sites)}.{stale}",
        {"step": int(order["step"].min()), "of": "optimizer", "parameters": sites[:20], "count": len(sites)},
        "Give the optimizer model.parameters() of the model that is trained, after it was built and moved; "
        "freeze what is not to be trained with requires_grad_(False).",
        "torch.optim documentation, 'Constructing it'",
    )


def _waiting(sites: list[str], step: int) -> Finding:
    """An optimizer holds these, and its gradients are cleared, but it takes no step."""
    get = " gets gradients, and is" if len(sites) == 1 else "s get gradients, and are"
    return Finding(
        "stalled-update",
        "error",
        str(sites[0]),
        f"{len(sites)} trainable parameter{get} in an optimizer that is cleared and never takes a step:"
        f" {listed(sites)}.",
        {"step": step, "of": "optimizer", "parameters": sites[:20], "count": len(sites)},
        "Call step() of each optimizer after loss.backward().",
        "torch.optim documentation, 'Taking an optimization step'",
    )


@rule("oversized-update")
def oversized_update(evidence: Evidence) -> Iterator[Finding]:
    """A step changes the weights by as much as they are, or is made of all gradients so far."""
    uncleared = _never_cleared(evidence)
    if uncleared is not None:
        yield uncleared
        return
    pulled = decayed(evidence)
    if pulled is not None:
        yield pulled
        return
    summed = remembers(evidence) or unbalanced(evidence)
    if summed is not None:
        yield summed
        return
    found = _wild(evidence) or _grown(evidence) or _first_strides(evidence)
    found = clipped_nothing(evidence, found) or found
    if found is not None or evidence.diverged_at is not None or evidence.first_bad_step is not None:
        found = on_scaled_gradients(evidence) or found
    if found is not None:
        yield found


def _grown(evidence: Evidence) -> Finding | None:
    """Weights that were initialized as usual grow manyfold, and nothing is learned of it."""
    table = evidence.parameters.dropna(subset=["norm"]).sort_values("step")
    table = table[table["step"].isin(evidence.clean)]
    scales = scales_of_weights(evidence)
    ends = table[table["site"].isin(scales[scales >= _USUAL].index)].groupby("site")["norm"].agg(["first", "last"])
    if not len(ends) or not evidence.trains or evidence.is_half_solved or len(evidence.clean) < _FEWEST_GROWN:
        return None
    if misfit(evidence) is not None:  # they may have to grow, to reach targets that are far off
        return None
    growth, limit = ends["last"] / ends["first"], evidence.thresholds
    told = bool(len(evidence.rows("activation", roles=("loss",))))  # a loss of one's own may be none to go by
    all_grow = evidence.stuck and float(growth.median()) >= limit["grown_error"]
    if not all_grow and not growth.max() >= limit["grown_single_error"]:
        return None
    site = str(growth.idxmax())
    whose = f"the median weight matrix grows to {growth.median():.2g} times its norm, and " if all_grow else ""
    return Finding(
        "oversized-update",
        "error" if told or growth.max() >= limit["grown_single_error"] else "warning",
        site,
        f"Within {evidence.clean[-1] - evidence.clean[0]} steps {whose}{site} grows to {growth.max():.2g} times its"
        f" norm{', while the loss hardly falls' if all_grow else ''}: the steps are too large.",
        {
            "step": evidence.clean[0],
            "of": "growth",
            "growth": float(growth.max()),
            "median_growth": float(growth.median()),
        },
        "Lower the learning rate (of this parameter group) by factors of ten, or warm it up.",
        "Karpathy 2019, 'A recipe for training neural networks'",
    )


def _wild(evidence: Evidence) -> Finding | None:
    """Single steps that are about as large as the weights, or many that are large."""
    ratios = _ratios(evidence)
    if not len(ratios):
        return None
    limit = evidence.thresholds
    by_step = ratios.groupby("step")["update_ratio"]
    median, largest = by_step.median(), by_step.max()
    wild = median[median >= limit["oversized_error"]].index.union(
        largest[largest >= limit["oversized_single_error"]].index
    )
    lasting = float(median.median()) >= limit["oversized_lasting_error"] and len(median) >= 5
    if not len(wild) and not lasting:
        return None
    step = int(wild.min() if len(wild) else median.index.min())
    at = ratios[ratios["step"] == step].sort_values("update_ratio").iloc[-1]
    input_rms = evidence.input_rms()
    unscaled = f" The input's rms is {input_rms:.3g}: standardize it first." if input_rms > 10 else ""
    lr = evidence.trace.steps.set_index("step")["lr"].get(step)
    rate = f", at a learning rate of {lr:.2g}" if lr is not None and pd.notna(lr) else ""
    # A small problem may be solved in a few giant strides.
    solved = evidence.is_half_solved and not is_open(evidence) and evidence.diverged_at is None
    return Finding(
        "oversized-update",
        "warning" if solved else "error",
        str(at["site"]),
        f"In step {step} the update of {at['site']} is {at['update_ratio']:.2g} times the weight itself (about 1e-3 is"
        f" usual){rate}.",
        {
            "step": step,
            "update_ratio": float(at["update_ratio"]),
            "median_ratio": float(median.loc[step]),
            "lr": float(lr) if lr is not None and pd.notna(lr) else None,
            "input_rms": input_rms,
        },
        "Lower the learning rate (or weight decay) by factors of ten, warm it up, or clip the gradient's norm; "
        f"check that zero_grad() is called every step.{unscaled}",
        "SageMaker Debugger, rule UpdateTooLarge; Karpathy 2019",
    )


def _first_strides(evidence: Evidence) -> Finding | None:
    """The first steps remake the weights, and nothing is learned after: later ones are small for weights that grew."""
    ratios = _ratios(evidence)
    losses = evidence.clean_losses
    if not len(ratios) or len(losses) < _FEWEST_GROWN or not evidence.tells or evidence.alternates:
        return None
    # A loss that has leapt up falls again without anything learned: the first one counts.
    if not float(losses.iloc[-(len(losses) // 3) :].median()) > _NO_BETTER * float(losses.iloc[0]) > 0:
        return None
    median = ratios.groupby("step")["update_ratio"].median()
    first = median.iloc[:_FIRST]
    if len(first) < _FIRST or first.min() < evidence.thresholds["oversized_first_error"]:
        first = _warmed_up(evidence, median)
    if not len(first):
        return None
    lr = evidence.trace.steps.set_index("step")["lr"].get(first.index[-1])
    rate = f" at a learning rate of {lr:.2g}" if lr is not None and pd.notna(lr) else ""
    site = str(ratios[ratios["step"] == first.index[0]].sort_values("update_ratio")["site"].iloc[-1])
    return Finding(
        "oversized-update",
        "error",
        site,
        f"Each of the steps {first.index[0]} to {first.index[-1]} changes half of the weight matrices by"
        f" {first.min():.2g} to"
        f" {first.max():.2g} of their size (about 1e-3 is usual){rate}: what they were is lost, and the loss ends no"
        " better than it began.",
        {
            "step": int(first.index[0]),
            "of": "first",
            "median_ratio": float(first.min()),
            "lr": float(lr) if lr is not None and pd.notna(lr) else None,
        },
        "Lower the learning rate by factors of ten (Adam: 1e-3 for small networks, 1e-4 to 1e-5 to fine-tune"
        " transformers), or warm it up.",
        "Karpathy 2019, 'A recipe for training neural networks'; Devlin et al. 2019, appendix A.3",
    )


def _warmed_up(evidence: Evidence, median: pd.Series) -> pd.Series:
    """The first steps of that size after a learning rate that rises; none where it does not."""
    lr = evidence.trace.steps.set_index("step")["lr"].reindex(median.index)
    if not lr.iloc[0] < _RISES * lr.max():
        return median.iloc[:0]
    large = median.rolling(_FIRST).min() >= _AFTER_WARM_UP * evidence.thresholds["oversized_first_error"]
    end = int(large.to_numpy().argmax())
    return median.iloc[end - _FIRST + 1 : end + 1] if large.any() else median.iloc[:0]


def _never_cleared(evidence: Evidence) -> Finding | None:
    """An optimizer took most steps on gradients to which the last step's still belonged."""
    uncleared = int(evidence.trace.coverage.get("uncleared_steps", 0))
    steps = int(evidence.trace.coverage.get("uncleared_of", (evidence.trace.steps["optimizer"] >= 0).sum()))
    if uncleared < _FEWEST_UNCLEARED or uncleared < _MOST_UNCLEARED * (steps - 1):
        return None
    never = uncleared >= steps - 1
    return Finding(
        "oversized-update",
        "error",
        "optimizer",
        f"Gradients are {'never' if never else 'seldom'} cleared: in {uncleared} of {steps} steps the optimizer was"
        f" given the sum of all {'so far' if never else 'since they last were'}.",
        {"step": 0, "of": "uncleared", "uncleared_steps": uncleared, "steps": steps},
        "Call optimizer.zero_grad() in every step, before loss.backward().",
        "torch.optim documentation, 'Taking an optimization step'",
    )


def _ratios(evidence: Evidence) -> pd.DataFrame:
    """Update ratios of weight matrices that were not initialized to (nearly) nothing."""
    table = evidence.parameters.dropna(subset=["update_ratio", "norm"])
    first = table[table["step"] == table["step"].min()].copy()
    if not len(first):
        return table
    elements = first["shape"].map(lambda shape: math.prod(sizes(str(shape))))
    rms = pd.Series((first["norm"] / elements**0.5).to_numpy(), index=first["site"])
    known = rms[rms > _SMALL * rms.median()].index
    return table[table["site"].isin(known)]
