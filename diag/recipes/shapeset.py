"""Shapeset-3x2: endless grey images of one or two of triangle, parallelogram and ellipse, fixed by a seed.

From Glorot & Bengio 2010, section 2.1: 32x32 pixels; one or two objects of three shapes, each with random shape
parameters (relative lengths and angles), scale, rotation, place and grey level; the second covers at most half of the
first; nine classes, for which it does not matter which of two lies on top.

Ours, where the paper gives no numbers:
- The classes: 0 to 2 one triangle, parallelogram, ellipse; 3 to 8 the pairs TT, TP, TE, PP, PE, EE. All as likely.
- Scale, place and shape parameters as in `draw_shapes`; the three kinds have areas of the same distribution, 9 to 25 %
  of the frame, and lie whole within it (as do the shapes of Bengio et al. 2009, section 5, from the same laboratory).
- The rule of one half holds both ways, and is counted in pixels: two shapes share at most half of the smaller one's.
- Three grey levels at least 0.2 apart, uniform over all such; the darkest is the background, the shapes have the
  others. With backgrounds of any level a network takes several times the images to learn as much.
- No antialiasing: a pixel has the grey level of its middle.
- A pixel is (grey - 0.28) / 0.27, with grey in [0, 1]: over all images, mean 0 and variance 1 within 2 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np
import torch

from diag.recipes.dataset import Batch
from diag.recipes.endless import check_whole, endless
from diag.recipes.shapeset_geometry import NOTHING, Array, Shapes, draw_shapes, pixel_runs

KINDS = np.array([*((kind, NOTHING) for kind in range(3)), *combinations_with_replacement(range(3), 2)])
"""Class -> the kinds of its shapes, as `shapeset_geometry` numbers them."""
CLASSES = len(KINDS)
SMALLEST, LARGEST = 8, 256
"""Sizes. With fewer pixels a shape of the least area would have less than 6; with more a block takes gigabytes."""
MOST_SHARED = 0.5
LEAST_CONTRAST = 0.2
GREY_MEAN, GREY_DEVIATION = 0.28, 0.27


def shapeset_batch(count: int, source: torch.Generator | int, size: int = 32) -> Batch:
    """The first `count` images of a seed: float32 [count, 1, size, size], and their labels, int64 [count].

    source: a seed, or a generator of which one is drawn. Images are drawn by blocks of 256: many small batches come
    faster from one `shapeset_stream`.
    Raises: RecipeError for count below 1, a size outside [8, 256] pixels, or a seed outside [0, 2^64).
    Source: Glorot & Bengio 2010, section 2.1.
    """
    return next(shapeset_stream(count, source, size))


def shapeset_stream(batch_size: int, source: torch.Generator | int, size: int = 32, skip: int = 0) -> Iterator[Batch]:
    """Endless batches as of `shapeset_batch`; image i of a seed is the same whatever the batch size.

    skip: the batch to start at, as fast as at the first: so an interrupted run goes on, and workers share the work.
    Raises: RecipeError as `shapeset_batch`, and for a skip below 0.
    Source: Glorot & Bengio 2010, section 2.1.
    """
    check_whole("an image's size in pixels", size, SMALLEST, LARGEST)

    def draw(random: np.random.Generator, count: int) -> Batch:
        labels = (random.random(count) * CLASSES).astype(np.int64)
        greys = draw_greys(count, random)
        lower, upper = draw_scenes(labels, random, size)
        return torch.from_numpy(paint(lower, upper, greys, size)[:, None]), torch.from_numpy(labels)

    return endless(draw, batch_size, source, skip)


def draw_greys(count: int, random: np.random.Generator) -> Array:
    """Grey levels in [0, 1] of background, lower and upper shape, float64 [count, 3], all at least 0.2 apart."""
    levels = np.sort(random.random((count, 3)), 1) * (1 - 2 * LEAST_CONTRAST) + LEAST_CONTRAST * np.arange(3)
    swapped = random.random(count) < 0.5
    levels[swapped, 1:] = levels[swapped, :0:-1]
    return levels


def draw_scenes(labels: Array, random: np.random.Generator, size: int) -> tuple[Shapes, Shapes]:
    """For each class the lower and the upper shape, drawn again until they share few enough pixels.

    Either of a pair's kinds is as likely to be on top. The upper kind of a single shape is NOTHING.
    """
    kinds = KINDS[labels]
    pairs = kinds[:, 1] != NOTHING
    swapped = pairs & (random.random(len(labels)) < 0.5)
    kinds[swapped] = kinds[swapped, ::-1]
    both = draw_shapes(kinds[:, 0], random), draw_shapes(kinds[:, 1], random)
    unsettled = np.flatnonzero(pairs)
    while len(unsettled):
        unsettled = unsettled[_hide_too_much(*(pixel_runs(one.take(unsettled), size) for one in both))]
        for one in both:
            one.put(unsettled, draw_shapes(one.kind[unsettled], random))
    return both


def _hide_too_much(one: Array, other: Array) -> Array:
    """Which of the pairs of shapes, given by their runs, share more than half of the smaller one's pixels."""
    shared = np.maximum(np.minimum(one[1], other[1]) - np.maximum(one[0], other[0]), 0).sum(1)
    smaller = np.minimum((one[1] - one[0]).sum(1), (other[1] - other[0]).sum(1))
    return shared > MOST_SHARED * smaller


def paint(lower: Shapes, upper: Shapes, greys: Array, size: int) -> Array:
    """The images, float32 [count, size, size]; greys: of background, lower and upper shape."""
    background, *levels = ((greys.T - GREY_MEAN) / GREY_DEVIATION).astype(np.float32)[:, :, None, None]
    images = np.broadcast_to(background, (len(background), size, size))
    column = np.arange(size, dtype=np.int16)
    for shapes, level in zip((lower, upper), levels, strict=True):
        first, after = pixel_runs(shapes, size)[:, :, :, None]
        images = np.where((column >= first) & (column < after), level, images)
    return images
