"""A progress bar on stderr, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int, float | None], None]
"""Called with the steps done, the steps to do, and the loss if it is known."""


@contextmanager
def progress_bar(description: str) -> Iterator[Progress | None]:
    """A function to report steps to, or None where nobody would see the bar."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    # The user's prints pass through untouched: they were sent to stderr, or are the script's own.
    with Bar(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        task = bar.add_task(description, total=None, loss="")

        def report(step: int, total: int, loss: float | None) -> None:
            bar.update(task, completed=step, total=total, loss="" if loss is None else f"loss {loss:.4g}")

        yield report
