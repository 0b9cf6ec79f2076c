"""The training loop that `diag check` runs: a few steps of a workload under a probe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from diag.errors import TargetError
from diag.probe.probe import Probe
from diag.probe.tensors import is_hollow
from diag.train.user_code import UserCodeError, user_code
from diag.train.workload import Workload

Progress = Callable[[int, int, float | None], None]
"""Called after each step with the steps done, the steps asked for and the loss."""

STEPS_AT_INITIALIZATION = 5
_STEPS_AFTER_NONFINITE_LOSS = 2


def train(workload: Workload, probe: Probe, steps: int, progress: Progress | None = None) -> None:
    """Train a workload for some steps, or, without an optimizer, only differentiate its loss on some batches.

    It ends early when the batches are spent, soon after the loss is no longer finite, or where the user's code raises
    after something that is not finite was measured in the same step: many functions refuse it.
    Raises: TargetError if the batches are empty or the loss is not a differentiable scalar, or with the cause if
    it raised.
    """
    total = steps if workload.optimizer is not None else min(steps, STEPS_AT_INITIALIZATION)
    if not workload.model.training:
        workload.model.train()
    remaining = total
    done = 0
    for number, batch in _batches(workload.batches, total):
        try:
            value = _step(workload, probe, batch)
        except UserCodeError as error:
            if probe.break_off(str(error), batch=number):
                return
            raise
        probe.end_step(value, batch=number)
        done += 1
        if progress is not None:
            progress(done, total, value)
        remaining = min(remaining - 1, _STEPS_AFTER_NONFINITE_LOSS) if not math.isfinite(value) else remaining - 1
        if remaining <= 0:
            break
    if done == 0:
        again = iter(workload.batches) is workload.batches
        fix = (
            "it is an iterator that is spent: give a list, a DataLoader or a fresh generator"
            if again
            else "give at least one batch"
        )
        raise TargetError(f"the workload's batches are empty: {fix}")
    if done < total:
        why = "the loss was no longer finite" if not math.isfinite(value) else "the batches were spent"
        probe.notes.append(f"training ended after {done} of {total} steps: {why}")


def _batches(batches: Any, total: int) -> Iterator[tuple[int, Any]]:
    """At most `total` batches with their number in the data, from the start again when it is spent."""
    try:
        iterator = iter(batches)
    except TypeError:
        raise TargetError(f"the workload's batches must be iterable, got {type(batches).__name__}") from None
    count = number = 0
    while count < total:
        try:
            with user_code(f"reading batch {number}"):
                batch = next(iterator)
        except StopIteration:
            iterator = iter(batches)
            if number == 0 or iterator is batches:
                return
            number = 0
            continue
        yield number, batch
        count, number = count + 1, number + 1


def _step(workload: Workload, probe: Probe, batch: Any) -> float:
    model, optimizer = workload.model, workload.optimizer
    if optimizer is None:
        for parameter in model.parameters():
            parameter.grad = None
        loss = _loss(workload, probe, batch)
        _differentiate(loss)
        return float(loss.detach())
    values: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = _loss(workload, probe, batch)
        _differentiate(loss)
        values.append(float(loss.detach()))
        return loss

    arguments: list[Any] = [closure]
    if not isinstance(optimizer, torch.optim.LBFGS):
        arguments.clear()
        closure()
    with user_code("the optimizer's step"):
        optimizer.step(*arguments)
    return values[0]


def _differentiate(loss: torch.Tensor) -> None:
    with user_code("differentiating the loss"):
        loss.backward()


def _loss(workload: Workload, probe: Probe, batch: Any) -> torch.Tensor:
    with user_code("the workload's loss"), probe.forward.loss_scope():
        loss = workload.loss(workload.model, batch)
    if not isinstance(loss, torch.Tensor):
        raise TargetError(f"the workload's loss must return a scalar tensor, got {type(loss).__name__}")
    if loss.numel() != 1:
        raise TargetError(
            f"the workload's loss must return a scalar, got shape {tuple(loss.shape)}: take its mean or sum"
        )
    if is_hollow(loss):
        raise TargetError(
            "the workload's loss holds no number: model and batches must be on a real device (model.to_empty, then "
            "its initialization), not on meta"
        )
    if not loss.requires_grad:
        raise TargetError(
            "the workload's loss has no gradient: it was computed under no_grad, detached, or from no trainable "
            "parameter"
        )
    return loss
