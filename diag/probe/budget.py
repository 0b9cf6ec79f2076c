"""Watching as often as a share of the training's time allows, by what watching is seen to cost."""

from __future__ import annotations

import math
import time
from collections import deque
from statistics import median

_FIRST_PLAIN = 5
"""Steps that are not measured after each of the first measurements, to learn what a step takes by itself."""
_LEARNING = 3
"""Measurements after which the costs are known; the first one also pays for caches and compilation."""
_KEPT = 31
_MOST_LIGHT = 0.5
"""Of the share: what it may cost to follow the steps in between, for their losses."""


class Budget:
    """Which steps to measure, so that watching takes at most `share` of the time that the training takes without.

    A step is measured, followed only for its loss, or slept through where even that would cost too much. What a step
    takes by itself is the median duration of the last ones slept through, or of those followed less what following
    costs; a slow data loader counts in neither. What has been spent is paid back before the next measurement.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.followed: deque[float] = deque(maxlen=_KEPT)
        self.slept: deque[float] = deque(maxlen=_KEPT)
        self.watched: deque[float] = deque(maxlen=_KEPT)
        self.measured = self.asleep = self.steps = 0
        self.total = self.total_watched = 0.0
        self._next = 0
        self._plain: list[float] = []
        self._light = 0.0
        self._sleeping = self._slept_last = False
        self._began: float | None = None

    def measures(self, step: int) -> bool:
        """Whether this step is to be measured."""
        return step >= self._next

    def sleeps(self, step: int) -> bool:
        """Whether this step is not even to be followed: to learn what that saves, and then where it has to be."""
        return self._sleeping and step < self._next

    def begin(self) -> None:
        """A step begins now."""
        self._began = time.perf_counter()

    def pause(self) -> None:
        """The next step does not begin yet."""
        self._began = None

    @property
    def is_paused(self) -> bool:
        """Whether a step has yet to begin."""
        return self._began is None

    def end(self, step: int, measured: bool, *, asleep: bool = False) -> None:
        """A step, measured or not, has ended, its statistics included."""
        if self._began is None:
            return
        self.see(step, time.perf_counter() - self._began, measured, asleep=asleep)

    def see(self, step: int, seconds: float, measured: bool, *, asleep: bool = False) -> None:
        """Take a step's duration into account, and choose the next step to measure."""
        self.steps += 1
        self.total += seconds
        self.asleep += asleep
        if not measured:
            self._slept_last = asleep
            (self.slept if asleep else self.followed).append(seconds)
            if self.measured <= _LEARNING:
                self._plain = list(self.slept)
                self._light = median(self.followed) if self.followed else 0.0
            return
        self.measured += 1
        self.watched.append(seconds)
        self.total_watched += seconds
        self._sleeping = 2 <= self.measured <= _LEARNING
        if self.measured <= _LEARNING or not self.followed:
            self._next = step + 1 + _FIRST_PLAIN
            return
        usual, following = self._usual, self._following
        self._sleeping = following > _MOST_LIGHT * self.share * usual
        following = 0.0 if self._sleeping else following
        # The next measurement must be affordable when it comes: all that was spent, and it, by the time that is plain.
        dearer = max(0.0, median(self.watched) - usual)
        owed = (self.spent + dearer) / self.share - (self.total - self.spent)
        left = usual - following / self.share
        self._next = step + 1 + max(0, math.ceil(owed / left) if left > 0 else 0)

    @property
    def _following(self) -> float:
        """Seconds that it takes to follow a step, learned at the start; 0 before both kinds were seen."""
        return max(0.0, self._light - median(self._plain)) if self._plain and self._light else 0.0

    @property
    def _usual(self) -> float:
        """Seconds that a step takes by itself, of late."""
        if self._slept_last:
            return median(self.slept)
        return max(median(self.followed) - self._following, 1e-9)

    @property
    def spent(self) -> float:
        """Seconds that watching took beyond what the steps take by themselves; 0 before any was left alone."""
        if not self.followed:
            return 0.0
        followed = self.steps - self.measured - self.asleep
        return max(0.0, self.total_watched - self.measured * self._usual) + followed * self._following

    @property
    def cost(self) -> float:
        """The share that watching has taken so far, of the time without it; nan before any step was left alone."""
        return self.spent / (self.total - self.spent) if self.followed and self.total > self.spent else math.nan

    def to_dict(self) -> dict[str, float]:
        """What the coverage says of it. unfollowed: steps of which not even the loss was seen."""
        kinds = {"steps": self.steps, "measured": self.measured, "unfollowed": self.asleep}
        return {"asked": self.share, "spent": self.cost, **kinds}
