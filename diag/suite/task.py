"""One trial as it is sent to a worker, on this machine or another, and its execution there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from diag.recipes.recipe import Recipe
from diag.rules.judge import judge
from diag.suite.errors import SuiteError
from diag.suite.load import module_of, source_hash, suite_from_source
from diag.suite.record import Record, packed, trial_key
from diag.suite.suite import Case, Suite

if TYPE_CHECKING:
    from diag.train.trial import Measured, Session


@dataclass(frozen=True)
class Task:
    """What a worker needs beside the suite's source: names, numbers and text. content: `{"recipe": ...}`, or
    `{"experiment": name, "parameters": ...}`."""

    case: str
    seed: int
    content: dict[str, Any]

    @property
    def key(self) -> str:
        """The trial's name."""
        return trial_key(self.case, self.seed, self.content)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"case": self.case, "seed": self.seed, "content": self.content}


def tasks_of(cases: dict[str, Case], seeds: int) -> list[Task]:
    """Every case with every seed; seed by seed, so that a run that is interrupted has seen all cases."""
    contents = {
        name: {"recipe": case.to_dict()} if isinstance(case, Recipe) else case.to_dict() for name, case in cases.items()
    }
    return [Task(name, seed, content) for seed in range(seeds) for name, content in contents.items()]


@lru_cache(maxsize=4)
def _suite(source: str, path: str, hash: str) -> Suite:
    if source_hash(source) != hash:
        raise SuiteError(f"{path} is not the version that the run began with")
    return suite_from_source(source, Path(path))


def judged(session: Session) -> Measured:
    """What the rules say of the steps that were watched: a row of the table `findings` each, and how many are errors
    and warnings; nothing where no step was watched."""
    if not len(session.trace.frame):
        return {}
    found = judge(session.trace, thresholds={})
    rows = [(one.rule, one.severity, one.site, one.message) for one in found]
    return {
        "findings_error": sum(one.severity == "error" for one in found),
        "findings_warning": sum(one.severity == "warning" for one in found),
        "findings": pd.DataFrame(rows, columns=["rule", "severity", "site", "message"], dtype="str"),
    }


def execute(task: Task, source: str, path: str, hash: str) -> bytes:
    """Run one trial in this process, on one thread; returns the content of its record's file.

    Raises: whatever the user's code raises.
    """
    import torch

    from diag.train.one_thread import one_thread
    from diag.train.trial import Outcome, run_recipe, trial_environment

    with one_thread():
        suite = _suite(source, path, hash)
        if "recipe" in task.content:
            recipe = Recipe.from_dict(task.content["recipe"])
            outcome = run_recipe(
                recipe,
                task.seed,
                looks=suite.looks,
                validations=suite.validations,
                measures=[judged, *suite.measures],
            )
        else:
            outcome = Outcome(environment=trial_environment())
            function: Callable[..., Any] = getattr(module_of(suite), task.content["experiment"])
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(task.seed)
                outcome.add(function(task.seed, **task.content["parameters"]))
    tables = {name: packed(table) for name, table in outcome.tables.items()}
    record = Record(
        task.case, task.seed, task.content, outcome.metrics, outcome.timing, outcome.environment, tables=tables
    )
    return record.to_bytes()
