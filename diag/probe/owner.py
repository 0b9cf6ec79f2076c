"""The thread whose training is watched: what others do at the same time is theirs."""

from __future__ import annotations

import threading


class Owner:
    """The thread that began the watch, until another one trains what is watched while this one does not.

    sole: only before the first step, or after the thread's end; where every model is watched, two threads that train
    would be taken for one.
    """

    def __init__(self, *, sole: bool) -> None:
        self._sole = sole
        self._ident = threading.get_ident()
        self._stepped = False

    def begin(self) -> None:
        """The watch begins in this thread."""
        self._ident = threading.get_ident()
        self._stepped = False

    def is_here(self) -> bool:
        """Whether this is the thread."""
        return threading.get_ident() == self._ident

    def step(self) -> None:
        """What is watched has taken a step."""
        self._stepped = True

    def is_free(self) -> bool:
        """Whether this is the thread, or may become it."""
        return self.is_here() or not (self._sole and self._stepped and _is_alive(self._ident))

    def move_here(self) -> None:
        """From now on it is this one."""
        self._ident = threading.get_ident()


def _is_alive(ident: int) -> bool:
    return any(one.ident == ident for one in threading.enumerate())
