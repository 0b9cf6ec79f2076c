"""Data that a recipe trains on: three parts, or an endless stream with fixed parts to judge by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from diag.recipes.spec import RecipeError

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Dataset:
    """Inputs and targets. A classification's targets are int64 labels, a regression's float32 [count, outputs].

    outputs: number of classes or of values. train: may be empty where `stream` is given. valid steers (schedules, early
    stopping, tuning), test judges. stream: `stream(batch_size, seed)` gives endless training batches, the same for the
    same seed. elsewhere: inputs of the same shape from another distribution. unlabeled: further inputs without targets.

    Raises: RecipeError with neither training samples nor a stream.
    """

    task: Literal["classification", "regression"]
    outputs: int
    train: Batch
    valid: Batch
    test: Batch
    stream: Callable[[int, int], Iterator[Batch]] | None = None
    elsewhere: torch.Tensor | None = None
    unlabeled: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.stream is None and not len(self.train[0]):
            raise RecipeError("a data set has training samples or a stream of them, and this one has neither")

    @property
    def inputs(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.valid[0].shape[1:])

    def batches(self, batch_size: int, seed: int) -> Iterator[Batch]:
        """Endless training batches: epochs in an order of their own each, whole batches only (all, if fewer)."""
        if self.stream is not None:
            yield from self.stream(batch_size, seed)
            return
        inputs, targets = self.train
        generator = torch.Generator().manual_seed(seed)
        size = min(batch_size, len(inputs))
        while True:
            order = torch.randperm(len(inputs), generator=generator)
            for chunk in order[: len(order) - len(order) % size].split(size):
                yield inputs[chunk], targets[chunk]
