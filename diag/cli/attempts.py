"""Several things to be written, of which one that fails must not take the others with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from diag.errors import DiagError


class Attempts:
    """What was written is said on stderr when all is done, and then what could not be."""

    def __init__(self) -> None:
        self._written: list[Path] = []
        self._failures: list[str] = []

    def try_(self, write: Callable[[], Path | None]) -> None:
        """Run `write`, which returns the file that it wrote, or None where there is nothing to say."""
        try:
            path = write()
        except BrokenPipeError:
            raise
        except DiagError as error:
            self._failures.append(str(error))
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            self._failures.append(f"cannot write {place}{error.strerror or error}")
        else:
            if path is not None:
                self._written.append(path)

    def end(self) -> None:
        """Raises: DiagError that names everything that could not be written."""
        for path in self._written:
            sys.stderr.write(f"diag: wrote {path}\n")
        if self._failures:
            raise DiagError("; ".join(dict.fromkeys(self._failures)))


def show_text(text: str) -> None:
    """Write it to stdout, and not only to its buffer."""
    sys.stdout.write(text)
    sys.stdout.flush()
