"""The adding problem: a task for recurrent nets that needs memory over the length of the sequence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from diag.recipes.dataset import Batch
from diag.recipes.endless import endless
from diag.recipes.spec import RecipeError


def adding_batch(count: int, length: int, source: torch.Generator | int) -> Batch:
    """The first batch of `adding_stream`: inputs float32 [count, length, 2], targets [count, 1].

    Raises: RecipeError as `adding_stream`.
    """
    return next(adding_stream(count, source, length))


def adding_stream(batch_size: int, source: torch.Generator | int, length: int, skip: int = 0) -> Iterator[Batch]:
    """Endless batches; source and skip as in `diag.recipes.endless.endless`.

    The first feature is uniform in [0, 1], the second marks one place in each half; the target is the sum of the two
    marked numbers, so always answering 1 has the mean squared error 1/6.
    Raises: RecipeError for a length below 2, or as `endless`.
    Source: Hochreiter & Schmidhuber 1997, section 5.4; Le et al. 2015, section 4.1.
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < 2:
        raise RecipeError(f"the adding problem's length is a whole number from 2, got {length!r}")

    def draw(random: np.random.Generator, count: int) -> Batch:
        inputs = np.zeros((count, length, 2), np.float32)
        inputs[:, :, 0] = random.random((count, length), np.float32)
        half = length // 2
        places = np.stack([random.integers(0, half, count), random.integers(half, length, count)], 1)
        rows = np.arange(count)[:, None]
        inputs[rows, places, 1] = 1
        return torch.from_numpy(inputs), torch.from_numpy(inputs[rows, places, 0].sum(1, keepdims=True))

    return endless(draw, batch_size, source, skip)
