"""What a regularizer may do to a training; each of ours does one of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Regularizer:
    """Where a training asks a regularizer.

    penalty(model): a scalar added to the training loss. after_step(model, lr): changes the weights in place after an
    optimizer step of that learning rate. dropout(): a module that the network puts behind each hidden activation.
    patience: stop after so many validations without a new best validation loss, and restore the best weights.
    """

    penalty: Callable[[nn.Module], torch.Tensor] | None = None
    after_step: Callable[[nn.Module, float], None] | None = None
    dropout: Callable[[], nn.Module] | None = None
    patience: int | None = None
