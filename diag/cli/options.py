"""The options that `check` and `watch` share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How a diagnosis is written."""

    text = "text"
    json = "json"
    markdown = "markdown"
    github = "github"
    junit = "junit"
    sarif = "sarif"
    gitlab = "gitlab"


class FailOn(StrEnum):
    """From which severity on a finding makes the exit code 1."""

    error = "error"
    warning = "warning"
    never = "never"


FormatOption = Annotated[Format, typer.Option("--format", help="Format of the report.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write the report there instead of to stdout.")
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with pictures there, one file.")
]
TraceOption = Annotated[
    Path | None, typer.Option("--trace", metavar="FILE", help="Also write what was measured there, as parquet.")
]
FailOnOption = Annotated[FailOn, typer.Option("--fail-on", help="The least severity that makes the exit code 1.")]
