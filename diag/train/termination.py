"""What SIGTERM does to a script that is watched, and to the report that follows it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from diag.train.joined import Joined


class Termination:
    """A terminated script still reports: SIGTERM becomes an exit, unless the script handles it itself.

    A launcher terminates all ranks as soon as one has failed, and kills them much later: the report is written by then.
    """

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._before: Any = None
        self._running = False

    def __enter__(self) -> Self:
        with contextlib.suppress(ValueError):  # only the main thread may handle signals
            self._before = signal.getsignal(signal.SIGTERM)
            if self._before is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if signal.getsignal(signal.SIGTERM) == self._handle and not self._joined.several:
            signal.signal(signal.SIGTERM, self._before)

    @contextlib.contextmanager
    def script_runs(self) -> Iterator[None]:
        """While it does, it is what SIGTERM ends."""
        self._running = True
        try:
            yield
        finally:
            self._running = False
            if self._joined.several:  # whatever the script has left there
                with contextlib.suppress(ValueError):
                    signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if self._running:
            raise SystemExit(128 + number)
        self._joined.hurry()
