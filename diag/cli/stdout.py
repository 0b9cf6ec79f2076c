"""stdout that is closed or full: told in one line like every mistake, and told apart from errors of ours."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from diag.errors import DiagError


class StdoutError(DiagError):
    """What a command says cannot be written to stdout."""


class Stdout:
    """stdout under another name: of it nothing differs but how it fails. stream: None where it is closed."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.failed = False

    def write(self, text: str) -> int:
        """Raises: StdoutError where it is closed or full."""
        if self.stream is None:
            raise StdoutError("stdout is closed: send it to a file, or to /dev/null where nobody reads it")
        with self._told():
            return self.stream.write(text)

    def flush(self) -> None:
        """Raises: StdoutError where what was written finds no room."""
        if self.stream is not None:
            with self._told():
                self.stream.flush()

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self.stream is not None and self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = True
            if isinstance(error, BrokenPipeError):
                raise  # the reader has seen enough
            raise StdoutError(f"cannot write to stdout: {error.strerror or error}") from None


@contextlib.contextmanager
def stdout_told() -> Iterator[None]:
    """Errors of stdout are StdoutErrors inside, those of the end included: what is left in its buffer is written here.

    A pipe whose reader has gone ends the program with status 1, without a word.
    """
    own = Stdout(sys.stdout)
    sys.stdout = cast(TextIO, own)
    try:
        try:
            yield
        except SystemExit:
            own.flush()
            raise
    except BrokenPipeError:
        sys.exit(1)
    finally:
        sys.stdout = cast(TextIO, own.stream)
        if own.failed:
            _discard(own)


@contextlib.contextmanager
def plain_stdout() -> Iterator[None]:
    """stdout as it is, for what is not ours: a script meets what Python would have given it."""
    own = sys.stdout
    if not isinstance(own, Stdout):
        yield
        return
    sys.stdout = cast(TextIO, own.stream)
    try:
        yield
    finally:
        if sys.stdout is own.stream:  # else the script has put its own there
            sys.stdout = cast(TextIO, own)


def _discard(own: Stdout) -> None:
    """Let what is left go nowhere, or Python would fail once more when it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        place = own.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, place)
        os.close(nowhere)
