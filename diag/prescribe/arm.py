"""One training of some steps: what the original loss is at its end."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from diag.train.seeds import derived_seed
from diag.train.workload import Workload

Loss = Callable[[nn.Module, Any], torch.Tensor]
LAST = 0.2
"""The share of the steps, the last ones, over which the final loss is a mean."""
FIRST = 3
"""Batches, the first ones, over which the loss before training is a mean."""
DIVERGED = 1e6
"""A loss that is not finite, or so many times its start (or 1, if that is more), has diverged."""


@dataclass
class Arm:
    """How one training went. start: the measured loss before any step. final: its mean before each of the last steps;
    infinite where it diverged. gradient_norms: of all parameters together, per step."""

    seed: int
    start: float = math.inf
    final: float = math.inf
    diverged: bool = False
    gradient_norms: list[float] = field(default_factory=list)


def run_arm(workload: Workload, batches: Sequence[Any], seed: int, measure: Loss, norms: bool = False) -> Arm:
    """Train a workload once over the batches, in the order of the seed (0: as they come), and measure.

    measure: whose value counts, without dropout.
    norms: whether to keep the gradients' norms.
    The random state is set by the seed, and is the caller's to bring back.
    """
    arm = Arm(seed)
    workload.model.train()
    order = list(range(len(batches)))
    if seed:
        generator = torch.Generator().manual_seed(derived_seed(seed, "order"))
        order = torch.randperm(len(batches), generator=generator).tolist()
    seed_everything(derived_seed(seed, "training"))
    last = len(order) - max(1, round(LAST * len(order)))
    plain = measure is workload.loss and not _dropouts(workload.model)
    arm.start = _mean([_measured(workload.model, batches[index], measure) for index in order[:FIRST]])
    ends: list[float] = []
    first = math.nan
    for number, index in enumerate(order):
        batch, wanted = batches[index], number >= last
        try:
            before = _measured(workload.model, batch, measure) if wanted and not plain else math.nan
            value = _step(workload, batch, arm if norms else None)
        except (RuntimeError, ValueError, IndexError):
            if not number:
                raise
            before = value = math.nan  # what diverges is refused: by binary_cross_entropy, by distributions, by tables
        if wanted:
            ends.append(value if plain else before)
        first = value if math.isnan(first) else first
        if not math.isfinite(value) or abs(value) > DIVERGED * max(1.0, abs(first)):
            arm.diverged = True
            break
    arm.final = math.inf if arm.diverged else _mean(ends)
    arm.diverged |= not math.isfinite(arm.final)
    return arm


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _mean(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return mean if math.isfinite(mean) else math.inf


def _step(workload: Workload, batch: Any, arm: Arm | None) -> float:
    """One step as `diag check` takes it; the loss before it."""
    model, optimizer = workload.model, workload.optimizer
    assert optimizer is not None
    values: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = workload.loss(model, batch)
        loss.backward()
        values.append(float(loss.detach()))
        return loss

    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.step(closure)
        return values[0]
    closure()
    if arm is not None:
        gradients = [one.grad for one in model.parameters() if one.grad is not None and not one.grad.is_sparse]
        arm.gradient_norms.append(float(nn.utils.get_total_norm(gradients)) if gradients else 0.0)
    optimizer.step()
    return values[0]


def _dropouts(model: nn.Module) -> list[nn.Module]:
    return [one for one in model.modules() if isinstance(one, nn.modules.dropout._DropoutNd) and one.p > 0]


def _measured(model: nn.Module, batch: Any, measure: Loss) -> float:
    """The loss as it is, without dropout's noise; running statistics and random states are not moved."""
    with _quiet(model), torch.random.fork_rng():
        return float(measure(model, batch).detach())


@contextlib.contextmanager
def _quiet(model: nn.Module) -> Iterator[None]:
    noisy = [one for one in _dropouts(model) if one.training]
    buffers = [(one, one.detach().clone()) for one in model.buffers()]
    for one in noisy:
        one.training = False
    try:
        yield
    finally:
        for one in noisy:
            one.training = True
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
