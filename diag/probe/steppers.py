"""The optimizers that were seen, by number: of hundreds that a script makes, most are let go when it lets them go."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

from torch.optim import Optimizer

_HELD = 4
"""Of the first and of the last ones, how many are held, so that what was set can be read when training has ended."""


class Steppers:
    """Numbers optimizers in the order in which they come. One that is gone keeps its number."""

    def __init__(self) -> None:
        self._known: list[weakref.ref[Optimizer]] = []
        self._numbers: dict[int, int] = {}
        self._held: dict[int, Optimizer] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Optimizer]:
        return (one for reference in self._known if (one := reference()) is not None)

    def number(self, optimizer: Optimizer) -> int | None:
        """Its number, if it has one."""
        number = self._numbers.get(id(optimizer))
        return number if number is not None and self._known[number]() is optimizer else None

    def add(self, optimizer: Optimizer) -> int:
        """Give it a number, unless it has one."""
        known = self.number(optimizer)
        if known is not None:
            return known
        number = len(self._known)
        self._known.append(weakref.ref(optimizer))
        self._numbers[id(optimizer)] = number
        self._held[number] = optimizer
        if number >= 2 * _HELD:
            self._held.pop(number - _HELD, None)
        return number

    def get(self, number: int) -> Optimizer | None:
        """That of a number, if it is still there."""
        return self._known[number]()
