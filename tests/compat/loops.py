"""The data and the loop that most set-ups share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.compat.oracle import Oracle
from tests.compat.registry import Job, Snap

STEPS, ROWS, WIDTH, CLASSES = 3, 8, 6, 3
Batch = tuple[torch.Tensor, torch.Tensor]


def batches(steps: int = STEPS, rows: int = ROWS, shape: tuple[int, ...] = (WIDTH,)) -> list[Batch]:
    """Inputs and classes, the same at every call."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(rows, *shape, generator=generator), torch.randint(0, CLASSES, (rows,), generator=generator))
        for _ in range(steps)
    ]


def loss_of(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The loss of all set-ups that do not say otherwise."""
    return F.cross_entropy(out, y)


def job(
    model: nn.Module,
    forward: Callable[[Oracle, torch.Tensor], torch.Tensor],
    *,
    data: Sequence[Batch] | None = None,
    call: Callable[..., torch.Tensor] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    **options: Any,
) -> Job:
    """Plain training with SGD. forward: the oracle's. call: what runs in the place of `model(x)`."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.3, momentum=0.9)
    call = call or model

    def train(snap: Snap) -> None:
        for x, y in data or batches():
            snap((x, y))
            optimizer.zero_grad()
            loss_of(call(x), y).backward()
            optimizer.step()

    def oracle(note: Oracle, batch: Batch) -> None:
        note.backward(loss_of(forward(note, note.cast(batch[0])), batch[1]))

    return Job(model, train, oracle, [optimizer], **options)


def network() -> nn.Sequential:
    """The model of the set-ups in which it does not matter."""
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def network_forward(note: Oracle, x: torch.Tensor, prefix: str = "") -> torch.Tensor:
    """The same by hand."""
    x = note.linear(f"{prefix}0", x)
    return note.linear(f"{prefix}2", note(f"{prefix}1", x.tanh()))
