"""What an optimizer step does: weights before it, the gradients it was given, and the change it made."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from diag.probe import optimizer_hooks
from diag.probe.clearing import Clearing
from diag.probe.held import held_by
from diag.probe.omissions import Omissions
from diag.probe.owner import Owner
from diag.probe.recorder import UPDATE, WEIGHT, WEIGHT_GRADIENT, Recorder
from diag.probe.shards import as_dtensor, local, part_of
from diag.probe.sites import Site, Sites
from diag.probe.steppers import Steppers
from diag.stats import fields
from diag.stats.torch_path import twin_rows
from diag.trace.shapes import shape_text

_SAMPLE = 2**16
"""Up to so many elements a parameter's change is measured whole, beyond on an even sample of about so many."""


class Parameters:
    """Follows optimizer steps by global hooks, so that optimizers pickle and copy as before."""

    def __init__(self, sites: Sites, recorder: Recorder, owner: Owner, measured: bool = True) -> None:
        self.measured = measured
        self._owner = owner
        self._sites = sites
        self._recorder = recorder
        self._before: dict[int, torch.Tensor] = {}
        self._waiting: Optimizer | None = None
        self._unclaimed: Optimizer | None = None
        self.steps_elsewhere = 0
        self.omissions = Omissions(sites)
        self.optimizers = Steppers()
        self.clearing = Clearing()
        self.on_step: Callable[[int, Optimizer], None] = lambda index, optimizer: None
        self.before_step: Callable[[int, bool], None] = lambda index, closure: None
        self._seen: set[tuple[int, int]] = set()
        self._strangers: set[int] = set()
        self.on_slept: Callable[[Optimizer], None] | None = None
        self.replaced: dict[int, None] = {}
        self.on_any_step: Callable[[Optimizer], None] = lambda optimizer: None
        self.guard: Callable[[], AbstractContextManager[None]] = nullcontext

    def install(self) -> None:
        """Register the global optimizer hooks."""
        optimizer_hooks.listen(self)

    def remove(self) -> None:
        """Take the hooks away and drop what was copied."""
        optimizer_hooks.unlisten(self)
        self._before.clear()

    def end_step(self) -> None:
        """Forget what was measured in the step."""
        self._seen.clear()

    def optimized(self) -> set[int]:
        """The identities of all parameters that an optimizer seen so far holds."""
        return {id(parameter) for one in self.optimizers for parameter in held_by(one)}

    @property
    def has_optimizer(self) -> bool:
        """Whether any optimizer has stepped or was announced."""
        return len(self.optimizers) > 0

    def announce(self, optimizer: Optimizer) -> int:
        """Learn of an optimizer; returns its number."""
        return self.optimizers.add(optimizer)

    def _holds_watched(self, optimizer: Optimizer) -> bool:
        return any(self._sites.find_parameter(parameter) for parameter in held_by(optimizer))

    def _holds_after_all(self, optimizer: Optimizer) -> bool:
        """The same of what the models have now: within `functional_call` others stand in for their parameters."""
        if id(optimizer) in self._strangers:
            return False
        self._strangers.add(id(optimizer))
        for number in range(len(self._sites.roots)):
            self._sites.rescan(number)
        return self._holds_watched(optimizer)

    def before_optimizer(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """An optimizer is about to step; of another thread's it counts if it holds what is watched."""
        with self.guard():
            self._see_begun(optimizer, args, kwargs)

    def _see_begun(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.on_slept is not None:
            return
        known = self.knows(optimizer)
        watched = known or self._holds_watched(optimizer) or self._holds_after_all(optimizer)
        if not watched and not self._owner.is_here():
            return
        self.on_any_step(optimizer)
        if watched:
            self._begin_step(optimizer, _has_closure(args, kwargs), known=known)
        elif _has_closure(args, kwargs):
            self._unclaimed = optimizer
        else:
            self._see_elsewhere(optimizer)

    def claim(self) -> None:
        """A pass begins, perhaps the first one of a model, within a closure of the optimizer that trains it."""
        if self._unclaimed is not None and self._holds_watched(self._unclaimed):
            optimizer, self._unclaimed = self._unclaimed, None
            self._strangers.discard(id(optimizer))
            self._begin_step(optimizer, closure=True, known=False)

    def _see_elsewhere(self, optimizer: Optimizer) -> None:
        self.omissions.see_step(optimizer, known=False)
        self.steps_elsewhere += 1

    def _begin_step(self, optimizer: Optimizer, closure: bool, *, known: bool) -> None:
        """An optimizer that holds what is watched begins its step. known: it has stepped before, or was announced."""
        self.omissions.see_step(optimizer, known=True)
        self._owner.step()
        index = self.announce(optimizer)
        self.clearing.before_step(index)
        self.before_step(index, closure)
        self._before.clear()
        self._waiting = optimizer if closure else None
        if not (self.measured and self._recorder.measures_step):
            return
        with torch.no_grad():
            mine = list(self._parameters(optimizer))
            if not known:
                self._take_over({site for site, _ in mine})
            # A fused optimizer unscales its gradients itself, within the step.
            scale = getattr(optimizer, "grad_scale", None)
            for site, parameter in mine:
                self._see(site, parameter, WEIGHT)
                if not closure:
                    self._see(site, parameter.grad, WEIGHT_GRADIENT, scale)
                self._before[site] = _sample(parameter).clone()
            self._see_all(self._others())

    def begin_pass(self, close_step: Callable[[], None]) -> None:
        """A pass begins, perhaps a closure's, which belongs to the step of the optimizer that runs it and no other's.

        Whether a closure runs a pass is only known now: Lightning gives optimizers one that does nothing.
        """
        optimizer, self._waiting = self._waiting, None
        if optimizer is None or not self._seen:
            close_step()
            return
        mine = {site for site, _ in self._parameters(optimizer)}
        self._recorder.forget(mine, WEIGHT)
        close_step()
        if self.measured and self._recorder.measures_step:
            for site, parameter in self._parameters(optimizer):
                self._see(site, parameter, WEIGHT)
                self._before[site] = _sample(parameter).clone()

    def knows(self, optimizer: Optimizer) -> bool:
        """Whether this optimizer has stepped or was announced."""
        return self.optimizers.number(optimizer) is not None

    def concerns(self, optimizer: Optimizer) -> bool:
        """Whether it is known, or holds what is watched: one whose every step is left out never becomes known."""
        return self.knows(optimizer) or self._holds_watched(optimizer)

    def _take_over(self, sites: set[int]) -> None:
        """Gradients that were measured before their optimizer was known may not have been complete."""
        self._recorder.forget(sites, WEIGHT_GRADIENT)
        self._seen -= {(site, WEIGHT_GRADIENT) for site in sites}

    def see_recorded_step(self, optimizer: Optimizer) -> None:
        """A step is recorded, which each replay takes."""
        self.omissions.see_recorded_step(optimizer)

    def after_optimizer(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """It has done so."""
        with self.guard():
            self._see_ended(optimizer, args, kwargs)

    def _see_ended(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.omissions.end_step()
        if self._unclaimed is optimizer:
            self._unclaimed = None
            self._see_elsewhere(optimizer)
        if not self.knows(optimizer):
            return
        if self.on_slept is not None:  # steps are counted, and nothing else
            self.on_slept(optimizer)
            return
        self._waiting = None
        if self.measured and self._recorder.measures_step:
            with torch.no_grad():
                for site, parameter in self._parameters(optimizer):
                    if _has_closure(args, kwargs):
                        self._see(site, parameter.grad, WEIGHT_GRADIENT)
                    before = self._before.pop(site, None)
                    if before is not None:
                        self._recorder.measure(site, 0, -1, UPDATE, torch.sub(_sample(parameter), before, out=before))
                        part = part_of(parameter, None)
                        if part is not None:
                            self._recorder.placed[site, UPDATE] = part
        self._before.clear()
        self.clearing.after_step(self.announce(optimizer), optimizer)
        self.on_step(self.announce(optimizer), optimizer)

    def see_gradients(self) -> None:
        """Measure weights and gradients at the end of a step that no optimizer takes."""
        if not self.measured:
            return
        with torch.no_grad():
            self._see_all(self._others())
            for optimizer in self.optimizers:
                self._see_all(self._parameters(optimizer))

    def _see_all(self, parameters: Iterator[tuple[int, torch.Tensor]]) -> None:
        for site, parameter in parameters:
            self._see(site, parameter, WEIGHT)
            self._see(site, parameter.grad, WEIGHT_GRADIENT)

    def _parameters(self, optimizer: Optimizer) -> Iterator[tuple[int, torch.Tensor]]:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if _is_trained(parameter):
                    if parameter.grad is None and self._sites.is_replaced(parameter):
                        self._see_replaced(parameter)
                        continue
                    site = self.site_of(parameter, optimized=True)
                    if site is not None:
                        yield site, parameter

    def _see_replaced(self, parameter: torch.Tensor) -> None:
        """An optimizer steps that holds what the model has no more: whether another one holds what it has is open."""
        site = self.site_of(parameter, optimized=None)
        if site is not None and site not in self.replaced:
            self.replaced[site] = None
            self._sites.table[site].optimized = False
            self._sites.rescan(self._sites.table[site].root)

    def _others(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Trainable parameters that no optimizer holds."""
        held = self.optimized()
        for root in self._sites.roots:
            for parameter in root.model.parameters():
                if id(parameter) not in held and _is_trained(parameter):
                    site = self.site_of(parameter, optimized=False)
                    if site is not None:
                        yield site, parameter

    def site_of(self, parameter: torch.Tensor, *, optimized: bool | None) -> int | None:
        """The site of a watched parameter, new or known; None for a stranger's."""
        site = self._sites.of_parameter(parameter)
        if site is None:
            found = self._sites.find_parameter(parameter)
            if found is None:
                return None
            owner, _, name = found[1].rpartition(".")
            module = owner_class(self._sites.roots[found[0]].model, owner)
            op = next((kind for kind in ("bias", "weight") if name.startswith(kind) or name.endswith(kind)), name)
            new = Site(
                found[0],
                owner,
                name,
                "parameter",
                module,
                op,
                "parameter",
                parameter.requires_grad,
                shape=shape_text(parameter.shape),
            )
            site = self._sites.add(new)
        known = self._sites.table[site]
        known.optimized = optimized or known.optimized if optimized is not None else known.optimized
        return site

    def _see(self, site: int, tensor: torch.Tensor | None, kind: int, scale: torch.Tensor | None = None) -> None:
        """Measure a weight or its gradient, once in a step."""
        if tensor is None or (site, kind) in self._seen:
            return
        self._seen.add((site, kind))
        tensor = tensor.detach()
        row = self._recorder.measure(site, 0, -1, kind, tensor, scale=scale)
        if (
            tensor.ndim >= 2
            and tensor.layout == torch.strided
            and as_dtensor(tensor) is None
            and (self._recorder.step < 3 or self._recorder.step % 10 == 0)
        ):
            row[fields.TWIN_UNITS] = twin_rows(tensor)


def _has_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    given = args[1] if len(args) > 1 else kwargs.get("closure")
    return given is not None


def _sample(parameter: torch.Tensor) -> torch.Tensor:
    flat = local(parameter.detach())
    if flat.numel() <= _SAMPLE or flat.layout != torch.strided:
        return flat
    return flat.reshape(-1)[:: _stride(flat.numel())]


@functools.cache
def _stride(count: int) -> int:
    """The least one with at most `_SAMPLE` elements that shares no divisor with the count: one that does would meet the
    same columns of a matrix, or the same corner of each kernel, again and again."""
    stride = -(-count // _SAMPLE)
    while math.gcd(stride, count) > 1:
        stride += 1
    return stride


def owner_class(model: torch.nn.Module, path: str) -> str:
    """The class of the module at a path; empty where there is none."""
    try:
        # Not `get_submodule`, which scripted modules refuse.
        return type(functools.reduce(getattr, path.split("."), model) if path else model).__name__
    except AttributeError:
        return ""


def _is_trained(parameter: torch.Tensor) -> bool:
    """Whether it has numbers that may be trained: a lazy one has none yet."""
    there = parameter.requires_grad and not is_lazy(parameter) and parameter.device.type != "meta"
    return there and parameter.numel() > 0
