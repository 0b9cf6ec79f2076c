"""Runs made up for tests: folders as `diag run` leaves them, and baselines, without a training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from diag.atomic import write_bytes
from diag.gate.baseline import Baseline, CaseValues
from diag.gate.gate import Verdict, compare
from diag.gate.metrics import METRICS, chosen_margins
from diag.gate.samples import Sample
from diag.recipes.recipe import Recipe
from diag.suite.engine import Event, record_file
from diag.suite.folder import RunFolder
from diag.suite.load import source_hash
from diag.suite.record import Record, packed, trial_key
from diag.suite.suite import Suite
from diag.suite.task import Task, execute

Values = Mapping[str, Mapping[str, Sequence[float]]]
"""By case and metric, a value per seed; nan for what was not measured."""

ENVIRONMENT = {
    "diag": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "platform": "linux x86_64", "device": "cpu", "threads": 1,
}  # fmt: skip
SETTINGS: dict[str, Any] = {"quick": False, "seeds": None, "set": {}}


def healthy(cases: int = 2, seeds: int = 5, seed: int = 0, **shifts: float) -> dict[str, dict[str, list[float]]]:
    """Accuracy about 0.9 and loss about 0.3, with a small spread; shifts: added to a metric in every trial."""
    rng = np.random.default_rng(seed)
    means = {"test_accuracy": (0.9, 0.004), "test_loss": (0.3, 0.006), "diverged": (0.0, 0.0)}
    return {
        f"case {i}": {
            name: (mean + shifts.get(name, 0.0) + sd * rng.standard_normal(seeds)).tolist()
            for name, (mean, sd) in means.items()
        }
        for i in range(cases)
    }


def recipe_of(case: str) -> dict[str, Any]:
    """A recipe of its own for each case."""
    return Recipe(width=8 + sum(map(ord, case)) % 50).to_dict()


def baseline_of(values: Values, seeds: Sequence[int] | None = None, **changes: Any) -> Baseline:
    """A baseline, or the new side of a gate, that never was in a file."""
    cases = {}
    for name, metrics in values.items():
        size = len(next(iter(metrics.values())))
        known = {key: list(map(float, one)) for key, one in metrics.items()}
        cases[name] = CaseValues(recipe_of(name), list(seeds if seeds is not None else range(size)), known)
    content: dict[str, Any] = {
        "suite": "mine", "settings": SETTINGS, "environment": ENVIRONMENT, "cases": cases, "claims": {},
        "origin": "baseline.json",
    }  # fmt: skip
    return Baseline(**content | changes)


def held(new: Any, old: Any, **margins: float) -> Verdict:
    """A gate between two sets of values, with other margins than the usual."""
    sides = [one if isinstance(one, Baseline) else baseline_of(one) for one in (new, old)]
    return compare(*sides, 0.01, chosen_margins(margins))


def write_run(folder: Path, values: Values, *, claims: Mapping[str, str] | None = None, **header: Any) -> Path:
    """A finished run's folder. header: other entries of run.json; None takes one out."""
    count = 0
    for case, metrics in values.items():
        for seed in range(len(next(iter(metrics.values())))):
            measured = {name: one[seed] for name, one in metrics.items() if not math.isnan(one[seed])}
            write_trial(folder, case, seed, measured)
            count += 1
    content = {
        "schema": 1, "suite": "mine", "hash": "0" * 16, "settings": SETTINGS, "commit": "abc", "finished": True,
        "trials": count,
    } | header  # fmt: skip
    (folder / "run.json").write_text(json.dumps({key: one for key, one in content.items() if one is not None}))
    verdicts = [{"statement": what, "verdict": answer} for what, answer in (claims or {}).items()]
    (folder / "verdicts.json").write_text(json.dumps({"schema": 1, "claims": verdicts}))
    return folder


def write_trial(
    folder: Path,
    case: str,
    seed: int,
    metrics: Mapping[str, float],
    *,
    layers: pd.DataFrame | None = None,
    content: Mapping[str, Any] | None = None,
    **environment: Any,
) -> Path:
    """One trial's record."""
    whole = dict(content) if content is not None else {"recipe": recipe_of(case)}
    tables = {} if layers is None else {"layers": packed(layers)}
    record = Record(case, seed, whole, dict(metrics), {"train": 1.0}, ENVIRONMENT | environment, tables=tables)
    path = RunFolder(folder).trials / f"{trial_key(case, seed, whole)}.trial"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(record.to_bytes())
    return path


class InProcess:
    """An engine of this process: starting a worker takes longer than a small suite does."""

    def run(self, suite: Suite, tasks: Sequence[Task], folder: Path, report: Callable[[Event], None]) -> None:
        for task in tasks:
            data = execute(task, suite.source, str(suite.path), source_hash(suite.source))
            write_bytes(record_file(folder, task), data)
            report(Event("done", task))


def sample_of(
    new: Sequence[float], baseline: Sequence[float] | None = None, margin: float = 1.0, case: str = "case"
) -> Sample:
    """A comparison of test losses: paired with zeros if there is no baseline, else unpaired."""
    after = np.array(new, float)
    before = np.zeros(len(after)) if baseline is None else np.array(baseline, float)
    seeds = tuple(range(len(before))), tuple(range(len(after)))
    return Sample(case, METRICS["test_loss"], margin, before, after, baseline is None, seeds)


def standardized(size: int, mean: float, sd: float) -> list[float]:
    """Values of exactly this mean and standard deviation."""
    raw = np.linspace(-1, 1, size)
    return (mean + sd * (raw - raw.mean()) / raw.std(ddof=1)).tolist()
