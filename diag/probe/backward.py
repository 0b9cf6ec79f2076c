"""What happens in a backward pass: gradients of the loss with respect to what was seen, and the loss itself."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from diag.probe import patches
from diag.probe.held import held_by
from diag.probe.owner import Owner
from diag.probe.recorder import GRADIENT, Recorder
from diag.probe.sites import Sites
from diag.probe.tensors import is_measurable


class _GradientHook:
    """Measures one output's gradient when it arrives. Holds numbers only: no tensor and no graph."""

    __slots__ = ("backward", "call", "order", "pending", "site")

    def __init__(
        self, backward: Backward, site: int, call: int, order: int, pending: _Recomputed | None = None
    ) -> None:
        self.backward = backward
        self.site = site
        self.call = call
        self.order = order
        self.pending = pending

    def __call__(self, gradient: torch.Tensor | None) -> None:
        # An output that does not reach the loss, beside one that does, is told of an undefined gradient.
        # Only those of a real backward pass count, not those of `torch.autograd.grad`.
        backward = self.backward
        if gradient is None or not backward.running or not backward.active:
            return
        if self.pending is not None:
            if not self.pending.resolved:
                backward.resolve(self.pending)
            if self.call < 0:
                return
        backward.see(self.site, self.call, self.order, gradient)


class _Recomputed:
    """The calls of a checkpointed segment that backward runs again; its first gradient tells that it is complete."""

    def __init__(self) -> None:
        self.hooks: dict[int, list[_GradientHook]] = {}
        self.resolved = False


