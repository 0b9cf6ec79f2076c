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

    In evaluation mode they may as well be a validation one by one, and count where a library of environments is loaded.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, Counter[int]] = {}
        self.passes = 0

    def see(self, root: int, args: tuple[Any, ...], *, evaluates: bool) -> None:
        """A watched model is called from outside. evaluates: in evaluation mode."""
        given = next((one for one in args if isinstance(one, torch.Tensor)), None)
        if given is None or (evaluates and not _has_environment()):
            return
        self._sizes.setdefault(root, Counter())[len(given) if given.ndim > 1 else 1] += 1

    def end_step(self) -> None:
        """A step has ended: of its passes, those of few samples."""
        for sizes in self._sizes.values():
            most, count = max(sizes, default=0), sum(sizes.values())
            few = sum(number for size, number in sizes.items() if _FEWER * size <= most)
            # A step may be on what was done in an episode, whose passes are its only ones.
            self.passes += count if not few and count >= _EPISODE and _has_environment() else few
        self._sizes.clear()


def _has_environment() -> bool:
    return any(name in sys.modules for name in _ENVIRONMENTS)
