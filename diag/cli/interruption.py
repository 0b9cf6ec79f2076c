"""A run that ends early, by Ctrl-C or by SIGTERM as a scheduler sends it: what is done is kept, and said."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import typer

_INTERRUPTED, _TERMINATED = 130, 143
"""Exit codes: 128 and the number of the signal."""


@contextlib.contextmanager
def interruption_told() -> Iterator[None]:
    """While it lasts SIGTERM interrupts as Ctrl-C does, once, unless somebody handles it already; a run that either
    ends says what it keeps.

    Raises: typer.Exit with 130 or 143.
    """
    from diag.suite.errors import InterruptedRunError

    code = _INTERRUPTED

    def handle(number: int, frame: Any) -> None:
        nonlocal code
        code = _TERMINATED
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is kept is being written
        raise KeyboardInterrupt

    ours = False
    with contextlib.suppress(ValueError):  # only the main thread may handle signals
        ours = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if ours:
            signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except InterruptedRunError as error:
        # Here, since Typer would end the program without a word.
        sys.stderr.write(f"diag: {error}\n")
        raise typer.Exit(code) from None
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
