"""SIGTERM, as a scheduler sends it before its time is up, taken as Ctrl-C is: what is done is kept and said."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes: 128 and the number of the signal."""


class Ended:
    """code: the exit code of a command that was interrupted, by whichever signal it was."""

    code = INTERRUPTED


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[Ended]:
    """While it lasts SIGTERM raises KeyboardInterrupt, once; unless somebody handles it already."""
    ended = Ended()

    def handle(number: int, frame: Any) -> None:
        ended.code = TERMINATED
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is kept is being written
        raise KeyboardInterrupt

    ours = False
    with contextlib.suppress(ValueError):  # only the main thread may handle signals
        ours = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if ours:
            signal.signal(signal.SIGTERM, handle)
    try:
        yield ended
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