class Backward:
    """Numbers the calls of a forward pass and takes in the gradients that answer them."""

    def __init__(self, recorder: Recorder, sites: Sites, owner: Owner) -> None:
        self.recorder = recorder
        self._owner = owner
        self._began_in = 0
        self._sites = sites
        self.calls: dict[int, int] = {}
        self.order = 0
        self._finished = False
        self._waiting: dict[int, list[tuple[int, int]]] = {}
        self.without_graph: set[int] = set()
        self._segment: _Recomputed | None = None
        self._leaf_handles: list[RemovableHandle] = []
        self._losses: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        self._before: tuple[int, list[tuple[int, int] | None]] = (0, [])
        self._told_by: torch.Tensor | None = None
        self._asks_all = False
        self._scaled: list[tuple[weakref.ref[torch.Tensor], torch.Tensor]] = []
        self._fresh_scale: torch.Tensor | None = None
        self.scale: torch.Tensor | None = None
        self.active = False
        self.running = 0
        self.gradients_seen = self.begun = self.scaled_losses = 0
        self.stepped = False
        self.is_scaled = False  # whether what has been accumulated is a gradient times a loss scale
        self.on_skipped: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None
        self.on_zero_grad: Callable[[Any], None] = lambda owner: None
        self.on_rewritten: Callable[[], None] = lambda: None
        self.on_clip: Callable[[list[torch.Tensor]], None] = lambda parameters: None
        self.on_loader: Callable[[Any], None] = lambda loader: None
        self.on_backward: Callable[[list[Any]], None] = lambda roots: None

    def install(self) -> None:
        """Have backward passes and loss scales told."""
        self.active = True
        patches.listen(self)

    def remove(self) -> None:
        """Put everything back; hooks on graphs that are still alive do nothing from now on."""
        self.active = False
        patches.unlisten(self)
        self.end_step()

    def rest(self) -> None:
        """Be told of nothing until `install`."""
        self.remove()
        self._told_by, self._asks_all = None, False

    def end_step(self) -> None:
        """Forget the calls and losses of the step and take hooks off tensors that outlive it."""
        self._scaled.clear()
        self._fresh_scale = None
        self._begin_pass()

    def begin_forward(self) -> None:
        """A training pass begins. Calls are counted on until backward has run: shared modules keep every call."""
        if self._finished:
            self._begin_pass()

    def abandon_pass(self) -> None:
        """The pass ended in an exception: the next one is numbered from the start."""
        self._finished = True

    def _begin_pass(self) -> None:
        for handle in self._leaf_handles:
            handle.remove()
        self._leaf_handles.clear()
        self.calls.clear()
        self._waiting.clear()
        self.order = 0
        self._finished = False

    def next_order(self) -> int:
        """The next position in the forward pass."""
        self.order += 1
        return self.order - 1

    def next_call(self, site: int, order: int | None) -> tuple[int, int]:
        """Number a call of a site: which one it is, and its position in the pass."""
        call = self.calls.get(site, 0)
        self.calls[site] = call + 1
        return call, self.next_order() if order is None else order

    def was_seen(self, site: int) -> bool:
        """Whether this pass has met the site, so that meeting it again in backward is a recomputation."""
        return site in self.calls

    def see(self, site: int, call: int, order: int, gradient: torch.Tensor) -> None:
        """The gradient of a call's output arrives."""
        self.gradients_seen += 1
        measure = self.recorder.measure
        if type(gradient) is torch.Tensor and not torch._C._len_torch_function_stack():
            measure(site, call, order, GRADIENT, gradient, scale=self.scale)
        elif type(gradient) is torch.Tensor or is_measurable(gradient):
            with torch._C.DisableTorchFunction():
                measure(site, call, order, GRADIENT, gradient, scale=self.scale)

    def attach(self, site: int, call: int, order: int, tensor: torch.Tensor) -> None:
        """Have this tensor's gradient measured. Without a graph it may come in a recomputation: remember the call."""
        if tensor.requires_grad:
            self._hook(tensor, _GradientHook(self, site, call, order))
        elif not torch.is_grad_enabled():
            self._waiting.setdefault(site, []).append((call, order))
            self.without_graph.add(site)

    def attach_recomputed(self, site: int, tensor: torch.Tensor) -> None:
        """A checkpointed call is run again with a graph: its gradient belongs to the call of the first run."""
        if not self._waiting.get(site) or not tensor.requires_grad:
            return
        if self._segment is None or self._segment.resolved:
            self._segment = _Recomputed()
        hook = _GradientHook(self, site, -1, -1, self._segment)
        self._segment.hooks.setdefault(site, []).append(hook)
        self._hook(tensor, hook)

    def _hook(self, tensor: torch.Tensor, hook: _GradientHook) -> None:
        if tensor.is_leaf:
            self._leaf_handles.append(tensor.register_hook(hook))
        elif type(tensor) is torch.Tensor and tensor._backward_hooks is None:
            # What `register_hook` does, but for the handle, of which nobody has use: it goes with the graph.
            hooks: Any = OrderedDict({hook: hook})
            tensor._backward_hooks = hooks
            tensor.grad_fn._register_hook_dict(tensor)  # type: ignore[union-attr]
        else:
            tensor.register_hook(hook)

    def resolve(self, segment: _Recomputed) -> None:
        """Segments are run again last first, but each in forward order: its calls are the last that still wait."""
        segment.resolved = True
        for site, hooks in segment.hooks.items():
            waiting = self._waiting.get(site, [])
            for hook, (call, order) in zip(reversed(hooks), reversed(waiting[-len(hooks) :]), strict=False):
                hook.call, hook.order = call, order
            del waiting[len(waiting) - min(len(hooks), len(waiting)) :]

    def begin_backward(self, tensors: Any, grad_tensors: Any) -> None:
        """A backward pass begins: note what is differentiated, and what would show that it reached the models."""
        if threading.get_ident() != self._began_in if self.running else not self._owner.is_here():
            return
        roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        if not self.running:
            self._began_in = threading.get_ident()
            self.on_backward(roots)
        self.running += 1
        if self.running > 1:
            return
        weights = [grad_tensors] * len(roots) if grad_tensors is None else grad_tensors
        weights = [weights] if isinstance(weights, torch.Tensor) else list(weights)
        self.scale = self._scale_of(roots)
        self.is_scaled |= self.scale is not None
        self.scaled_losses += self.scale is not None
        self.begun += 1
        scalar = len(weights) == len(roots) and all(isinstance(one, torch.Tensor) and one.numel() == 1 for one in roots)
        self._losses = list(zip(roots, weights, strict=True)) if scalar else []
        told = self._told_by
        asked = self._held() if told is None else [told]
        self._before = (self.gradients_seen, [_version(one) for one in asked])

    def see_recorded(self, tensors: Any) -> None:
        """A backward pass is recorded: each replay writes gradients anew that there are not yet, and adds to others."""
        if not self._owner.is_here():
            return
        roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        reached = list(self._reached([one for one in roots if isinstance(one, torch.Tensor)]))
        if reached and all(one.grad is None for one in reached):
            self.on_rewritten()

    def see_recorded_zero_grad(self, owner: Any) -> None:
        """What is cleared at every replay is written anew as well."""
        held = {id(one) for one in held_by(owner)}
        if self._owner.is_here() and any(id(one) in held for one in self._held()):
            self.on_rewritten()

    def end_backward(self) -> None:
        """The loss counts for this probe if its gradient came to the models that it watches."""
        if threading.get_ident() != self._began_in or not self.running:
            return
        self.running -= 1
        if self.running:
            return
        self._finished = True
        losses, self._losses = self._losses, []
        if self._has_arrived(losses):
            self.recorder.see_losses(losses, self.scale)
        self.scale = None

    def _has_arrived(self, losses: list[tuple[torch.Tensor, torch.Tensor | None]]) -> bool:
        """Whether the pass that has just ended brought a gradient to the models."""
        arrived, versions = self._before
        told, seen = self._told_by, arrived != self.gradients_seen
        if told is None:
            pairs = zip(self._held(), versions, strict=False)
            told = next((one for one, before in pairs if _version(one) != before), None)
            self._told_by = None if self._asks_all else told
            return seen or told is not None
        if seen or versions[0] != _version(told):
            return True
        # It has no part in this pass: from now on all are asked.
        self._told_by, self._asks_all = None, True
        return self._reaches_models([loss for loss, _ in losses])

    def _held(self) -> Iterator[torch.Tensor]:
        """Every watched parameter."""
        # Not `parameters()`, which takes longer than all else that a step without a measurement costs.
        holders = (holder for root in self._sites.roots for holder in root.holders)
        return (one for holder in holders for one in holder.values() if one is not None)

    def _reaches_models(self, losses: list[torch.Tensor]) -> bool:
        """Whether a watched parameter stands in the graph of one of these."""
        return next(self._reached(losses), None) is not None

    def _reached(self, losses: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The watched parameters that stand in the graphs of these."""
        held = {id(one): one for one in self._held()}
        ahead: list[Any] = [one.grad_fn for one in losses if one.grad_fn is not None]
        seen = set(ahead)
        while ahead:
            node = ahead.pop()
            variable = id(getattr(node, "variable", None))
            if variable in held:
                yield held[variable]
            new = {one for one, _ in node.next_functions if one is not None} - seen
            seen |= new
            ahead += new

    def see_zero_grad(self, owner: Any) -> None:
        """Gradients were cleared."""
        if self._owner.is_here():
            self.on_zero_grad(owner)

    def see_clip(self, parameters: list[torch.Tensor]) -> None:
        """Gradients are about to be clipped."""
        if self._owner.is_here():
            self.on_clip(parameters)

    def see_loader(self, loader: Any) -> None:
        """A loader of data is begun."""
        if self._owner.is_here():
            self.on_loader(loader)

    def see_scaled(self, outputs: Any, scale: torch.Tensor) -> None:
        """Remember which losses are scaled; what is computed from them before the next backward pass is too."""
        if not self._owner.is_here():
            return
        for one in (
            [outputs] if isinstance(outputs, torch.Tensor) else outputs if isinstance(outputs, list | tuple) else ()
        ):
            self._scaled.append((weakref.ref(one), scale))
        self._fresh_scale = scale

    def _scale_of(self, tensors: list[Any]) -> torch.Tensor | None:
        fresh, self._fresh_scale = self._fresh_scale, None
        for reference, scale in self._scaled:
            if any(reference() is one for one in tensors):
                return scale
        return fresh

    def see_unscaled(self) -> None:
        """A GradScaler divided the gradients by its scale."""
        self.is_scaled = self.is_scaled and not self._owner.is_here()

    def begin_scaled_step(self) -> None:
        """See whether the optimizer will be let to step."""
        if self._owner.is_here():
            self.stepped = self.is_scaled = False

    def end_scaled_step(self, optimizer: Any) -> None:
        """Non-finite gradients make the scaler leave out the step, which no hook of the optimizer sees."""
        if not self.stepped and self._owner.is_here():
            self.on_skipped(optimizer)


def _version(parameter: torch.Tensor) -> tuple[int, int] | None:
    """Identity and version of its gradient, one of which changes when more is accumulated in it."""
    gradient = parameter.grad
    return None if gradient is None else (id(gradient), gradient._version)
