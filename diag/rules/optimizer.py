"""What an optimizer is given: a schedule that ends at once, a clip, a loss scale, frozen parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from diag.rules.answered import is_late, tests_of
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed, shown
from diag.rules.scales import does_well, guesses, is_open
from diag.rules.stages import are_anew
from diag.trace.shapes import sizes

_FEWEST_DECAYS = 12
_FEWEST_SCALED = 3
_SCALED_AWAY = 1e-4
"""Of the gradient that a cross-entropy has, what is left of it where the loss was multiplied down."""
_UNTRAINED, _WORTH_A_WORD = 0.75, 0.4
"""The share of a model that, frozen as it was initialized, is more than a layer of random features; worth a word."""
_FALLEN, _WHOLE_NORM = 10.0, 0.1
"""How far a learning rate has fallen that is worth a word; the norm below which a clip leaves little of a gradient."""
_NOTHING_LEFT, _IDLE = 1e-4, 0.5
"""Of its largest value, a learning rate that does nothing more; the share of the steps for which it may not be so."""
_MANY_STEPS = 200
"""Steps after which something should have been learned."""
_RISEN, _NEARLY_ALL = 3.0, 0.9
"""How far a learning rate rises, and in which share of the steps, that is still in its warm-up."""
_REACHED = 0.2
"""Of the learning rate that a warm-up is to reach."""
_WITHIN = (
    "Warm up within the first few per cent of the steps that are really taken (a warm-up may be counted in steps or in"
    " epochs: look which), or train for as long as the schedule is meant for."
)
_UNSCALE = (
    "Call scaler.unscale_(optimizer) before the gradient is clipped, or the clip cuts what the scale has multiplied;"
    " else "
)
_EVEN = 1e-3
"""How equal the factors of an exponential schedule are."""


def decays_each_step(evidence: Evidence) -> Finding | None:
    """A schedule that multiplies the learning rate by the same factor in every step, until next to nothing is left.

    That a rate ends small is no fault; that it halves within seven steps, and goes on so, is a schedule for epochs.
    """
    lr = evidence.steps.set_index("step")["lr"].dropna()
    lr = lr[lr > 0]
    if len(lr) < _FEWEST_DECAYS:
        return None
    factor = (lr / lr.shift(1)).dropna()
    middle = float(factor.median())
    even = bool(((factor / middle - 1).abs() < _EVEN).all())
    if not even or middle > evidence.thresholds["decay_error"]:
        return None
    return Finding(
        "stalled-update",
        "error",
        "optimizer",
        f"The learning rate is multiplied by {middle:.2g} in every step: from {lr.iloc[0]:.2g} to {lr.iloc[-1]:.2g}"
        f" within {len(lr)} steps, so that training has all but stopped.",
        {"step": int(lr.index[0]), "of": "schedule", "factor": middle, "lr": float(lr.iloc[-1]), "steps": len(lr)},
        "Call scheduler.step() once per epoch, or give the schedule a decay that is meant for steps.",
        "torch.optim documentation, 'How to adjust learning rate'",
    )


def ends_early(evidence: Evidence) -> Finding | None:
    """A schedule that has come to next to nothing before half of the steps were taken, with the loss still high."""
    lr = evidence.steps.set_index("step")["lr"].dropna()
    if len(lr) < _FEWEST_DECAYS or evidence.optimizers > 1 or not is_open(evidence):
        return None
    most = float(lr.max())
    if most == 0:
        return _no_rate(len(lr))
    small = lr[lr.index > lr.idxmax()] <= _NOTHING_LEFT * most
    since = small.index[small.to_numpy()]
    if not len(since) or len(since) < _IDLE * len(lr) or not small[small.index >= since[0]].all():
        return None
    return Finding(
        "stalled-update",
        "error",
        "optimizer",
        f"The learning rate falls from {most:.2g} to {lr[since[0]]:.2g} by step {since[0]} of {len(lr)}, and to"
        f" {lr.iloc[-1]:.2g} by the last: most of the steps change next to nothing.",
        {"step": int(since[0]), "of": "schedule", "lr": float(lr.iloc[-1]), "most": most, "steps": len(lr)},
        "Call scheduler.step() once per epoch rather than per step, or give the schedule the number of steps that there"
        " are.",
        "torch.optim documentation, 'How to adjust learning rate'",
    )


def _no_rate(steps: int) -> Finding:
    return Finding(
        "stalled-update",
        "error",
        "optimizer",
        f"The learning rate is 0 in all {steps} steps: nothing is changed.",
        {"step": 0, "of": "schedule", "lr": 0.0, "most": 0.0, "steps": steps},
        "Give the optimizer a learning rate above 0; look for a schedule that begins at 0 and is never stepped.",
        "torch.optim documentation, 'How to adjust learning rate'",
    )


def rates(evidence: Evidence) -> tuple[float | None, str]:
    """The last learning rate, and what is to be said of it: that it fell, if it has."""
    steps = evidence.steps.dropna(subset=["lr"])
    if not len(steps):
        return None, ""
    lr = steps.loc[steps["optimizer"] == steps["optimizer"].iloc[-1], "lr"]  # of several, that which stepped last
    last, most = float(lr.iloc[-1]), float(lr.max())
    if last < most / _FALLEN:
        when = int(lr.index[lr == most][-1])
        return last, f" at a learning rate of {last:.2g}, which was {most:.2g} in step {when}"
    rising = " and rises" if last > float(lr.iloc[0]) * _FALLEN else ""
    return last, f" at a learning rate of {last:.2g}{rising}"


def as_warm_up(evidence: Evidence, stall: Finding) -> Finding:
    """Updates that are too small, told as what they are where the learning rate rises in every step to the last one."""
    lr = _rising(evidence)
    if lr is None or not (lr > 0).all() or lr.iloc[-1] < _RISEN * lr.iloc[0]:
        return stall
    return replace(
        stall,
        site="optimizer",
        message=f"{_outlasts(lr)}, where updates are {stall.evidence['update_ratio']:.0e} of the"
        " weights (about 1e-3 is usual). The loss has hardly fallen.",
        evidence={**stall.evidence, "of": "schedule", "first_lr": float(lr.iloc[0])},
        remedy=_WITHIN,
        source="Goyal et al. 2017, section 2.2: gradual warmup",
    )


def _rising(evidence: Evidence) -> pd.Series | None:
    """The learning rates, where they rise in nearly all steps, and to the last one."""
    lr = evidence.steps["lr"].dropna()
    rises = lr.diff().dropna() > 0
    rising = len(lr) >= _FEWEST_DECAYS and rises.mean() >= _NEARLY_ALL and rises.iloc[-2:].all()
    return lr if rising else None


def _outlasts(lr: pd.Series) -> str:
    return (
        f"The warm-up outlasts the {len(lr)} steps that were watched: the learning rate rises in every one, from"
        f" {lr.iloc[0]:.2g} to {lr.iloc[-1]:.2g}"
    )


def never_warm(evidence: Evidence) -> Finding | None:
    """The learning rate rises from the first step to the last, and ends far below what it is to rise to: an error where
    tests show that training is over."""
    lr = _rising(evidence)
    meant = float(evidence.trace.coverage.get("meant_lr") or 0.0)
    if lr is None or lr.iloc[-1] > _REACHED * meant or not is_open(evidence):
        return None
    over = any(is_late(evidence, int(one["step"])) for one in tests_of(evidence))
    return Finding(
        "stalled-update",
        "error" if over else "warning",
        "optimizer",
        f"{_outlasts(lr)}, and is meant to come to {meant:.2g}. Most of the loss is left.",
        {"step": int(evidence.steps["step"].iloc[0]), "of": "schedule", "lr": float(lr.iloc[-1]), "meant": meant},
        _WITHIN,
        "Goyal et al. 2017, section 2.2: gradual warmup",
    )


def scaled_away(evidence: Evidence) -> Finding | None:
    """The gradient that comes to the last layer is far below what the cross-entropy has: the loss is multiplied down.

    Of a mean over N predictions it is (p - y) / N for each, with a norm of about 1 / sqrt(N) until they are right.
    """
    known = guesses(evidence)
    rows = evidence.rows("gradient", evidence.early, ("layer",)).sort_values("order")
    if known is None or not is_open(evidence) or not len(rows):
        return None
    site = str(rows["site"].iloc[-1])
    own = rows[rows["site"] == site]
    norm = float(own["norm"].median())
    predictions = float(own["count"].iloc[0]) / max(1, sizes(str(evidence.sites.loc[site, "shape"]))[-1])
    factor = norm * math.sqrt(predictions)
    if not 0 < factor < _SCALED_AWAY:
        return None
    return Finding(
        "stalled-update",
        "error",
        site,
        f"The gradient of {site}, the last layer, has norm {norm:.1e}, where the mean cross-entropy of"
        f" {predictions:.0f} predictions has about {predictions**-0.5:.1g}: the loss is multiplied by about"
        f" {factor:.0e} before backward(), and what is left moves next to nothing.",
        {"step": evidence.clean[0], "of": "scaled away", "norm": norm, "factor": factor},
        "Look for a factor, a division that is done twice (gradient accumulation), or a loss scale below 1.",
        "Micikevicius et al. 2018, section 3.2; Kingma & Ba 2015, algorithm 1: epsilon",
    )


def _least_update(evidence: Evidence) -> float:
    """The update over the weight below which a clip is what keeps it from learning: after many steps that have left
    most of the loss, what is small for any training."""
    limits = evidence.thresholds
    if evidence.crawls():
        return limits["clipped_crawl_error"]
    waits = len(evidence.clean_losses) >= _MANY_STEPS and is_open(evidence)
    return limits["clipped_crawl_error" if waits else "clipped_error"]


def clipped(evidence: Evidence, typical: float) -> Finding | None:
    """The gradient is cut to one and the same norm in every step, and what is left of it hardly moves the weights.

    typical: the largest update of the median weight matrix over the weight, of late.
    """
    limit = _least_update(evidence)
    rows = evidence.rows("weight_gradient", evidence.clean)
    norm = (rows["norm"] ** 2).groupby(rows["step"]).sum() ** 0.5
    if len(norm) < _FEWEST_DECAYS or typical >= limit:
        return None
    most = float(norm.max())
    if not 0 < most < _WHOLE_NORM or float(norm.min()) < (1 - _EVEN) * most:
        return None
    own = rows.groupby("site")["norm"].agg(["min", "max"])
    if (own["min"] >= (1 - _EVEN) * own["max"]).all():  # the gradient itself is the same in every step
        return None
    remedy = "Clip at a norm that only the largest gradients reach (1 is usual), or not at all."
    return Finding(
        "stalled-update",
        "error",
        "optimizer",
        f"The gradient's norm is cut to {most:.2g} in every one of {len(norm)} steps, and what is left changes the"
        f" weights by {typical:.0e} of their size (about 1e-3 is usual).",
        {"step": int(norm.index[0]), "of": "clip", "norm": most, "update_ratio": typical, "steps": len(norm)},
        _UNSCALE + remedy[0].lower() + remedy[1:] if evidence.trace.coverage.get("scaled_losses") else remedy,
        "Pascanu et al. 2013, section 3.2",
    )


def clipped_values(evidence: Evidence, typical: float) -> Finding | None:
    """Each gradient is cut, entry by entry, to one and the same number, and what is left hardly moves the weights."""
    rows = evidence.rows("weight_gradient", evidence.clean)
    rows = rows[rows["rms"] > 0]
    limit = _least_update(evidence)
    if typical >= limit or rows["step"].nunique() < _FEWEST_DECAYS:
        return None
    largest = rows[["min", "max"]].abs().max(axis=1)
    cut = float(largest.max())
    at = largest >= (1 - _EVEN) * cut
    # Of each matrix in each step: one number alone is largest by chance.
    matrices = rows["shape"].str.contains("x", regex=False).fillna(False)
    own = rows.groupby("site")["rms"].agg(["min", "max"])
    if (own["min"] >= (1 - _EVEN) * own["max"]).all():  # the gradient itself is the same in every step
        return None
    if not 0 < cut < _WHOLE_NORM or at[matrices].mean() < _NEARLY_ALL or rows[matrices]["site"].nunique() < 2:
        return None
    return Finding(
        "stalled-update",
        "error",
        "optimizer",
        f"Gradients are cut to between {-cut:.2g} and {cut:.2g}, entry by entry, in nearly all of"
        f" {rows['step'].nunique()} steps and matrices, and what is left changes the weights by {typical:.0e} of their"
        " size (about 1e-3 is usual).",
        {"step": int(rows["step"].min()), "of": "clip", "value": cut, "update_ratio": typical},
        "Clip values that only the largest gradients reach, or the norm (1 is usual), or not at all.",
        "torch.nn.utils.clip_grad_value_ documentation; Pascanu et al. 2013, section 3.2",
    )


def made_anew(evidence: Evidence) -> Finding | None:
    """An optimizer for every step: momentum, and the averages that Adam divides by, begin anew in each."""
    steps = evidence.trace.steps
    if not are_anew(steps):
        return None
    numbers = steps.loc[steps["optimizer"] >= 0, "optimizer"]
    return Finding(
        "stalled-update",
        "warning" if does_well(evidence) else "error",
        "optimizer",
        f"{numbers.nunique()} optimizers took {len(numbers)} steps: a new one is made for each, whose momentum, and"
        " averages of gradients and of their squares, begin at 0.",
        {"step": 0, "of": "made anew", "optimizers": int(numbers.nunique()), "steps": len(numbers)},
        "Make the optimizer once, before the loop; so with a scheduler and a GradScaler.",
        "torch.optim documentation, 'Constructing it'",
    )


def on_scaled_gradients(evidence: Evidence) -> Finding | None:
    """A GradScaler multiplied the loss, and did not divide the gradient before the optimizer took its steps."""
    steps = int((evidence.trace.steps["optimizer"] >= 0).sum())
    scaled = int(evidence.trace.coverage.get("scaled_steps", 0))
    if scaled < _FEWEST_SCALED or scaled < steps - evidence.optimizers or evidence.is_half_solved:
        return None
    return Finding(
        "oversized-update",
        "error",
        "optimizer",
        f"In {scaled} of {steps} steps the optimizer was given gradients that a GradScaler's factor still multiplied:"
        " the loss was scaled, and the step was not taken through the scaler.",
        {"step": 0, "of": "scaled", "scaled_steps": scaled, "steps": steps},
        "Call scaler.step(optimizer) and scaler.update() rather than optimizer.step(), with scaler.unscale_(optimizer)"
        " before the gradient is clipped.",
        "torch.amp documentation, 'Typical mixed precision training'",
    )


def frozen(evidence: Evidence) -> Iterator[Finding]:
    """Most of what the optimizer holds is frozen; an error where the loss hardly falls."""
    sites = evidence.sites
    held = sites[(sites["kind"] == "parameter") & sites["optimized"].fillna(False).astype(bool)]
    last = evidence.trace.coverage.get("held_last")
    held = held[held.index.isin(last)] if last else held  # what an optimizer held that has ended is no matter
    sizes = held["shape"].map(_elements)
    fixed = ~held["trainable"].fillna(True).astype(bool)
    share = float(sizes[fixed].sum() / sizes.sum()) if len(held) and sizes.sum() else 0.0
    if share < evidence.thresholds["frozen_error"]:
        return
    names = list(held[fixed].sort_values("order").index)
    harm = evidence.crawls() and len(evidence.clean_losses) >= _FEWEST_DECAYS
    yield Finding(
        "stalled-update",
        "error" if harm else "note",
        names[0],
        f"{shown(share)} of the elements that the optimizer holds are frozen, in {len(names)} parameters:"
        f" {listed(names)}{'; the loss hardly falls' if harm else ''}.",
        {"step": evidence.clean[0], "of": "frozen", "share": share, "parameters": names[:20], "count": len(names)},
        "If they are to be trained, requires_grad_(True); if not, hand the optimizer only what is.",
        "torch.nn.Module.requires_grad_ documentation",
    )


def never_trained(evidence: Evidence) -> Iterator[Finding]:
    """Much of a model is frozen with the weights that it was initialized with."""
    updates = evidence.rows("update")
    moved = set(updates.loc[updates["rms"] > 0, "site"])
    for model, found in evidence.of_models("frozen_untrained"):
        names = found["modules"]
        if any(f"{name}.weight" in moved for name in names):
            continue  # few steps leave weights much as they were drawn
        last = evidence.sites[evidence.sites["role"].eq("layer") & evidence.sites["model"].eq(model)]
        head = str(last.sort_values("order").index[-1]) if len(last) else ""
        if head in names and evidence.trains and not does_well(evidence):
            yield _frozen_head(evidence, head)
            continue
        if len(names) < 2 or found["share"] < _WORTH_A_WORD or not evidence.trains:
            continue
        yield Finding(
            "stalled-update",
            "error" if found["share"] >= _UNTRAINED and not does_well(evidence) else "warning",
            names[0],
            f"{shown(found['share'])} of {model}'s elements are frozen as they were initialized, at random, in"
            f" {len(names)} layers: {listed(names)}. What they compute is never learned.",
            {
                "step": evidence.clean[0],
                "of": "frozen",
                "share": found["share"],
                "modules": names[:20],
                "count": len(names),
            },
            "Train them (requires_grad_(True), in the optimizer), or load trained weights before freezing.",
            "torch.nn.Module.requires_grad_ documentation",
        )


def _frozen_head(evidence: Evidence, head: str) -> Finding:
    return Finding(
        "stalled-update",
        "error",
        head,
        f"{head}, the last layer, is frozen as it was initialized, at random: what is put out is never learned.",
        {"step": evidence.clean[0], "of": "frozen", "modules": [head], "count": 1},
        f"Train it: {head}.requires_grad_(True), and give it to the optimizer; look at the names by which parameters"
        " are frozen.",
        "torch.nn.Module.requires_grad_ documentation",
    )


def _elements(shape: str) -> int:
    return math.prod(sizes(str(shape)))
