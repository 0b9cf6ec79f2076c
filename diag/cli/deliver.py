"""Where a diagnosis goes: the terminal, a file, a page, a trace; and the exit code it gives."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from diag.cli.attempts import Attempts, show_text
from diag.cli.options import FailOn, Format
from diag.errors import DiagError

if TYPE_CHECKING:
    from diag.report.diagnosis import Diagnosis
    from diag.trace import Trace


@dataclass
class Delivery:
    """What the user asked to be written. prose: where text for people goes; None for stdout."""

    format: Format = Format.text
    output: Path | None = None
    html: Path | None = None
    trace: Path | None = None
    prose: TextIO | None = None
    _attempts: Attempts = field(default_factory=Attempts, init=False, repr=False)
    _kept: bool = field(default=False, init=False, repr=False)

    def require_writable(self) -> None:
        """Find out before the training, not after it, that a file cannot be written.

        Raises: DiagError naming the option and the path.
        """
        for option, path in (("--output", self.output), ("--html", self.html), ("--trace", self.trace)):
            if path is None:
                continue
            if path.is_dir():
                raise DiagError(f"{option} {path} is a folder: expected a file's name")
            nearest = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
            if nearest != path.absolute() and not nearest.is_dir():
                raise DiagError(f"{option} {path} cannot be written: '{nearest}' is no folder")
            if not os.access(nearest, os.W_OK):
                raise DiagError(f"{option} {path} cannot be written: no permission to write '{nearest}'")

    def keep(self, trace: Trace) -> None:
        """Write the trace if that was asked for, at once: to judge it and to show it may fail. `send` tells of it."""
        if self.trace is None or self._kept:
            return
        self._kept = True
        self._attempts.try_(partial(_save, trace, self.trace))

    def send(self, diagnosis: Diagnosis) -> None:
        """Write everything that was asked for, files first; what was written is said on stderr.

        Raises: DiagError that names what could not be written, when all the rest is.
        """
        from diag.atomic import write_text

        attempt = self._attempts.try_
        self.keep(diagnosis.trace)
        if self.output is not None:
            output = self.output
            attempt(lambda: write_text(output, self._rendered(diagnosis)))
        if self.html is not None:
            html = self.html
            attempt(lambda: diagnosis.to_html(html))
        if self.format is Format.github:
            attempt(lambda: _summarize(diagnosis))
        attempt(lambda: self._show(diagnosis))
        self._attempts.end()

    def _show(self, diagnosis: Diagnosis) -> None:
        """To people, or to whoever reads stdout."""
        if self.output is not None:
            self._print(diagnosis, sys.stderr)
        elif self.format is Format.text:
            self._print(diagnosis, self.prose or sys.stdout)
        else:
            show_text(self._rendered(diagnosis).rstrip("\n") + "\n")

    def _rendered(self, diagnosis: Diagnosis) -> str:
        if self.format is Format.text:
            page = io.StringIO()
            self._print(diagnosis, page)
            return page.getvalue()
        from diag.report.formats import render

        return render(diagnosis, self.format.value)

    def _print(self, diagnosis: Diagnosis, stream: TextIO) -> None:
        from rich.console import Console

        from diag.report.terminal import render

        render(diagnosis, Console(file=stream, width=None if stream.isatty() else 120))


def exit_code(diagnosis: Diagnosis, fail_on: FailOn) -> int:
    """1 if a finding is as grave as `fail_on`, else 0."""
    if fail_on is FailOn.never:
        return 0
    return 1 if diagnosis.at_least("error" if fail_on is FailOn.error else "warning") else 0


def _save(trace: Trace, path: Path) -> Path:
    from diag.trace import save

    path.parent.mkdir(parents=True, exist_ok=True)
    return save(trace, path)


def _summarize(diagnosis: Diagnosis) -> None:
    from diag.report import github, markdown

    github.append_summary(markdown.render(diagnosis))
