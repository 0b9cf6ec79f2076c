"""`diag scale TARGET --width 1,2,4,8`: do signals stay level as the network grows?"""

from __future__ import annotations

import contextlib
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diag.errors import DiagError


class ScaleFormat(StrEnum):
    """How the result is written."""

    text = "text"
    json = "json"
    markdown = "markdown"


def scale(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="path/to/file.py:name of a function of width or depth.", show_default=False
        ),
    ],
    width: Annotated[
        str | None, typer.Option("--width", metavar="1,2,4,8", help="Multiples of the default of its `width`.")
    ] = None,
    depth: Annotated[
        str | None, typer.Option("--depth", metavar="1,2,4,8", help="Multiples of the default of its `depth`.")
    ] = None,
    steps: Annotated[int, typer.Option(min=2, metavar="N", help="Training steps of each network.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Seeds of each size.")] = 5,
    format: Annotated[ScaleFormat, typer.Option(help="Format of the result.")] = ScaleFormat.text,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with pictures there, one file.")
    ] = None,
) -> None:
    """Train a model at several sizes and judge how its signals scale.

    TARGET is a function that returns a diag.Workload with an optimizer and takes `width` or `depth`; one without a
    default takes the numbers as they are. Exit codes: 0 all level, 1 something grows or shrinks, 2 you must act, or
    these seeds cannot tell.
    """
    from diag.atomic import write_text
    from diag.cli.attempts import Attempts, show_text
    from diag.cli.progress import progress_bar
    from diag.report import scaling as report
    from diag.scaling.scale import scale as check
    from diag.train.target import sized_target

    if width is not None and depth is not None:
        raise DiagError("--width and --depth were both given: one at a time, since each needs slopes of its own")
    if width is None and depth is None:
        raise DiagError("give --width or --depth, with the multiples to build, such as --width 1,2,4,8")
    axis, text = ("width", width) if width is not None else ("depth", depth or "")
    with contextlib.redirect_stdout(sys.stderr):
        build, base = sized_target(target, axis)
        sizes = [base * one for one in _numbers(axis, text)]
        with progress_bar(f"scale {target}") as bar:
            progress = None if bar is None else lambda done, total: bar(done, total, None)
            found = check(build, sizes, axis=axis, seeds=seeds, steps=steps, progress=progress, target=target)
    attempts = Attempts()
    if html is not None:
        attempts.try_(lambda: write_text(html, report.page(found, target)))
    if format is ScaleFormat.json:
        attempts.try_(lambda: show_text(json.dumps(found.to_dict(), indent=2, allow_nan=False) + "\n"))
    elif format is ScaleFormat.markdown:
        attempts.try_(lambda: show_text(report.markdown(found)))
    else:
        attempts.try_(lambda: report.show(found, sys.stdout))
    attempts.end()
    raise typer.Exit({"level": 0, "changes": 1, "cannot tell": 2}[found.answer])


def _numbers(axis: str, text: str) -> list[int]:
    try:
        found = [int(one) for one in text.split(",")]
    except ValueError:
        found = []
    if len(set(found)) < 2 or min(found, default=0) < 1:
        raise DiagError(f"--{axis} takes two or more whole numbers from 1, such as 1,2,4,8; got '{text}'")
    return found
