"""One trial as it is sent to a worker, on this machine or another, and its execution there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from diag.recipes.recipe import Recipe
from diag.suite.errors import SuiteError
from diag.suite.load import module_of, source_hash, suite_from_source
from diag.suite.record import Record, packed, trial_key
from diag.suite.suite import Case, Suite


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
                recipe, task.seed, looks=suite.looks, validations=suite.validations, measures=suite.measures
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
