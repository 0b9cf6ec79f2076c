"""Does the top remedy bring back what the fault took? `python -m tests.corpus.prescribe [name ...]`.

With `--drawn [mended|scored] [name ...]`, see `prescribe_drawn`.

For each curable faulty case the healthy twin, the case with its top remedy, and the case as it is are trained for as
many steps, and measured by the twin's loss. Restored is the share of the twin's fall of the loss that the remedied
training reaches.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from diag.errors import DiagError
from diag.prescribe.arm import Arm, run_arm, seed_everything
from diag.prescribe.copies import Source
from diag.prescribe.prescribe import _materialized, prescribe
from diag.prescribe.remedy import Remedy
from diag.train.seeds import derived_seed
from diag.train.workload import Workload
from tests.corpus import FAULTY, HEALTHY
from tests.corpus.case import Case
from tests.corpus.prescribe_drawn import Row, row, sample
from tests.corpus.prescribe_report import ENOUGH, write

STEPS, SEEDS = 60, 3
NOT_CURABLE = {
    **dict.fromkeys(
        "cut-detach cut-no-grad cut-numpy cut-rewrapped cut-data cut-round cut-threshold "
        "cut-transformer-detach".split(),
        "forward() cuts the gradient",
    ),
    "cut-in-loss": "the loss runs a network under no_grad",
    "cut-gate-zero": "forward() multiplies by zero",
    "dead-functional": "forward() subtracts a constant before ReLU",
    "collapsed-code": "forward() adds a constant of a million",
    "data-zeros": "the data hold nothing",
    "data-same-sample": "the data hold nothing",
    "data-shuffled-labels": "the labels hold nothing",
    "data-noise": "the inputs hold nothing",
    **dict.fromkeys(
        "nan-log-negative nan-sqrt-negative inf-exp nan-divide-by-zero-std nan-normalize-zero nan-masked-row "
        "nan-backward-sqrt nan-backward-where".split(),
        "forward() has no number there",
    ),
    "nan-naive-log-softmax": "the loss overflows",
    "nan-backward-distance": "the loss has no slope at 0",
    "nan-late": "the loss divides by zero once",
}
"""Faults that stand in the user's forward(), loss or data, where no change from outside mends them."""


@dataclass(frozen=True)
class Result:
    """share: of the twin's fall of the loss that is reached. strict: of its fall from where the case itself begins, if
    that is lower: a faulty network may begin lower than a sound one. untreated: the share without a remedy."""

    share: float
    strict: float
    untreated: float
    told: str
    remedy: str = ""

    def as_tuple(self) -> tuple[float, float, float, str, str]:
        """As a row of the report takes it."""
        return self.share, self.strict, self.untreated, self.remedy, self.told


def restored(case: Case) -> Result:
    """How far the top remedy brings the case, measured by the twin's loss."""
    assert case.twin is not None
    twin = case.twin()
    batches, healthy = _materialized(case.build(), STEPS), _materialized(twin, STEPS)
    scale = _target_scale(batches) ** 2 / _target_scale(healthy) ** 2
    sound = [_arm(case.twin, healthy, seed, twin.loss, None) for seed in range(SEEDS)]
    sick = [_arm(case.build, batches, seed, twin.loss, None) for seed in range(SEEDS)]
    prescription = prescribe(case.build(), STEPS, SEEDS)
    remedy = prescription.best.remedy if prescription.best else None
    treated = [_arm(case.build, batches, seed, twin.loss, remedy) for seed in range(SEEDS)] if remedy else sick
    start, end = _mean(sound, "start"), _mean(sound, "final")
    own = _mean(sick, "start") / scale
    low = own if end < own < start else start
    tried = ", ".join(f"{one.remedy.name} ({one.verdict})" for one in prescription.trials)
    told = remedy.name if remedy else "nothing helped"
    reached = [(origin - _mean(arms, "final") / scale) / (origin - end)
               for origin, arms in ((start, treated), (low, treated), (start, sick))]  # fmt: skip
    return Result(*reached, f"{told}; tried: {tried or prescription.watched.rules()}", remedy.name if remedy else "")


