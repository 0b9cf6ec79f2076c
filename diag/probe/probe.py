"""The instrument: watches models and optimizers between `start` and `stop`, and hands out the trace."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import _disable_current_modes

from diag.probe.assemble import assemble
from diag.probe.backward import Backward
from diag.probe.budget import Budget
from diag.probe.eager import enter_eager, leave_eager
from diag.probe.forward import Forward
from diag.probe.loaders import Loaders
from diag.probe.owner import Owner
from diag.probe.parameters import Parameters
from diag.probe.recorder import Recorder
from diag.probe.settings import settings
from diag.probe.sites import Sites
from diag.probe.tensors import is_hollow
from diag.probe.unharmed import Unharmed
from diag.trace import Trace

_NO_MODES: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
"""`_disable_current_modes` takes as long as all else that a step without a measurement costs, modes or none."""


class Probe:
    """Measures every `every`-th step of the models it is given, or, with `discover`, of every model that trains.

    A step ends with an optimizer's step; several optimizers stepping one after another share it. Without an optimizer,
    `end_step` ends it. After `max_steps` steps it stops by itself. budget: measure only as often as keeps the cost
    below this share of the training's time. parameters: whether weights, their gradients and updates are measured too.
    brief: some steps are all, so that what takes a second to load is to be used only if it gains one.
    """

    def __init__(
        self,
        models: Sequence[nn.Module] = (),
        optimizers: Sequence[Optimizer] = (),
        *,
        every: int = 1,
        budget: float | None = None,
        parameters: bool = True,
        discover: bool = False,
        window: int = 10,
        max_steps: int | None = None,
        brief: bool = False,
    ) -> None:
        self.sites = Sites()
        self.budget = None if budget is None else Budget(budget)
        self.recorder = Recorder(window, every, self.budget, brief=brief)
        self.unharmed = Unharmed()
        self._owner = Owner(sole=discover)
        self.backward = Backward(self.recorder, self.sites, self._owner)
        self.forward = Forward(
            self.sites, self.recorder, self.backward, self._owner,
            unharmed=self.unharmed, discover=discover, pairs=parameters,
        )  # fmt: skip
        self.parameters = Parameters(self.sites, self.recorder, self._owner, parameters)
        self.loaders = Loaders()
        self.notes: list[str] = []
        for model in models:
            self.sites.add_root(model)
        for optimizer in optimizers:
            self.recorder.turns.announced.add(self.parameters.announce(optimizer))
        self.max_steps = max_steps
        self._ended_by: int | None = None
        self._ended_lr = float("nan")
        self._stepped: set[int] = set()
        self._loss: float | torch.Tensor | None = None
        self._batch = -1
        self._read = False
        self._settings: dict[str, Any] | None = None
        self.skipped_steps: list[int] = []
        self.scaled_steps = 0
        self.on_closed: Callable[[], None] = lambda: None
        self.on_begun: Callable[[], None] = lambda: None
        self.forward.on_pass = self._on_pass
        self.forward.untrained.on_untold = self.parameters.omissions.see_untold
        self.backward.on_backward = self._on_backward
        self.unharmed.on_failed = self._fail
        self.forward.on_entered = self._end_failed
        self.parameters.guard = self.unharmed.guard
        self.parameters.before_step = self._before_step
        self.parameters.on_step = self._on_step
        self.parameters.on_any_step = self.forward.see_step
        self.backward.on_skipped = self._on_skipped
        self.backward.on_zero_grad = self._on_zero_grad
        self.backward.on_rewritten = self.parameters.clearing.see_rewritten
        self.backward.on_loader = self._on_loader
        self.backward.on_clip = self._on_clip
        self.active = False

    def start(self) -> None:
        """Begin to watch."""
        self.active = True
        self._owner.begin()
        enter_eager()
        self.backward.install()
        self.parameters.install()
        self.forward.install()
        if self.budget is not None:
            self.budget.begin()

    def stop(self, *, failed: bool = False) -> None:
        """Stop watching and leave nothing behind. What was begun and not ended is kept as a last step, unless it ran to
        its end without a backward pass, as an evaluation does. failed: the user's code raised."""
        if not self.active:
            return
        self.active = False
        self.forward.remove()
        self.parameters.remove()
        self._close_step()
        evaluated = self.parameters.has_optimizer and self.recorder.step and not self.recorder.backward_passes
        if evaluated and not failed:
            if self.recorder.drop():
                self.notes.append("what ran after the last step was left out: no backward pass followed")
        elif not self.recorder.is_empty:
            self.notes.append(f"step {self.recorder.step} was not finished by an optimizer step")
            self._ended_by = -1
            self._close_step()
        self.backward.remove()
        leave_eager()
        self._settings = settings(self)

    def end_step(self, loss: Any = None, *, batch: int = -1) -> None:
        """End a step by hand, or give the loss and batch number of one that an optimizer has just ended."""
        if loss is None or (isinstance(loss, torch.Tensor) and is_hollow(loss)):
            value = None
        else:
            value = loss.detach().clone() if isinstance(loss, torch.Tensor) else float(loss)
        if self.parameters.on_slept is not None:
            self.recorder.amend(loss=value, batch=batch)
            return
        if self._read and self.recorder.is_empty:
            # The step was closed early because its trace was read.
            self._read = False
            self.recorder.amend(loss=value, batch=batch)
            return
        self._loss = self._loss if value is None else value
        self._batch = batch
        if self._ended_by is None:
            if self.recorder.measures_step:
                self.parameters.see_gradients()
            self._ended_by = -1
        self._close_step()
        if self.active and self.recorder.measures_step:
            self.forward.install()

    def _before_step(self, index: int, closure: bool) -> None:
        self.forward.reset()
        if index in self._stepped:
            self._close_step()
        self._read = False
        if closure:
            self.recorder.begin_closure()

    def _on_step(self, index: int, optimizer: Optimizer) -> None:
        self.backward.stepped = True
        self.scaled_steps += self.backward.is_scaled
        self.backward.is_scaled = False
        self._stepped.add(index)
        if self._ended_by is None:
            self._ended_by = index
            self._ended_lr = _lr(optimizer)
        # In a step that is not measured the hooks are away; they must be back to see the next pass begin.
        self.forward.install()

    def _on_backward(self, roots: list[Any]) -> None:
        with self.unharmed.guard():
            self.parameters.clearing.see_backward()
            self.parameters.omissions.see_backward()
            self.forward.see_backward(roots)

    def _on_zero_grad(self, owner: Any) -> None:
        with self.unharmed.guard():
            self.parameters.clearing.see_zero_grad(owner)
            self.parameters.omissions.see_zero_grad(owner)

    def _on_clip(self, parameters: list[torch.Tensor]) -> None:
        with self.unharmed.guard():
            self.parameters.omissions.see_clip(parameters)

    def _on_loader(self, loader: Any) -> None:
        with self.unharmed.guard():
            self.loaders.see(loader)

    def _on_skipped(self, optimizer: Optimizer) -> None:
        """A GradScaler left the optimizer's step out: the step is over, its gradients are not the next one's."""
        if not self.parameters.concerns(optimizer):
            return
        if self.recorder.measures_step:
            self.parameters.see_gradients()
        self.skipped_steps.append(self.recorder.step)
        self._on_step(self.parameters.announce(optimizer), optimizer)

    def _on_pass(self) -> None:
        self._read = False
        if self.budget is not None and self.budget.is_paused:
            self.budget.begin()
        wrapper = nn.parallel.DistributedDataParallel._active_ddp_module
        if wrapper is not None and self.sites.data_ranks is None:
            self.sites.see_data_parallel(wrapper)
        if self._ended_by is not None:
            self.parameters.begin_pass(self._close_step)
        self.parameters.claim()
        self.on_begun()

    def _close_step(self) -> None:
        """Close a step that has been ended. It waits for the next pass, since another optimizer may belong to it."""
        if self._ended_by is None:
            return
        step, measured = self.recorder.step, self.recorder.measures_step
        # The pass that closes it may run within a transformation of functorch or under fake tensors.
        modes = _disable_current_modes() if torch._C._len_torch_dispatch_stack() else _NO_MODES
        with torch._C._DisableFuncTorch(), modes:
            self.recorder.end_step(lr=self._ended_lr, optimizer=self._ended_by, loss=self._loss, batch=self._batch)
        self.recorder.turns.see(step, self._stepped, measured)
        self.backward.end_step()
        self.parameters.end_step()
        self.forward.untrained.acting.end_step()
        self._ended_by, self._ended_lr, self._loss, self._batch = None, float("nan"), None, -1
        self._stepped.clear()
        if self.active and self.max_steps is not None and self.recorder.step >= self.max_steps:
            self.stop()
        if self.budget is not None:
            self.budget.end(step, measured)
        if self.active and not self.recorder.measures_step:
            self.forward.remove()
        if self.active:
            self.on_closed()
        if self.budget is not None:
            self.budget.begin()
            if self.active and len(self.parameters.optimizers) == 1 and self.budget.sleeps(self.recorder.step):
                self._fall_asleep()

    def _fall_asleep(self) -> None:
        """From now on steps are counted and nothing else is done, until one is to be measured."""
        self.forward.remove()
        self.backward.rest()
        self.parameters.clearing.forget()
        self.parameters.on_slept = self._on_slept

    def _on_slept(self, optimizer: Optimizer) -> None:
        assert self.budget is not None
        self.budget.end(self.recorder.step, False, asleep=True)
        self.recorder.skip_step(lr=_lr(optimizer), optimizer=0)
        self.budget.begin()
        full = self.max_steps is not None and self.recorder.step >= self.max_steps
        if full or not self.budget.sleeps(self.recorder.step):
            self._wake()
            self.budget.pause()  # until its pass begins, as other steps do
            self._read = True  # a loss that is given by hand is that of the step just counted
        if full:
            self.stop()

    def _wake(self) -> None:
        self.parameters.on_slept = None
        self.backward.install()
        self.forward.install()

    def break_off(self, error: str, *, batch: int = -1) -> bool:
        """The user's code raised. Returns whether something but an input, which may be a mask of -inf, is not finite in
        the step that is open: many functions refuse it, so that it counts as a loss that is no number."""
        sites = self.recorder.nonfinite_sites() if self.active and self._ended_by is None else ()
        if all(self.sites.table[one].role == "input" for one in sites):
            return False
        step = self.recorder.step
        self.notes.append(f"training ended in step {step}, in which something was no longer finite: {error}")
        self.end_step(math.nan, batch=batch)
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """How modules and optimizers are set; once the watch has ended as they were then, since a model may be put back
        to what it was before."""
        return settings(self) if self._settings is None or self.active else self._settings

    def _fail(self) -> None:
        """Something of ours failed: the training goes on unwatched."""
        self.notes.append(
            f"diag itself failed in step {self.recorder.step} ({self.unharmed.error}): nothing was measured after that;"
            " please report it"
        )
        self.forward.fall_silent()

    def _end_failed(self) -> None:
        """Take away what could not go in the middle of a pass."""
        if self.unharmed.error and self.active:
            self.stop()

    def close_ended(self) -> None:
        """Close a step that an optimizer has ended, and do not wait for the next pass."""
        self._read |= self._ended_by is not None
        self._close_step()
        if self._read and self.active:
            self.forward.install()  # the next pass tells that another step has begun

    def trace(self) -> Trace:
        """What has been seen so far, as tables."""
        self.close_ended()
        self.recorder.settle()
        return assemble(self)


def _lr(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0].get("lr", float("nan")))
