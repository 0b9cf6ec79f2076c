"""Which of the models that are discovered are watched: of hundreds of copies only the first ones."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from torch import nn

from diag.probe.sites import Root

_MOST_ALIKE = 8
"""Models of one class that are discovered: a copy for every task makes hundreds, and each costs in all steps."""


class Copies:
    """count: how many models were left out."""

    def __init__(self) -> None:
        self._left_out: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.count = 0

    def left_out(self, module: nn.Module) -> bool:
        """Whether this model is one too many."""
        return module in self._left_out

    def admits(self, module: nn.Module, roots: Sequence[Root]) -> bool:
        """Whether a model is to be watched beside these: one that trains, and not the umpteenth of its class."""
        if module in self._left_out or not any(one.requires_grad for one in module.parameters()):
            return False
        if sum(type(root.model) is type(module) for root in roots) < _MOST_ALIKE:
            return True
        self._left_out.add(module)
        self.count += 1
        return False
