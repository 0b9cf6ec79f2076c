"""Whether gradients are cleared between two steps of an optimizer."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim import Optimizer


class Clearing:
    """Counts the steps an optimizer takes, and those of them on gradients to which those of its last step still belong.

    Gradients count as cleared when a `zero_grad` that reaches them was called since, or when they are other tensors
    than those left behind.
    """

    def __init__(self) -> None:
        self._left: dict[int, weakref.ref[torch.Tensor]] = {}
        self._owners: dict[int, weakref.ref[torch.Tensor]] = {}
        self._versions: dict[int, int] = {}
        self._cleared: set[int] = set()
        self._waiting: set[int] = set()
        self.steps: dict[int, int] = {}
        self.uncleared: dict[int, int] = {}

    def see_zero_grad(self, owner: Any) -> None:
        """A `zero_grad` of an optimizer or a module was called; most leave no gradient that might have to be found."""
        kept = {index: parameter for index in self._left if (parameter := self._kept(index)) is not None}
        if not kept:
            return
        held = {id(one) for one in _parameters(owner)}
        self._cleared.update(index for index, parameter in kept.items() if id(parameter) in held)

    def _kept(self, index: int) -> torch.Tensor | None:
        """The parameter that still has the gradient which this optimizer left behind."""
        parameter, gradient = self._owners[index](), self._left[index]()
        return parameter if parameter is not None and gradient is not None and parameter.grad is gradient else None

    def forget(self) -> None:
        """Steps follow of which nothing is told."""
        self._left.clear()
        self._versions.clear()

    def before_step(self, index: int) -> None:
        """Optimizer number `index` is about to step, perhaps with a closure that computes its gradients only then."""
        self.steps[index] = self.steps.get(index, 0) + 1
        self._waiting.discard(index)
        if index not in self._cleared and index in self._left and self._kept(index) is not None:
            self._waiting.add(index)

    def see_backward(self) -> None:
        """A backward pass begins: within a step, its closure computes the gradients, beside what it has not cleared.

        A gradient that was written to between a step and the first pass after it was cleared by hand.
        """
        for index, version in self._versions.items():
            parameter = self._kept(index) if index in self._left else None
            if parameter is not None and parameter.grad is not None and parameter.grad._version != version:
                self._cleared.add(index)
        self._versions.clear()
        self._waiting = {one for one in self._waiting - self._cleared if self._holds(one)}

    def _holds(self, index: int) -> bool:
        """Whether a gradient is left of the optimizer's last step that is not zero, as one cleared by hand is."""
        left = self._left.get(index)
        gradient = None if left is None else left()
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
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        parameter = next((one for one in parameters if one.grad is not None), None)
        if parameter is None:
            self._left.pop(index, None)
        else:
            assert parameter.grad is not None
            self._left[index], self._owners[index] = weakref.ref(parameter.grad), weakref.ref(parameter)
            self._versions[index] = parameter.grad._version


def _parameters(owner: Any) -> Iterator[torch.Tensor]:
    """What an optimizer holds, or a module."""
    if isinstance(owner, torch.nn.Module):
        yield from owner.parameters()
    else:
        for group in getattr(owner, "param_groups", ()):
            yield from group["params"]
