"""The formats a diagnosis can be rendered in, by name."""

from __future__ import annotations

import io

from diag.errors import DiagError, nearest
from diag.report import github, gitlab, junit, markdown, sarif
from diag.report.diagnosis import Diagnosis

FORMATS = ("text", "json", "markdown", "github", "junit", "sarif", "gitlab")
MACHINE = {
    "json": lambda diagnosis: diagnosis.to_json() + "\n",
    "markdown": markdown.render,
    "github": github.render,
    "junit": junit.render,
    "sarif": sarif.render,
    "gitlab": gitlab.render,
}


class UnknownFormatError(DiagError):
    """A format was asked for that does not exist."""


def render(diagnosis: Diagnosis, format: str) -> str:
    """The diagnosis in one of `FORMATS`; `text` is what a terminal shows, without color, 100 columns wide.

    Raises: UnknownFormatError.
    """
    if format == "text":
        return _text(diagnosis)
    if format not in MACHINE:
        raise UnknownFormatError(
            f"unknown format '{format}': expected one of {', '.join(FORMATS)}{nearest(format, FORMATS)}"
        )
    return MACHINE[format](diagnosis)


def _text(diagnosis: Diagnosis) -> str:
    # rich is needed for this format alone.
    from rich.console import Console

    from diag.report import terminal

    file = io.StringIO()
    terminal.render(diagnosis, Console(file=file, width=100, force_terminal=False, color_system=None))
    return file.getvalue()
