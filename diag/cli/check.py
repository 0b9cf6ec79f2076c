"""`diag check TARGET`: train a workload for some steps, watched, and judge it."""

from __future__ import annotations

import contextlib
import shlex
import sys
from typing import Annotated

import typer

from diag.cli.options import FailOn, FailOnOption, Format, FormatOption, HtmlOption, OutputOption, TraceOption


def check(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="path/to/file.py:name or package.module:name.", show_default=False)
    ],
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Training steps to watch.")] = 30,
    input: Annotated[
        str | None,
        typer.Option("--input", metavar="SHAPE", help="For a bare module: 32x784, or 8x128:int64; several with ';'."),
    ] = None,
    format: FormatOption = Format.text,
    output: OutputOption = None,
    html: HtmlOption = None,
    trace: TraceOption = None,
    fail_on: FailOnOption = FailOn.error,
) -> None:
    """Train a model for some steps and say what is wrong with it.

    TARGET names a diag.Workload, an nn.Module, or a function without arguments that returns either.
    Model, optimizer and random state are left as they were found.
    """
    from diag.check import check as run
    from diag.cli.deliver import Delivery, exit_code
    from diag.cli.progress import progress_bar
    from diag.cli.project import use_settings
    from diag.train.target import load_target

    delivery = Delivery(format, output, html, trace)
    delivery.require_writable()
    use_settings()
    words = ["diag", "check", target, "--steps", str(steps)] + (["--input", input] if input is not None else [])
    # stdout is the report's alone: what the user's code prints goes to stderr.
    with contextlib.redirect_stdout(sys.stderr):
        workload = load_target(target, input_shape=input)
        with progress_bar(f"check {target}") as progress:
            diagnosis = run(
                workload, steps, progress=progress, keep=delivery.keep, title=target, command=shlex.join(words)
            )
    delivery.send(diagnosis)
    raise typer.Exit(exit_code(diagnosis, fail_on))
