"""Copies of a user's training: model, optimizer and schedules, so that the originals never take a step."""

from __future__ import annotations

import contextlib
import copy
import gc
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from diag.errors import DiagError
from diag.train.snapshot import restored
from diag.train.user_code import user_code
from diag.train.workload import Workload


class Source:
    """Fresh copies of one workload. why_not: the reason where its model cannot be copied, else "". template: a copy to
    look at; lazy layers get their shapes from the batch.

    Then what is lent is the model itself, to be changed only in what `restored` brings back: parameters, buffers and
    modes. The optimizer is a copy in any case, with its class, options, state and hooks.
    """

    def __init__(self, workload: Workload, batch: Any = None) -> None:
        self._original = workload
        self.why_not = ""
        self._schedules = _schedules_of(workload.optimizer)
        try:
            # A pristine one: a forward pass may leave on a model what cannot be copied.
            self.template = _copied(workload)
        except Exception as error:
            lines = str(error).splitlines() or [""]
            self.why_not = f"{type(workload.model).__name__} cannot be copied ({type(error).__name__}: {lines[0]})"
            self.template = workload
            return
        if any(nn.parameter.is_lazy(one) for one in self.template.model.parameters()):
            with torch.no_grad(), user_code("the workload's loss"):
                workload.loss(self.template.model, batch)

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The user's, not to be stepped."""
        return self._original.optimizer

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Workload]:
        """A workload to train and change; the user's is afterwards what it was."""
        with restored(self._original):
            workload = self._lent() if self.why_not else _copied(self.template)
            with _following(self._schedules, workload.optimizer):
                yield workload

    def _lent(self) -> Workload:
        one = self._original
        memo = {id(parameter): parameter for parameter in one.model.parameters()}
        return Workload(one.model, one.batches, one.loss, _copied_optimizer(one.optimizer, memo))


def require_own_loss(source: Source, batch: Any) -> None:
    """Raises: DiagError if the loss differentiates a model of its own, not the one that it is given."""
    if source.why_not or not _nothing_arrives(source, batch):
        return
    original = source._original
    with restored(original):
        for parameter in original.model.parameters():
            parameter.grad = None
        _differentiate(original, batch)
        arrives = any(parameter.grad is not None for parameter in original.model.parameters())
    if arrives:
        raise DiagError(
            "the workload's loss trains a model of its own, not the one that it is given, so nothing can be tried on a "
            "copy: write loss(model, batch) with its own argument `model`"
        )


def _nothing_arrives(source: Source, batch: Any) -> bool:
    with source.fresh() as workload:
        for parameter in workload.model.parameters():
            parameter.grad = None
        _differentiate(workload, batch)
        return all(parameter.grad is None for parameter in workload.model.parameters())


def _differentiate(workload: Workload, batch: Any) -> None:
    with user_code("the workload's loss"):
        loss = workload.loss(workload.model, batch)
    if isinstance(loss, torch.Tensor) and loss.requires_grad:
        loss.sum().backward()


def _copied(workload: Workload) -> Workload:
    memo: dict[int, Any] = {}
    model: nn.Module = copy.deepcopy(workload.model, memo)
    return Workload(model, workload.batches, workload.loss, _copied_optimizer(workload.optimizer, memo))


def _copied_optimizer(optimizer: torch.optim.Optimizer | None, memo: dict[int, Any]) -> torch.optim.Optimizer | None:
    """The same class with the same attributes, its parameters by `memo`.

    Hooks are shared. `copy.deepcopy` would drop the attributes of a subclass and keep a `step` that a schedule bound to
    the original.
    """
    if optimizer is None:
        return None
    twin: torch.optim.Optimizer = type(optimizer).__new__(type(optimizer))
    for name, value in vars(optimizer).items():
        if name == "step":
            twin.__dict__["step"] = _own_step(twin)
        elif name.endswith("_hooks"):
            twin.__dict__[name] = type(value)(value)
        else:
            twin.__dict__[name] = copy.deepcopy(value, memo)
    return twin


def _own_step(optimizer: torch.optim.Optimizer) -> Callable[..., Any]:
    """What stands on an optimizer with a schedule: its class's step, with the mark that the schedule looks for."""

    def step(*args: Any, **kwargs: Any) -> Any:
        optimizer._opt_called = True  # type: ignore[attr-defined]
        return type(optimizer).step(optimizer, *args, **kwargs)

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    return step


def _schedules_of(optimizer: torch.optim.Optimizer | None) -> list[LRScheduler]:
    """The schedules that move this optimizer: it does not know them, and hooks hide them."""
    if optimizer is None or "step" not in vars(optimizer):
        return []
    # By `type`: to ask an object for its class may run code of its own.
    found = (one for one in gc.get_objects() if issubclass(type(one), LRScheduler))
    return [one for one in found if vars(one).get("optimizer") is optimizer]


@contextlib.contextmanager
def _following(schedules: list[LRScheduler], optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
    """The schedules move another optimizer, from where they stand; afterwards they are what they were."""
    before = [(one, dict(vars(one))) for one in schedules]
    try:
        for one, attributes in before:
            kept = {name: copy.deepcopy(value) for name, value in attributes.items() if _is_state(value)}
            vars(one).update(kept, optimizer=optimizer)
        yield
    finally:
        for one, attributes in before:
            vars(one).clear()
            vars(one).update(attributes)


def _is_state(value: Any) -> bool:
    return isinstance(value, (int, float, str, list, tuple, dict)) and not _holds(value)


def _holds(value: Any) -> bool:
    """Whether a container holds functions or schedules, which are shared."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(callable(one) or isinstance(one, LRScheduler) for one in items)
