"""`diag run SUITE...`: run suites, and say which claims hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diag.errors import DiagError

if TYPE_CHECKING:
    from diag.suite.run import Run


class EngineName(StrEnum):
    """Where trials run."""

    local = "local"
    ray = "ray"


def run(
    suites: Annotated[list[str], typer.Argument(metavar="SUITE...", help="Names or files.", show_default=False)],
    quick: Annotated[bool, typer.Option("--quick", help="Smaller and with fewer seeds.")] = False,
    seeds: Annotated[int | None, typer.Option(min=1, metavar="N", help="Seeds per case.", show_default="suite")] = None,
    set: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of every recipe.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Worker processes.", show_default="cores")
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="Where trials run.")] = EngineName.local,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of the Ray cluster; or RAY_ADDRESS.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the run; with several suites, of their folders.", show_default=False
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Run only what is missing.")] = False,
    accept_change: Annotated[
        bool, typer.Option("--accept-change", help="Resume although the suite's file has changed.")
    ] = False,
) -> None:
    """Run the trials of one or more suites and judge their claims.

    Exit codes: 0 no claim fails, 1 a claim does not hold, 2 you must act, 130 interrupted or 143 terminated
    (--resume goes on).
    """
    from diag.cli.attempts import Attempts
    from diag.cli.interruption import interruption_told
    from diag.report.text import plural
    from diag.suite.load import load_suite
    from diag.suite.run import run_suite
    from diag.suite.suite import parse_changes

    changes = parse_changes(set or [])
    # All of them first: a mistake in the last must not wait for hours of the others.
    loaded = [load_suite(one) for one in suites]
    for suite in loaded:
        suite.variant(quick=quick, seeds=seeds, changes=changes)
    holds = True
    failed = 0
    attempts = Attempts()
    for suite in loaded:
        folder = output / suite.name if output is not None and len(loaded) > 1 else output
        sys.stderr.write(f"diag: {suite.name}: {suite.question}\n")
        with interruption_told(), _progress(suite.name) as watcher:
            result = run_suite(
                suite, quick=quick, seeds=seeds, changes=changes, output=folder, resume=resume,
                accept_change=accept_change, engine=engine.value, jobs=jobs, address=address, watcher=watcher,
            )  # fmt: skip
        attempts.try_(partial(_write, result))
        attempts.try_(partial(_show, result))
        holds &= result.holds
        failed += len(result.failures.errors)
    attempts.end()
    if failed:
        raise DiagError(f"{plural(failed, 'trial')} failed: mend what they say, and --resume runs them again")
    raise typer.Exit(0 if holds else 1)


def _write(result: Run) -> None:
    from diag.report.run.document import document
    from diag.report.run.files import write_report

    for name, error in list(result.failures.errors.items())[:5]:
        sys.stderr.write(f"diag: failed: {name}: {error}\n")
    sys.stderr.write(f"diag: wrote {write_report(document(result), result.folder)}\n")


def _show(result: Run) -> None:
    from rich.console import Console

    from diag.report.run.terminal import verdict_table

    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(verdict_table(result))


@contextmanager
def _progress(name: str) -> Iterator[Any]:
    """A live line with trials done, running, failed and the time left; where no terminal is, a line now and then."""
    if not sys.stderr.isatty():
        yield _quiet
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None, state="")
        running: dict[str, None] = {}
        failed = 0

        def watch(event: Any, done: int, total: int) -> None:
            nonlocal failed
            if event.state == "running":
                running[event.task.key] = None
            else:
                running.pop(event.task.key, None)
            failed += event.state == "failed"
            state = f"{len(running)} running" + (f", {failed} failed" if failed else "")
            bar.update(task, completed=done, total=total, state=state)

        yield watch


def _quiet(event: Any, done: int, total: int) -> None:
    if event.state == "failed":
        sys.stderr.write(f"diag: failed: {event.task.case} seed {event.task.seed}: {event.error}\n")
    elif event.state == "lost":
        sys.stderr.write(f"diag: a worker died; {event.task.case} seed {event.task.seed} is tried again\n")
    elif event.state == "done" and (done == total or done % max(1, total // 10) == 0):
        sys.stderr.write(f"diag: {done} of {total} trials\n")
