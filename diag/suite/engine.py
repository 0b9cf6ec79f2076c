"""What an engine is: it runs tasks and says of each how it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from diag.suite.suite import Suite
from diag.suite.task import Task


@dataclass(frozen=True)
class Event:
    """A trial began (`running`), ended (`done`), failed in the user's code (`failed`), or lost its worker and is tried
    again (`lost`)."""

    state: str
    task: Task
    error: str = ""
    traceback: str = ""


@dataclass
class Failures:
    """The trials that failed, with their errors."""

    errors: dict[str, str] = field(default_factory=dict)
    tracebacks: dict[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """Runs tasks; each record is in `folder / f"{key}.trial"`, written atomically, before its `done` is reported."""

    def run(self, suite: Suite, tasks: Sequence[Task], folder: Path, report: Callable[[Event], None]) -> None:
        """Run all tasks. A task that fails is reported and does not end the others.

        Raises: DiagError where nothing can go on: no space, no cluster.
        """
        ...


def record_file(folder: Path, task: Task) -> Path:
    """Where a trial's record goes."""
    return folder / f"{task.key}.trial"
