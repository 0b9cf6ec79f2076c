"""A workload: what is needed to train a network, and nothing about how it is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass
class Workload:
    """A model, its data, its loss and, if it is to be trained, its optimizer.

    loss: `loss(model, batch) -> scalar tensor`. batches: any iterable; it is iterated again when it is spent, if it
    can be. Without an optimizer the network is judged at initialization.
    """

    model: torch.nn.Module
    batches: Iterable[Any]
    loss: Callable[[torch.nn.Module, Any], torch.Tensor]
    optimizer: torch.optim.Optimizer | None = None
