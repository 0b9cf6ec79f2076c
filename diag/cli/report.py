"""`diag report RUN`: the report of a run that is there, or of a trace that `--trace` wrote."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from diag.cli.options import Format, HtmlOption
from diag.errors import DiagError


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="A run's folder, or a trace that --trace wrote.", show_default=False),
    ],
    format: Annotated[
        Format | None, typer.Option("--format", help="Print it in this format.", show_default="text")
    ] = None,
    html: HtmlOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Write the page, Markdown, figures and tables there."),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option("--gallery", metavar="DIR", help="A folder of answers: one per RUN, linked by a README."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Execute the run's suite file although you never ran it.")
    ] = False,
) -> None:
    """Show a run again, as a page, Markdown and tables.

    The page, Markdown with figures, and every table as CSV and parquet are written into its folder or DIR.

    A run's figures and verdicts are made by its suite's file, which is executed if you have run it on this machine.
    """
    for one in runs:
        if not one.exists():
            raise DiagError(f"no run at {one}: expected a folder such as diag-runs/quick-001, or a trace's file")
    if gallery is not None:
        if html is not None or output is not None or format is not None:
            raise DiagError("--gallery DIR writes files of its own: leave out --html, --output and --format")
        if file := next((one for one in runs if one.is_file()), None):
            raise DiagError(f"--gallery takes runs' folders, and {file} is a file")
        from diag.report.run.gallery import write_gallery

        _say(write_gallery(runs, gallery, trust=trust))
        return
    if len(runs) > 1 and (html is not None or output is not None):
        raise DiagError("--html and --output take one RUN; several go into a --gallery DIR")
    if len(runs) > 1 and format not in (None, Format.text, Format.markdown):
        raise DiagError(f"--format {format.value} takes one RUN: several would not be one document")
    for one in runs:
        if one.is_file():
            _trace(one, format or Format.text, html, output)
        else:
            _run(one, format, html, output, trust)


def _trace(path: Path, format: Format, html: Path | None, output: Path | None) -> None:
    from diag.cli.deliver import Delivery
    from diag.report.diagnosis import diagnose
    from diag.trace import load

    if output is not None:
        raise DiagError("--output DIR is for a run's folder; a trace's report is one page: --html FILE")
    delivery = Delivery(format, None, html, None)
    delivery.require_writable()
    delivery.send(diagnose(load(path), title=path.name, command=f"diag report {path}"))


def _run(path: Path, format: Format | None, html: Path | None, output: Path | None, trust: bool) -> None:
    from diag.report.run import files, markdown, page
    from diag.report.run.document import document
    from diag.suite.run import open_run

    if format not in (None, Format.text, Format.json, Format.markdown):
        raise DiagError(f"--format {format.value} is for a diagnosis; a run's report is text, json or markdown")
    opened = open_run(path, trust=trust)
    content = document(opened)
    if format is Format.json:
        sys.stdout.write(files.to_json(content))
    elif format is Format.markdown:
        sys.stdout.write(markdown.render(content))
    else:
        _print(opened, content.answer, content.unfinished)
    if html is not None:
        _say(page.write_page(content, html))
    if output is not None or (html is None and format is None):
        _say(files.write_report(content, output or path))


def _print(run, answer: str, unfinished: str) -> None:  # type: ignore[no-untyped-def] # Run: imported when needed
    from rich.console import Console

    from diag.report.run.terminal import verdict_table
    from diag.report.text import plain

    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(plain(run.suite.question), style="bold", markup=False)
    console.print(plain(answer), markup=False)
    console.print(verdict_table(run))
    if unfinished:
        sys.stderr.write(f"diag: {unfinished}\n")


def _say(path: Path) -> None:
    sys.stderr.write(f"diag: wrote {path}\n")
