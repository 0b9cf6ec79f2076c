"""A policy that acts between its steps: the data it is trained on, and their loss, change with what it does."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import torch

_FEWER = 4
"""How many times as many samples a training batch has as a batch of environments."""
_ENVIRONMENTS = ("gymnasium", "gym", "pettingzoo")
_EPISODE = 8
"""Passes before a step that are an episode, where there is an environment."""


class Acting:
    """Counts passes of few samples between steps on many of the same model.

    In evaluation mode they may as well be a validation one by one, and with a graph a part of the loss, as the edges of
    a domain are: such count where a library of environments is loaded.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, Counter[int]] = {}
        self._most: dict[int, int] = {}
        self.passes = 0

    def see(self, root: int, args: tuple[Any, ...], *, evaluates: bool) -> None:
        """A watched model is called from outside. evaluates: in evaluation mode."""
        given = next((one for one in args if isinstance(one, torch.Tensor)), None)
        if given is None:
            return
        size = len(given) if given.ndim > 1 else 1
        self._most[root] = max(size, self._most.get(root, 0))
        if not (evaluates or torch.is_grad_enabled()) or _has_environment():
            self._sizes.setdefault(root, Counter())[size] += 1

    def end_step(self) -> None:
        """A step has ended: of its passes, those of few samples."""
        for root, sizes in self._sizes.items():
            most, count = self._most[root], sum(sizes.values())
            few = sum(number for size, number in sizes.items() if _FEWER * size <= most)
            # A step may be on what was done in an episode, whose passes are its only ones.
            self.passes += count if not few and count >= _EPISODE and _has_environment() else few
        self._sizes.clear()
        self._most.clear()


def _has_environment() -> bool:
    return any(name in sys.modules for name in _ENVIRONMENTS)
