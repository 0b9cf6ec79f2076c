"""A long watch's measurements written while it runs, so that a process that is killed leaves what it saw."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

from diag.errors import DiagError
from diag.probe.presence import own_rank
from diag.probe.probe import Probe
from diag.trace import save

VARIABLE = "DIAG_SAVE_SECONDS"
_SECONDS = 30.0
_SHARE = 0.01


class Keeper:
    """Saves a probe's trace now and then: every half a minute, or as often as is asked for.

    The first is written by then whatever it takes. After it the limit is 1 % of the time: the next waits at least a
    hundred times as long as the last one took. Of several ranks only the first one does: all have the same path.
    """

    def __init__(self, probe: Probe, path: Path) -> None:
        self._probe = probe
        self._path = path.absolute()  # the script may go elsewhere
        self._pause = _seconds()
        self._next = time.monotonic() + self._pause
        self._process = os.getpid()
        probe.on_closed = self._see_step

    def _see_step(self) -> None:
        start = time.monotonic()
        if start < self._next or own_rank() > 0 or os.getpid() != self._process:  # a child that was forked
            return
        if not self.keep():
            self._next = math.inf
            return
        end = time.monotonic()
        self._next = end + max(self._pause, (end - start) / _SHARE)

    def keep(self) -> bool:
        """Write what was seen until now; whether that could be done."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            save(self._probe.trace(), self._path)
        except (OSError, DiagError) as error:
            # A training must not fail because it is watched.
            sys.stderr.write(f"diag: {error}; what is measured will be written when the script ends\n")
            return False
        return True


def _seconds() -> float:
    """Raises: DiagError if the environment asks for something that is no number of seconds."""
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else _SECONDS
    except ValueError:
        seconds = -1.0
    if not seconds > 0:
        raise DiagError(f"{VARIABLE} is a number of seconds above 0, such as 30; got '{text}'")
    return seconds
