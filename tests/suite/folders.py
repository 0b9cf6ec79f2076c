"""Run folders made by hand: records without a training, and the files beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diag.atomic import write_bytes
from diag.recipes.recipe import Recipe
from diag.suite.engine import Event, record_file
from diag.suite.load import source_hash
from diag.suite.record import Record, packed, trial_key
from diag.suite.suite import Suite
from diag.suite.task import Task, execute

ENVIRONMENT = {"diag": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "device": "cpu", "threads": 1}


class Inline:
    """An engine that runs trials in this process, which has torch loaded already."""

    def run(self, suite: Suite, tasks: Sequence[Task], folder: Path, report: Callable[[Event], None]) -> None:
        for task in tasks:
            try:
                content = execute(task, suite.source, str(suite.path), source_hash(suite.source))
            except Exception as error:
                report(Event("failed", task, str(error)))
                continue
            write_bytes(record_file(folder, task), content)
            report(Event("done", task))


def trial(
    case: str,
    seed: int,
    *,
    recipe: Recipe | None = None,
    tables: dict[str, pd.DataFrame] | None = None,
    environment: dict[str, Any] | None = None,
    **metrics: float,
) -> Record:
    """A trial of a recipe, or of an experiment that has none."""
    content: dict[str, Any] = {"experiment": "made", "parameters": {}}
    if recipe is not None:
        content = {"recipe": recipe.to_dict()}
    held = {name: packed(table) for name, table in (tables or {}).items()}
    return Record(case, seed, content, metrics, {"train": 0.5}, environment or ENVIRONMENT, held)


def trials(metric: str, recipe: Recipe | None = None, **cases: list[float]) -> list[Record]:
    """A trial per case and value of one metric; the seeds count from 0."""
    return [
        trial(case, seed, recipe=recipe, **{metric: value})
        for case, values in cases.items()
        for seed, value in enumerate(values)
    ]


def write_run(
    folder: Path,
    records: Iterable[Record],
    *,
    source: str = "",
    verdicts: dict[str, str] | None = None,
    **header: Any,
) -> Path:
    """A finished run's folder with these trials; header: what `run.json` says otherwise, None for what it lacks."""
    several = list(records)
    (folder / "trials").mkdir(parents=True)
    for one in several:
        name = trial_key(one.case, one.seed, one.content)
        (folder / "trials" / f"{name}.trial").write_bytes(one.to_bytes())
    usual = {
        "schema": 1, "suite": "mine", "file": "/nowhere/mine.py", "hash": source_hash(source), "diag": "0.1.0",
        "settings": {"quick": False, "seeds": None, "set": {}}, "commit": "0123456789ab", "seconds": 12.5,
        "began": "2026-01-02T03:04:05+00:00", "trials": len(several), "finished": True,
    }  # fmt: skip
    content = {key: value for key, value in (usual | header).items() if value is not None}
    (folder / "run.json").write_text(json.dumps(content))
    (folder / "suite.py").write_text(source)
    if verdicts is not None:
        claims = [{"statement": what, "verdict": verdict} for what, verdict in verdicts.items()]
        (folder / "verdicts.json").write_text(json.dumps({"schema": 1, "claims": claims}))
    return folder
