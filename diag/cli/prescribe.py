"""`diag prescribe TARGET`: remedies for what is wrong, each tried on a copy."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from diag.cli.options import HtmlOption, OutputOption

if TYPE_CHECKING:
    from diag.prescribe.prescribe import Prescription


class PrescribeFormat(StrEnum):
    """How a prescription is written."""

    text = "text"
    json = "json"
    markdown = "markdown"


def prescribe(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="path/to/file.py:name or package.module:name.", show_default=False)
    ],
    steps: Annotated[
        int, typer.Option(min=5, metavar="N", help="Training steps: of each trial, and judged (30 or more).")
    ] = 60,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Trials of each remedy.")] = 3,
    most: Annotated[int, typer.Option(min=1, metavar="N", help="Remedies to try.")] = 8,
    all_: Annotated[bool, typer.Option("--all", help="Try remedies on a healthy training too.")] = False,
    budget: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="After so long no other remedy is begun.")
    ] = None,
    input: Annotated[
        str | None,
        typer.Option("--input", metavar="SHAPE", help="For a bare module: 32x784, or 8x128:int64; several with ';'."),
    ] = None,
    format: Annotated[PrescribeFormat, typer.Option(help="Format of the report.")] = PrescribeFormat.text,
    output: OutputOption = None,
    html: HtmlOption = None,
) -> None:
    """Try remedies on copies of a model and say which one helps.

    Judges the training, tries what may help, and prints by how much it does and the lines to paste.

    TARGET names a diag.Workload, an nn.Module, or a function without arguments that returns either.
    Exit codes: 0 a remedy helped or nothing is wrong, 1 an error remains and nothing helped, 2 you must act.
    """
    from diag.atomic import write_text
    from diag.cli.attempts import Attempts, show_text
    from diag.cli.deliver import Delivery
    from diag.cli.progress import progress_bar
    from diag.cli.project import use_settings
    from diag.prescribe.prescribe import prescribe as run
    from diag.report import prescription as report
    from diag.train.target import load_target

    Delivery(output=output, html=html).require_writable()
    use_settings()
    with contextlib.redirect_stdout(sys.stderr):
        workload = load_target(target, input_shape=input)
        with progress_bar(f"prescribe {target}") as progress:
            found = run(workload, steps, seeds, most, everything=all_, budget=budget, progress=progress)
    if format is PrescribeFormat.json:
        text = json.dumps(found.to_dict(), indent=2, allow_nan=False) + "\n"
    else:
        text = report.markdown(found, target) if format is PrescribeFormat.markdown else report.text(found, target)
    words = ["diag", "prescribe", target, "--steps", str(steps), "--seeds", str(seeds), "--most", str(most)]
    words += [*(["--all"] if all_ else []), *(["--input", input] if input is not None else [])]
    attempts = Attempts()
    if output is not None:
        attempts.try_(lambda: write_text(output, text))
    if html is not None:
        attempts.try_(lambda: write_text(html, report.page(found, target, shlex.join(words))))
    if output is None and format is not PrescribeFormat.text:
        attempts.try_(lambda: show_text(text))
    else:
        attempts.try_(lambda: report.show(found, sys.stdout if output is None else sys.stderr, target))
    attempts.end()
    raise typer.Exit(exit_code(found))


def exit_code(found: Prescription) -> int:
    """1 if there is an error that no remedy was shown to help, else 0."""
    return 0 if found.watched.healthy or found.best is not None else 1
