"""Endless samples, each fixed by a seed and its number: drawn in any order, by any process, they are the same."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch

from diag.recipes.dataset import Batch
from diag.recipes.spec import RecipeError

BLOCK = 256
"""Samples drawn together: enough to be fast, few enough that a block of images stays in a processor's cache."""

Draw = Callable[[np.random.Generator, int], Batch]
"""`draw(random, count)`: so many samples, from these random numbers and nothing else."""


def endless(draw: Draw, batch_size: int, source: torch.Generator | int, skip: int = 0) -> Iterator[Batch]:
    """Batches of consecutive samples: batch n holds the samples n * batch_size to (n + 1) * batch_size - 1.

    Block k of 256 samples is drawn from Philox(key=seed, counter=k * 2^128). So a sample depends on the seed and its
    number alone, not on the batch size or on what was drawn before, and whoever wants one sample draws its whole block.
    source: a seed in [0, 2^64), or a generator of which a seed is drawn at once. skip: the batch to start at.
    Raises: RecipeError, at once, for a batch_size below 1, a skip below 0 or a seed outside its range.
    Source: Salmon et al. 2011 (Philox).
    """
    check_whole("the number of samples", batch_size, 1)
    check_whole("the number of batches to skip", skip, 0)
    seed = int(torch.randint(2**62, (), generator=source)) if isinstance(source, torch.Generator) else source
    check_whole("a seed", seed, 0, 2**64 - 1)
    return _batches(draw, int(batch_size), int(seed), int(skip))


def check_whole(what: str, value: object, least: int, most: int | None = None) -> None:
    """Raises: RecipeError for what is not a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least or (most and value > most):
        upwards = f" to {most}" if most else ""
        raise RecipeError(f"{what} must be a whole number from {least}{upwards}, got {value!r}")


def _batches(draw: Draw, batch_size: int, seed: int, skip: int) -> Iterator[Batch]:
    @functools.lru_cache(maxsize=1)
    def block(number: int) -> Batch:
        return draw(np.random.Generator(np.random.Philox(key=seed, counter=number << 128)), BLOCK)

    for start in itertools.count(skip * batch_size, batch_size):
        stop = start + batch_size
        numbers = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        parts = [[one[max(0, start - k * BLOCK) : stop - k * BLOCK] for one in block(k)] for k in numbers]
        # Copied even from a single block: what is done to a batch in place must not reach the block, and memory of
        # torch's own is aligned the same for every batch, on which the last bits of a matrix product can depend.
        inputs, targets = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
        yield inputs, targets
