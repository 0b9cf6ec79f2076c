"""Where a diagnosis goes: the terminal, a file, a page, a trace; and the exit code it gives."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from diag.cli.options import FailOn, Format
from diag.errors import DiagError

if TYPE_CHECKING:
    from diag.report.diagnosis import Diagnosis


@dataclass(frozen=True)
class Delivery:
    """What the user asked to be written. prose: where text for people goes; None for stdout."""

    format: Format = Format.text
    output: Path | None = None
    html: Path | None = None
    trace: Path | None = None
    prose: TextIO | None = None

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

    def send(self, diagnosis: Diagnosis) -> None:
        """Write everything that was asked for; what was written is said on stderr."""
        if self.output is not None:
            from diag.atomic import write_text

            write_text(self.output, self._rendered(diagnosis))
            self._print(diagnosis, sys.stderr)
            _say_written(self.output)
        elif self.format is Format.text:
            self._print(diagnosis, self.prose or sys.stdout)
        else:
            sys.stdout.write(self._rendered(diagnosis).rstrip("\n") + "\n")
            sys.stdout.flush()
        if self.format is Format.github:
            from diag.report import github, markdown

            github.append_summary(markdown.render(diagnosis))
        if self.html is not None:
            _say_written(diagnosis.to_html(self.html))
        if self.trace is not None:
            from diag.trace import save

            self.trace.parent.mkdir(parents=True, exist_ok=True)
            save(diagnosis.trace, self.trace)
            _say_written(self.trace)

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


def _say_written(path: Path) -> None:
    sys.stderr.write(f"diag: wrote {path}\n")