def _arm(build: Callable[[], Workload], batches: list[Any], seed: int, loss: Any, remedy: Remedy | None) -> Arm:
    with Source(build()).fresh() as workload, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        workload.batches = batches
        seed_everything(derived_seed(seed, "remedy"))
        return run_arm(remedy.apply(workload) if remedy else workload, batches, seed, loss)


def _mean(arms: list[Arm], name: str) -> float:
    return float(np.mean([getattr(arm, name) for arm in arms]))


def _target_scale(batches: list[Any]) -> float:
    """The deviation of targets that are numbers; 1 for classes."""
    targets = batches[0][1] if isinstance(batches[0], tuple) and len(batches[0]) == 2 else None
    numbers = isinstance(targets, torch.Tensor) and targets.is_floating_point()
    return float(torch.cat([y for _, y in batches]).std()) if numbers else 1.0


def noise() -> None:
    """How far apart healthy trainings end that differ in the order of their batches alone; in units of their start."""
    spreads = []
    for case in HEALTHY:
        workload = case.build()
        if workload.optimizer is None or case.name.startswith("transformers-"):
            continue
        batches = _materialized(workload, STEPS)
        arms = [_arm(case.build, batches, seed, workload.loss, None) for seed in range(SEEDS)]
        finals = [arm.final for arm in arms]
        spreads.append((max(finals) - min(finals)) / abs(float(np.mean([arm.start for arm in arms]))))
        print(f"{spreads[-1]:8.2%}  {case.name}", flush=True)
    shares = ", ".join(f"{share:.0%} below {np.quantile(spreads, share):.1%}" for share in (0.5, 0.9, 0.95))
    print(f"{len(spreads)} healthy cases, {SEEDS} orders: {shares}")


def main(parts: list[str]) -> None:
    """Print every curable case and the share of them that is restored; with `--noise`, what chance alone does."""
    torch.set_num_threads(1)
    if parts == ["--noise"]:
        noise()
        return
    if parts[:1] == ["--drawn"]:
        _drawn(parts[1:])
        return
    results: list[Result] = []
    for case in FAULTY:
        if case.name in NOT_CURABLE or (parts and not any(part in case.name for part in parts)):
            continue
        begun = time.perf_counter()
        results.append(_measured(case))
        _show(case.name, results[-1], time.perf_counter() - begun)
    _total(results)
    print(f"{len(NOT_CURABLE)} faults stand in the user's own forward(), loss or data, and are left out")


def _drawn(parts: list[str]) -> None:
    """The same over the sample of injected faults, half by half; all of it is written."""
    halves = sample()
    names = [one for one in parts if one not in halves]
    kept: list[Row] = []
    for half, cases in halves.items():
        results: list[Result] = []
        for case in cases:
            if (set(parts) & set(halves) and half not in parts) or (names and not any(n in case.name for n in names)):
                continue
            one = row(case, half, lambda case: _measured(case).as_tuple())
            kept.append(one)
            results.append(Result(one.share, one.strict, one.untreated, one.told))
            _show(case.name, results[-1], one.seconds)
        if results:
            print(half, end=": ")
            _total(results)
    if not parts:
        write(kept)


def _measured(case: Case) -> Result:
    try:
        return restored(case)
    except DiagError as error:
        return Result(-math.inf, -math.inf, math.nan, f"{type(error).__name__}: {error}")


def _show(name: str, one: Result, seconds: float) -> None:
    mark = "restored" if one.share >= ENOUGH else "short   "
    numbers = f"{one.share:8.0%} strict {one.strict:8.0%} untreated {one.untreated:8.0%}"
    print(f"{mark} {numbers}  {name:28} {one.told}  {seconds:.1f} s", flush=True)


def _total(results: list[Result]) -> None:
    for name in ("share", "strict"):
        count = sum(getattr(one, name) >= ENOUGH for one in results)
        print(f"{name}: {count} of {len(results)} curable cases restored to {ENOUGH:.0%} of their twin's progress")


if __name__ == "__main__":
    main(sys.argv[1:])
