"""Watching as often as a share of the training's time allows, by what watching is seen to cost."""

from __future__ import annotations

import math
import time
from collections import deque
from statistics import median

_FIRST_PLAIN = 3
"""Steps that are left alone after each of the first measurements, to learn what a step takes by itself."""
_LEARNING = 3
"""Measurements after which the costs are known; the first one also pays for caches and compilation."""
_KEPT = 31


class Budget:
    """Which steps to measure, so that measuring takes at most `share` of the time that the training takes without.

    The cost of a measurement is the median duration of the last measured steps minus that of the last plain ones, so a
    slow data loader counts in neither. What has been spent is paid back before the next measurement.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.plain: deque[float] = deque(maxlen=_KEPT)
        self.watched: deque[float] = deque(maxlen=_KEPT)
        self.measured = self.steps = 0
        self.total = self.total_watched = 0.0
        self._next = 0
        self._began: float | None = None

    def measures(self, step: int) -> bool:
        """Whether this step is to be measured."""
        return step >= self._next

    def begin(self) -> None:
        """A step begins now."""
        self._began = time.perf_counter()

    def end(self, step: int, measured: bool) -> None:
        """A step, measured or not, has ended, its statistics included."""
        if self._began is None:
            return
        self.see(step, time.perf_counter() - self._began, measured)

    def see(self, step: int, seconds: float, measured: bool) -> None:
        """Take a step's duration into account, and choose the next step to measure."""
        self.steps += 1
        self.total += seconds
        if not measured:
            self.plain.append(seconds)
            return
        self.measured += 1
        self.watched.append(seconds)
        self.total_watched += seconds
        if self.measured <= _LEARNING or not self.plain:
            self._next = step + 1 + _FIRST_PLAIN
            return
        usual = median(self.plain)
        # The next measurement must be affordable when it comes: all that was spent, and it, by the time that is plain.
        dearer = max(0.0, median(self.watched) - usual)
        owed = (self.spent + dearer) / self.share - (self.total - self.spent)
        self._next = step + 1 + max(0, math.ceil(owed / usual) if usual > 0 else 0)

    @property
    def spent(self) -> float:
        """Seconds that the measured steps took beyond what they would have taken; 0 before a plain step was seen."""
        return max(0.0, self.total_watched - self.measured * median(self.plain)) if self.plain else 0.0

    @property
    def cost(self) -> float:
        """The share that measuring has taken so far, of the time without it; nan before a plain step was seen."""
        return self.spent / (self.total - self.spent) if self.plain and self.total > self.spent else math.nan

    def to_dict(self) -> dict[str, float]:
        """What the coverage says of it."""
        return {"asked": self.share, "spent": self.cost, "steps": self.steps, "measured": self.measured}
