"""Whether gradients are cleared between two steps of an optimizer."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from diag.probe.held import held_by


@dataclass
class _Left:
    """A gradient that a step has left behind, its parameter, and the version that it has until it is written to; None
    once a backward pass has begun, which writes to it."""

    gradient: weakref.ref[torch.Tensor]
    parameter: weakref.ref[torch.Tensor]
    version: int | None

    def kept(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Both, if the one is still the other's."""
        gradient, parameter = self.gradient(), self.parameter()
        if gradient is None or parameter is None or parameter.grad is not gradient:
            return None
        return gradient, parameter


class Clearing:
    """Counts the steps an optimizer takes, and those of them on gradients to which those of its last step still belong.

    Gradients count as cleared when a `zero_grad` that reaches them was called since, or when they are other tensors
    than those left behind.
    """

    def __init__(self) -> None:
        self._left: dict[int, _Left] = {}
        self._cleared: set[int] = set()
        self._waiting: set[int] = set()
        self._rewritten = False
        self.steps: dict[int, int] = {}
        self.uncleared: dict[int, int] = {}

    def see_zero_grad(self, owner: Any) -> None:
        """A `zero_grad` of an optimizer or a module was called; most leave no gradient that might have to be found."""
        kept = {index: both[1] for index, left in self._left.items() if (both := left.kept()) is not None}
        if not kept:
            return
        held = {id(one) for one in held_by(owner)}
        self._cleared.update(index for index, parameter in kept.items() if id(parameter) in held)

    def see_rewritten(self) -> None:
        """From now on a CUDA graph writes gradients anew, of which nothing tells: there is nothing to be cleared."""
        self._rewritten = True

    def forget(self) -> None:
        """Steps follow of which nothing is told."""
        self._left.clear()

    def before_step(self, index: int) -> None:
        """Optimizer number `index` is about to step, perhaps with a closure that computes its gradients only then."""
        self.steps[index] = self.steps.get(index, 0) + 1
        self._waiting.discard(index)
        left = self._left.get(index)
        if not self._rewritten and index not in self._cleared and left is not None and left.kept() is not None:
            self._waiting.add(index)

    def see_backward(self) -> None:
        """A backward pass begins: within a step, its closure computes the gradients, beside what it has not cleared.

        A gradient that was written to between a step and the first pass after it was cleared by hand.
        """
        for index, left in self._left.items():
            if left.version is not None:
                kept = left.kept()
                if kept is not None and kept[0]._version != left.version:
                    self._cleared.add(index)
                left.version = None
        self._waiting = {one for one in self._waiting - self._cleared if self._holds(one)}

    def _holds(self, index: int) -> bool:
        """Whether a gradient is left of the optimizer's last step that is not zero, as one cleared by hand is."""
        left = self._left.get(index)
        gradient = None if left is None else left.gradient()
        return gradient is not None and bool((gradient != 0).any())

    def most_uncleared(self) -> tuple[int, int]:
        """Of the optimizer that did it in the largest share of its steps: how many were uncleared, and how many all."""
        shares = [(self.uncleared.get(index, 0), steps) for index, steps in self.steps.items()]
        return max(shares, key=lambda one: one[0] / one[1], default=(0, 0))

    def after_step(self, index: int, optimizer: Optimizer) -> None:
        """Remember one gradient that it leaves behind."""
        if index in self._waiting:  # no closure, or one that does nothing, as that of Lightning's manual optimization
            self.uncleared[index] = self.uncleared.get(index, 0) + 1
        self._cleared.discard(index)
        pairs = ((one.grad, one) for one in held_by(optimizer))
        gradient, parameter = next(((grad, one) for grad, one in pairs if grad is not None), (None, None))
        if gradient is None or parameter is None:
            self._left.pop(index, None)
        else:
            self._left[index] = _Left(weakref.ref(gradient), weakref.ref(parameter), gradient._version)
