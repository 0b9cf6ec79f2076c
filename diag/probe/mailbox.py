"""What a rank leaves for another in the store by which all found each other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_CHUNK = 4 << 20  # the store takes at most 8 MiB
_PAUSE = 0.02


def post(store: Any, name: str, data: bytes) -> None:
    """Leave this under a name."""
    pieces = range(0, len(data), _CHUNK)
    for number, start in enumerate(pieces):
        store.set(f"{name}/{number}", data[start : start + _CHUNK])
    store.set(name, str(len(pieces)).encode())


def fetch(store: Any, name: str, expired: Callable[[], bool]) -> bytes:
    """What was left under it.

    Raises: RuntimeError if there is still nothing when time has expired.
    """
    # To wait within the store would keep a signal from being handled.
    while not store.check([name]):
        if expired():
            raise RuntimeError(f"nothing was posted as {name}")
        time.sleep(_PAUSE)
    return b"".join(store.get(f"{name}/{number}") for number in range(int(store.get(name))))
