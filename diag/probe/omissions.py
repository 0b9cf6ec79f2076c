"""What a training loop forgets: a step, a step on what is trained, a gradient when it clips, eval() when it tests."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from diag.probe.held import held_by
from diag.probe.sites import Sites


class Omissions:
    """Counts what optimizers and clipping were called for in vain, and passes of a test that is not told to be one.

    idle: steps of optimizers that hold nothing of a watched model, and nothing that has a gradient. clips: calls of
    torch's clipping; vain_clips: those of them that met no gradient. thrown: how often an optimizer's gradients were
    cleared of which it had made no step.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._stepped: set[int] = set()
        self._zeroed: dict[int, int] = {}
        self._held: dict[int, list[weakref.ref[torch.Tensor]]] = {}
        self._untold: dict[int, list[int]] = {}
        self.idle = self.clips = self.vain_clips = self.thrown = 0
        self._is_open = self._is_stepping = False

    def see_zero_grad(self, owner: Any) -> None:
        """A `zero_grad` of an optimizer or a module was called."""
        if isinstance(owner, Optimizer) and self._is_open:
            self.thrown += any(self._sites.find_parameter(one) is not None for one in held_by(owner))
            self._is_open = False
        if isinstance(owner, Optimizer) and id(owner) not in self._stepped:
            if id(owner) not in self._held:
                if all(self._sites.find_parameter(one) is None for one in held_by(owner)):
                    return
                self._held[id(owner)] = [weakref.ref(one) for one in held_by(owner)]
            self._zeroed[id(owner)] = self._zeroed.get(id(owner), 0) + 1

    def see_backward(self) -> None:
        """A backward pass begins, of which a step is to be made, unless it is of a step's own closure."""
        self._is_open = not self._is_stepping

    def end_step(self) -> None:
        """A step has been taken, with all that its closure did."""
        self._is_stepping = self._is_open = False

    def see_step(self, optimizer: Optimizer, *, known: bool) -> None:
        """An optimizer takes a step. known: it holds parameters of a watched model."""
        self._stepped.add(id(optimizer))
        self._is_open, self._is_stepping = False, True
        self._untold.clear()
        if not known and all(one.grad is None for one in held_by(optimizer)):
            self.idle += 1

    def see_recorded_step(self, optimizer: Optimizer) -> None:
        """A CUDA graph takes the steps of an optimizer from now on, of which nothing tells."""
        self._stepped.add(id(optimizer))
        self._is_open = False

    def see_clip(self, parameters: Sequence[torch.Tensor]) -> None:
        """Gradients are about to be clipped."""
        self.clips += 1
        self.vain_clips += all(one.grad is None for one in parameters)

    def see_untold(self, root: int, args: tuple[Any, ...]) -> None:
        """A trained model is called without a graph in training mode."""
        given = next((one for one in args if isinstance(one, torch.Tensor)), None)
        if given is not None and given.ndim > 1 and _would_change(self._sites.roots[root].model):
            self._untold.setdefault(root, []).append(len(given))

    def coverage(self) -> dict[str, Any]:
        """Entries of the coverage. zeroed_without_step: how often gradients were cleared of an optimizer that never
        stepped and holds what is watched; held_without_step: its parameters. untold_tests: by model that normalizes by
        batches or drops, how many passes without a graph came after the last step in training mode, and the fewest
        samples of one.
        """
        return {
            "idle_steps": self.idle,
            "zeroed_without_step": max((n for one, n in self._zeroed.items() if one not in self._stepped), default=0),
            "held_without_step": self._idle(),
            "thrown_gradients": self.thrown,
            "clips": self.clips,
            "vain_clips": self.vain_clips,
            "untold_tests": {
                self._sites.roots[root].name: [len(sizes), min(sizes)] for root, sizes in self._untold.items()
            },
        }

    def _idle(self) -> list[str]:
        """What optimizers hold that were cleared and never stepped, by name."""
        idle = [one() for key, held in self._held.items() if key not in self._stepped for one in held]
        found = (self._sites.of_parameter(one) for one in idle if one is not None)
        return [self._sites.name(self._sites.table[site]) for site in found if site is not None]


def _would_change(model: nn.Module) -> bool:
    """Whether evaluation mode would change what it puts out: some of it may be in that mode already."""
    norms, drops = nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd
    return any(
        one.training and (isinstance(one, norms) or (isinstance(one, drops) and one.p > 0)) for one in model.modules()
    )
