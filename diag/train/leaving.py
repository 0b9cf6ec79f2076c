"""Ways out of a script that pass by whoever runs it: `os._exit`, and the children that it forks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

UNTOLD = 2
"""The exit code of a script that calls `os._exit(0)`: nothing was judged, so that it must not read as healthy."""


class Leaving:
    """While a script runs, `os._exit` says that nothing will be reported; of a child that it has forked it does not.

    keep: writes what was seen until then, and says whether it did.
    """

    def __init__(self, script: Path, keep: Callable[[], bool]) -> None:
        self._script, self._keep = script, keep
        self._process = os.getpid()
        self._before: Callable[[int], Any] = os._exit

    def __enter__(self) -> Self:
        self._before = os._exit
        os._exit = self._exit
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os._exit = self._before  # type: ignore[assignment] # what it was

    @property
    def is_child(self) -> bool:
        """Whether this is a process that the script has forked: it reports nothing."""
        return os.getpid() != self._process

    def _exit(self, status: int) -> Any:
        if not self.is_child:
            kept = "" if self._keep() else " (--trace FILE keeps what was seen until then)"
            sys.stderr.write(f"diag: {self._script} ends by os._exit({status}), which ends diag too: no report{kept}\n")
            sys.stderr.flush()
            status = status or UNTOLD
        self._before(status)
