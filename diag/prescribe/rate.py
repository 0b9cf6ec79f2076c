"""A learning rate by a range test: a short sweep on a copy, and the best of what it suggests."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from diag.prescribe.arm import run_arm, seed_everything
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import SIGNAL, SLOW, STEP, Advice, Remedy, combined

PLACE = 70
ANSWERS = (*STEP, *SLOW, *SIGNAL)
LOWEST, HIGHEST, PER_DECADE = 1e-6, 10.0, 8
SMOOTHING = 0.7
"""Of the sweep's losses, exponentially."""
RUNAWAY = 4.0
"""Times the loss at the sweep's start, at which it ends."""
SHARE = 0.4
"""Of a trial's steps, for which each of the rates that a sweep suggests is trained."""
NEAR = 1.5
"""A rate within this factor of the present one is no change."""

_CODE = """for group in optimizer.param_groups:
    group["lr"] *= {factor:.4g}
"""
_SET = """for group in optimizer.param_groups:
    group["lr"] = {rate:.3g}
"""


UNTUNED = Remedy("learning rate", "learning rate", "Set the learning rate by a range test.", "", ANSWERS, place=PLACE)
"""Stands in the order of trials for the range test, which costs some trainings itself."""


def tuned(patient: Patient, after: Remedy | None) -> Iterator[Remedy | Advice]:
    """A learning rate by a range test, of the user's training or of one that another remedy has changed."""
    optimizer = patient.optimizer
    if optimizer is None or not optimizer.param_groups:
        return
    now = _rate_of(optimizer)
    sweep = _sweep(patient, after)
    choices = suggestions(*sweep)
    found = _best(patient, after, choices, now)
    if found is not None and not 1 / NEAR <= found / now <= NEAR:
        remedy = _remedy(optimizer, now, found)
        yield remedy if after is None else combined(after, remedy)
    elif after is None:  # after another remedy it is no advice on the training as it is, nor on that remedy
        why = "at no rate of the sweep did the loss fall"
        if found is not None:
            why = f"with nothing else changed the range test finds {found:.2g}, about the present {now:.2g}"
        yield Advice("learning rate", "Set the learning rate alone, by a range test.", why)


def _remedy(optimizer: torch.optim.Optimizer, now: float, found: float) -> Remedy:
    alike = len({float(group["lr"]) for group in optimizer.param_groups}) == 1
    code = _SET.format(rate=found) if alike or now <= 0 else _CODE.format(factor=found / now)
    change = f"Set the learning rate to {found:.2g}, by a range test; it is {now:.2g}."
    return Remedy(f"learning rate {found:.2g}", "learning rate", change, code, ANSWERS, place=PLACE)


def _rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The first group's rate; what a schedule begins with, if there is one."""
    return float(optimizer.param_groups[0]["lr"]) or LOWEST


def _sweep(patient: Patient, after: Remedy | None) -> tuple[list[float], list[float]]:
    """Rates, rising from step to step, and the loss before each step, until it runs away."""
    count = round(PER_DECADE * math.log10(HIGHEST / LOWEST)) + 1
    rates = np.geomspace(LOWEST, HIGHEST, count).tolist()
    losses: list[float] = []
    with patient.fresh() as workload:
        seed_everything(0)
        workload = after.apply(workload) if after is not None else workload
        optimizer = workload.optimizer
        assert optimizer is not None
        base = [float(group["lr"]) for group in optimizer.param_groups]
        workload.model.train()
        for number, value in enumerate(rates):
            for group, own in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = value * (own / base[0] if base[0] > 0 else 1.0)
            arm = run_arm(workload, [patient.batches[number % len(patient.batches)]], 0, workload.loss)
            losses.append(arm.final)
            if not math.isfinite(arm.final) or abs(arm.final - losses[0]) > RUNAWAY * abs(losses[0]):
                break
    return rates[: len(losses)], losses


def suggestions(rates: list[float], losses: list[float]) -> list[float]:
    """Rates worth a trial: where the smoothed loss falls fastest, and some way below where it is lowest."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < 5:
        return [rates[0], *(rate for rate in (1e-5, 1e-4, 1e-3) if rate > rates[0])]
    smooth = [finite[0]]
    for loss in finite[1:]:
        smooth.append(SMOOTHING * smooth[-1] + (1 - SMOOTHING) * loss)
    slopes = np.gradient(np.array(smooth))
    lowest = int(np.argmin(smooth))
    steepest = int(np.argmin(slopes[: lowest + 1])) if lowest else 0
    ends = [rates[lowest] / 3, rates[lowest] / 10, rates[steepest], rates[lowest], rates[lowest] / 30]
    kept: list[float] = []
    for one in ends:
        if all(abs(math.log(one / other)) > math.log(1.3) for other in kept):
            kept.append(one)
    return kept[:4]


def _best(patient: Patient, after: Remedy | None, choices: list[float], now: float) -> float | None:
    """The choice, or the present rate, with which a short training ends lowest; None where none lowers the loss."""
    steps = max(3, round(SHARE * len(patient.batches)))
    ends: dict[float, float] = {}
    start = math.inf
    for choice in dict.fromkeys([now, *choices]):
        with patient.fresh() as workload:
            seed_everything(0)
            workload = after.apply(workload) if after is not None else workload
            assert workload.optimizer is not None
            first = _rate_of(workload.optimizer)
            for group in workload.optimizer.param_groups:
                group["lr"] *= choice / first
            arm = run_arm(workload, patient.batches[:steps], 0, workload.loss)
        if not arm.diverged:
            ends[choice] = arm.final
            start = min(start, arm.start)
    best = min(ends, key=lambda one: ends[one], default=None)
    return best if best is not None and ends[best] < start else None
