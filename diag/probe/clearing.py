"""Whether gradients are cleared between two steps of an optimizer."""

from __future__ import annotations

import weakref

import torch
from torch.optim import Optimizer


class Clearing:
    """Counts the steps an optimizer takes on gradients to which those of its last step still belong.

    Gradients count as cleared when any `zero_grad` was called since, or when they are other tensors than those left
    behind.
    """

    def __init__(self) -> None:
        self._left: dict[int, weakref.ref[torch.Tensor]] = {}
        self._cleared: set[int] = set()
        self.repeated = 0
        self.uncleared = 0

    def see_zero_grad(self) -> None:
        """A `zero_grad` of an optimizer or a module was called."""
        self._cleared.update(self._left)

    def before_step(self, index: int, optimizer: Optimizer, *, closure: bool) -> None:
        """Optimizer number `index` is about to step; with a closure it computes its gradients only then."""
        left = self._left.get(index)
        if left is None or closure:
            return
        self.repeated += 1
        gradient = left()
        kept = gradient is not None and any(
            parameter.grad is gradient for group in optimizer.param_groups for parameter in group["params"]
        )
        self.uncleared += kept and index not in self._cleared

    def after_step(self, index: int, optimizer: Optimizer) -> None:
        """Remember one gradient that it leaves behind."""
        self._cleared.discard(index)
        gradients = (p.grad for group in optimizer.param_groups for p in group["params"])
        gradient = next((one for one in gradients if one is not None), None)
        if gradient is None:
            self._left.pop(index, None)
        else:
            self._left[index] = weakref.ref(gradient)
