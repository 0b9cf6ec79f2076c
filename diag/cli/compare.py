"""`diag compare RUN RUN`: two runs side by side."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diag.cli.options import HtmlOption


class CompareFormat(StrEnum):
    """How a comparison is written."""

    text = "text"
    json = "json"
    markdown = "markdown"


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="The run to compare with.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="The other one.", show_default=False)],
    format: Annotated[CompareFormat, typer.Option(help="Format of the comparison.")] = CompareFormat.text,
    html: HtmlOption = None,
) -> None:
    """Compare two runs case by case.

    Shows differences with their intervals, and the recipes and verdicts that changed.

    Nothing of the runs is executed. Differences do not change the exit code: to judge them is what `diag gate` is for.
    """
    from diag.atomic import write_text
    from diag.report.run import side_by_side
    from diag.suite.comparison import compare as compare_runs

    found = compare_runs(first, second)
    if format is CompareFormat.json:
        sys.stdout.write(side_by_side.to_json(found))
    elif format is CompareFormat.markdown:
        sys.stdout.write(side_by_side.markdown(found))
    else:
        from rich.console import Console

        from diag.report.text import plain

        console = Console(width=None if sys.stdout.isatty() else 140)
        console.print(side_by_side.summary(found), markup=False)
        for line in side_by_side.remarks(found)[:20]:
            console.print(f"- {plain(line)}", markup=False)
        if len(found.differing):
            console.print(side_by_side.terminal(found))
    if html is not None:
        sys.stderr.write(f"diag: wrote {write_text(html, side_by_side.page(found))}\n")
