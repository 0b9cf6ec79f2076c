"""The adding problem: a task for recurrent nets that needs memory over the length of the sequence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from diag.recipes.dataset import Batch
from diag.recipes.endless import check_whole, endless

BASELINE = 1 / 6
"""Mean squared error of always answering 1, the variance of the sum of two uniform numbers: what a net that has learned
nothing but the mean reaches."""


def adding_batch(count: int, length: int, source: torch.Generator | int) -> Batch:
    """The first `count` sequences of a seed: inputs float32 [count, length, 2] and targets float32 [count, 1].

    The first feature is uniform in [0, 1), the second is 1 at two places and 0 elsewhere: one place of the first
    length // 2, one of the rest, each uniform. The target is the sum of the two numbers that are marked.
    source: a seed, or a generator of which one is drawn.
    Raises: RecipeError for count below 1, length below 2, or a seed outside [0, 2^64).
    Source: Hochreiter & Schmidhuber 1997, section 5.4; with these values and markers Le et al. 2015, section 4.1.
    """
    return next(adding_stream(count, source, length))


def adding_stream(batch_size: int, source: torch.Generator | int, length: int, skip: int = 0) -> Iterator[Batch]:
    """Endless batches as of `adding_batch`; sequence i of a seed is the same whatever the batch size.

    skip: the batch to start at, as fast as at the first: so an interrupted run goes on, and workers share the work.
    Raises: RecipeError as `adding_batch`, and for a skip below 0.
    Source: Hochreiter & Schmidhuber 1997, section 5.4.
    """
    check_whole("the length of a sequence", length, 2)

    def draw(random: np.random.Generator, count: int) -> Batch:
        values = random.random((count, length), np.float32)
        half = length // 2
        share = random.random((count, 2))
        places = np.stack([share[:, 0] * half, half + share[:, 1] * (length - half)], 1).astype(np.int64)
        markers = np.zeros_like(values)
        np.put_along_axis(markers, places, 1, 1)
        targets = np.take_along_axis(values, places, 1).sum(1, keepdims=True)
        return torch.from_numpy(np.stack([values, markers], 2)), torch.from_numpy(targets)

    return endless(draw, batch_size, source, skip)
