"""Whether gradients are cleared between two steps of an optimizer."""

from __future__ import annotations

import weakref

import torch
from torch.optim import Optimizer


class Clearing:
    """Counts the steps an optimizer takes, and those of them on gradients to which those of its last step still belong.

    Gradients count as cleared when any `zero_grad` was called since, or when they are other tensors than those left
    behind.
    """

    def __init__(self) -> None:
        self._left: dict[int, weakref.ref[torch.Tensor]] = {}
        self._cleared: set[int] = set()
        self._waiting: set[int] = set()
        self.steps: dict[int, int] = {}
        self.uncleared: dict[int, int] = {}

    def see_zero_grad(self) -> None:
        """A `zero_grad` of an optimizer or a module was called."""
        self._cleared.update(self._left)

    def forget(self) -> None:
        """Steps follow of which nothing is told."""
        self._left.clear()

    def before_step(self, index: int, optimizer: Optimizer) -> None:
        """Optimizer number `index` is about to step, perhaps with a closure that computes its gradients only then."""
        self.steps[index] = self.steps.get(index, 0) + 1
        left = self._left.get(index)
        self._waiting.discard(index)
        if left is None:
            return
        gradient = left()
        kept = gradient is not None and any(
            parameter.grad is gradient for group in optimizer.param_groups for parameter in group["params"]
        )
        if kept and index not in self._cleared:
            self._waiting.add(index)

    def see_backward(self) -> None:
        """A backward pass begins: within a step, its closure computes the gradients."""
        self._waiting.clear()

    def most_uncleared(self) -> tuple[int, int]:
        """Of the optimizer that did it in the largest share of its steps: how many were uncleared, and how many all."""
        shares = [(self.uncleared.get(index, 0), steps) for index, steps in self.steps.items()]
        return max(shares, key=lambda one: one[0] / one[1], default=(0, 0))

    def after_step(self, index: int, optimizer: Optimizer) -> None:
        """Remember one gradient that it leaves behind."""
        if index in self._waiting:  # no closure, or one that does nothing, as that of Lightning's manual optimization
            self.uncleared[index] = self.uncleared.get(index, 0) + 1
        self._cleared.discard(index)
        gradients = (p.grad for group in optimizer.param_groups for p in group["params"])
        gradient = next((one for one in gradients if one is not None), None)
        if gradient is None:
            self._left.pop(index, None)
        else:
            self._left[index] = weakref.ref(gradient)
