"""Modules that run within a watched model and are none of its own, as those in a plain list or dict are."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from diag.probe.held import held_by


class Strangers:
    """What `model.parameters()` leaves out, although the model's own forward pass calls it."""

    def __init__(self) -> None:
        self._modules: dict[int, tuple[int, weakref.ref[nn.Module]]] = {}
        self._held: set[int] = set()

    def see(self, root: int, module: nn.Module) -> None:
        """Such a module was called, with a graph, within this model."""
        if id(module) not in self._modules and any(one.requires_grad for one in _own(module)):
            self._modules[id(module)] = root, weakref.ref(module)

    def see_step(self, optimizer: Optimizer) -> None:
        """An optimizer steps, which may hold them."""
        if self._modules:
            self._held.update(id(one) for one in held_by(optimizer))

    def left_out(self) -> dict[int, list[str]]:
        """By model, those that got a gradient and that no optimizer holds, such as `Linear(64x64)`."""
        found: dict[int, list[str]] = {}
        for root, reference in self._modules.values():
            module = reference()
            own = [] if module is None else [one for one in _own(module) if one.grad is not None]
            if own and not any(id(one) in self._held for one in own):
                shape = "x".join(map(str, max(own, key=lambda one: one.ndim).shape))
                found.setdefault(root, []).append(f"{type(module).__name__}({shape})")
        return found


def _own(module: nn.Module) -> Iterable[nn.Parameter]:
    return (one for one in module._parameters.values() if one is not None)
