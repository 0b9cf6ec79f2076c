"""Modules that run within a watched model and are none of its own, as those in a plain list or dict are."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from diag.probe.held import held_by

_FEWEST = 3
"""Modules alike that are gone, of which it is told."""


class Strangers:
    """What `model.parameters()` leaves out, although the model's own forward pass calls it."""

    def __init__(self) -> None:
        self._modules: dict[int, tuple[int, weakref.ref[nn.Module]]] = {}
        self._held: set[int] = set()
        self._gone: Counter[tuple[int, str]] = Counter()
        self._drawn: dict[str, bool] = {}  # looked at once for modules alike: on a GPU that is waited for

    def see(self, root: int, module: nn.Module) -> None:
        """Such a module was called, with a graph, within this model."""
        known = self._modules.get(id(module))
        if (known is None or known[1]() is None) and any(one.requires_grad for one in _own(module)):
            description = _described(module)
            if description not in self._drawn:
                self._drawn[description] = _is_drawn(module)
            if self._drawn[description]:
                weakref.finalize(module, self._forget, root, description, [id(one) for one in _own(module)])
            self._modules[id(module)] = root, weakref.ref(module)

    def _forget(self, root: int, description: str, parameters: list[int]) -> None:
        if not self._held.intersection(parameters):
            self._gone[root, description] += 1

    def made_anew(self) -> dict[int, dict[str, int]]:
        """By model, those of which each was gone soon after, with how many there were, and no optimizer held them."""
        found: dict[int, dict[str, int]] = {}
        for (root, description), count in self._gone.items():
            if count >= _FEWEST:
                found.setdefault(root, {})[description] = count
        return found

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
            if module is not None and own and not any(id(one) in self._held for one in own):
                found.setdefault(root, []).append(_described(module))
        return found


def _described(module: nn.Module) -> str:
    shape = "x".join(map(str, max(_own(module), key=lambda one: one.ndim).shape))
    return f"{type(module).__name__}({shape})"


def _is_drawn(module: nn.Module) -> bool:
    """Whether it begins at random, as a normalization does not."""
    return any(one.ndim > 1 and bool((one.detach() != one.detach().flatten()[0]).any()) for one in _own(module))


def _own(module: nn.Module) -> Iterable[nn.Parameter]:
    return (one for one in module._parameters.values() if one is not None)
