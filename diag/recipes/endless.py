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


def endless(
    draw: Callable[[np.random.Generator, int], Batch], batch_size: int, source: torch.Generator | int, skip: int = 0
) -> Iterator[Batch]:
    """Batches of consecutive samples; batch n holds the samples n * batch_size to (n + 1) * batch_size - 1.

    draw(random, count): that many samples from a generator of random numbers. It is called for one block of samples at
    a time, with the generator Philox(key=seed, counter=block * 2^128), so sample i depends on the seed and on i alone:
    not on the batch size, and not on what was drawn before.
    source: a seed in [0, 2^64), or a generator of which one seed is drawn. skip: start at this batch.
    Raises: RecipeError for a batch_size below 1, a skip below 0 or a seed outside its range.
    Source: Salmon et al. 2011 (Philox).
    """
    _whole("the number of samples in a batch", batch_size, 1)
    _whole("the number of batches to skip", skip, 0)
    seed = int(torch.randint(2**62, (), generator=source)) if isinstance(source, torch.Generator) else source
    _whole("a seed", seed, 0)
    if seed >= 2**64:
        raise RecipeError(f"a seed is a whole number below 2^64, got {seed}")
    return _batches(draw, batch_size, int(seed), skip)


def _batches(
    draw: Callable[[np.random.Generator, int], Batch], batch_size: int, seed: int, skip: int
) -> Iterator[Batch]:
    @functools.lru_cache(maxsize=1)
    def block(number: int) -> Batch:
        return draw(np.random.Generator(np.random.Philox(key=seed, counter=number << 128)), BLOCK)

    for start in itertools.count(skip * batch_size, batch_size):
        stop = start + batch_size
        numbers = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        parts = [[one[max(0, start - k * BLOCK) : stop - k * BLOCK] for one in block(k)] for k in numbers]
        # A copy even of a part of one block: what is done to a batch in place must not reach the block.
        inputs, targets = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
        yield inputs, targets


def _whole(what: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise RecipeError(f"{what} is a whole number from {least}, got {value!r}")
