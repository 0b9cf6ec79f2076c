"""Loaders of data that are begun again and again."""

from __future__ import annotations

import weakref
from typing import Any

from torch.utils.data import DataLoader, SequentialSampler


class Loaders:
    """Counts how often each loader that gives its batches in a fixed order was begun."""

    def __init__(self) -> None:
        self._begun: dict[int, tuple[weakref.ref[Any], int, int]] = {}

    def see(self, loader: DataLoader[Any]) -> None:
        """An iterator over it is made."""
        if not isinstance(getattr(loader, "sampler", None), SequentialSampler) or loader.batch_size is None:
            return
        known = self._begun.get(id(loader))
        count = known[2] if known is not None and known[0]() is loader else 0
        self._begun[id(loader)] = weakref.ref(loader), len(loader), count + 1

    def told(self) -> list[dict[str, int]]:
        """For the coverage: how often each was begun, and how many batches it has."""
        return [{"begun": count, "batches": batches} for _, batches, count in self._begun.values()]
