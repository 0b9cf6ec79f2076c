"""Which steps to measure where several optimizers take turns: each is to be seen, however seldom one looks."""

from __future__ import annotations

from collections.abc import Iterable

_FIRST = 8
"""So many steps at most are all measured at the start, to see each optimizer that was announced."""
_PATIENCE = 64
"""Steps that a measurement waits for an optimizer's turn, and steps in a row that are measured to meet it."""


class Turns:
    """Measures every `every`-th step, but waits for the turn of an optimizer that the measurements keep leaving out.

    Every 10th step of two optimizers that alternate is always the first one's, and the second would never be seen.
    When an optimizer steps next is told by the distance between its last two steps; where that is wrong the steps that
    follow are measured until it comes, and those to come are fewer in return. One that does not come has ended.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.announced: set[int] = set()
        self._due = 0
        self._asked = -1
        self._answer = True
        self._wanted: int | None = None
        self._awaited: int | None = None
        self._missed = 0
        self._looks = 0
        self._last: dict[int, int] = {}
        self._distance: dict[int, int] = {}
        self._look_of: dict[int, int] = {}
        self._ended: set[int] = set()
        self._given_up: set[int] = set()

    def measures(self, step: int) -> bool:
        """Whether this step is to be measured; the first answer stands."""
        if step != self._asked:
            self._asked, self._answer = step, self._decide(step)
        return self._answer

    def see(self, step: int, optimizers: Iterable[int], measured: bool) -> None:
        """A step, measured or not, has been ended by these optimizers."""
        mine = set(optimizers)
        self._ended -= mine
        for one in mine:
            if one in self._last:
                self._distance[one] = step - self._last[one]
            self._last[one] = step
        if not measured:
            return
        self._looks += 1
        self._look_of.update(dict.fromkeys(mine, self._looks))
        if self._awaited is not None and self._awaited not in mine and self._missed < _PATIENCE:
            self._missed += 1
            self._due = self._wanted = step + 1
            return
        if self._awaited is not None and self._awaited not in mine:
            self._missed *= self._awaited in self._given_up  # the first time costs little enough
            self._ended.add(self._awaited)
            self._given_up.add(self._awaited)
        self._due = step - step % self.every + self.every * (1 + self._missed)
        self._wanted, self._awaited, self._missed = None, None, 0

    def _decide(self, step: int) -> bool:
        if self.every == 1 or (self.announced - set(self._look_of) and 0 < step < _FIRST):
            return True
        if step < self._due:
            return False
        if self._wanted is None:
            self._wanted = self._next_turn(step)
        return step >= self._wanted

    def _next_turn(self, step: int) -> int:
        """When the optimizer that was left out longest is expected to step; now, where none was."""
        going = self._distance.keys() - self._ended
        one = min(sorted(going), key=lambda one: self._look_of.get(one, 0), default=None)
        if one is None or (one in self._look_of and self._looks - self._look_of[one] < len(self._last)):
            return step
        wait = (self._last[one] - step) % self._distance[one]
        self._awaited = one
        return step + min(wait, _PATIENCE)
