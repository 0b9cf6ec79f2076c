"""A mistake of ours must not end a training: what fails while it watches ends the watch, with a note."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from diag.errors import STRICT


class Unharmed:
    """error: what was raised first, or nothing. on_failed: is told of it, where the user's code is still running."""

    def __init__(self) -> None:
        self.error = ""
        self.on_failed: Callable[[], None] = lambda: None

    def see(self, error: Exception) -> None:
        """It has failed. Raises: the error, where that is asked for."""
        if os.environ.get(STRICT):
            raise error
        if not self.error:
            self.error = f"{type(error).__name__}: {error}"
            self.on_failed()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Around what measures, where the user's code would meet what it raises."""
        try:
            yield
        except Exception as error:
            self.see(error)
