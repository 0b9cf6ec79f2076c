"""A workload: what is needed to train a network, and nothing about how it is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diag.errors import TargetError

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


def require_usable(workload: Workload) -> None:
    """Raises: TargetError for a model, a loss or an optimizer that is none."""
    import torch

    if not isinstance(workload.model, torch.nn.Module):
        raise TargetError(f"the workload's model must be a torch.nn.Module, got {_kind(workload.model)}")
    if not callable(workload.loss):
        raise TargetError(f"the workload's loss must be a function loss(model, batch), got {_kind(workload.loss)}")
    optimizer = workload.optimizer
    if optimizer is not None and (isinstance(optimizer, type) or not hasattr(optimizer, "step")):
        raise TargetError(f"the workload's optimizer must be a torch.optim.Optimizer, got {_kind(optimizer)}")


def _kind(given: Any) -> str:
    return f"the class {given.__name__}: make one of it" if isinstance(given, type) else type(given).__name__
