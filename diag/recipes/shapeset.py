"""Shapeset-3x2: endless images of one or two of triangle, parallelogram and ellipse, each fixed by seed and number.

Glorot & Bengio 2010, section 2.1: 32x32 grey images, nine classes, random place, scale, rotation; of two shapes neither
hides more than half of the other. Ours where the paper is silent: sizes and distortions (`shapeset_geometry`), also
that a shape lies whole within the frame, that the hidden share is counted in pixels of the smaller one, the grey levels
(`draw_greys`), and the scale of the pixels: (grey - 1/2) over the deviation of all grey levels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from diag.recipes.dataset import Batch
from diag.recipes.endless import endless
from diag.recipes.shapeset_geometry import NOTHING, Array, Shapes, draw_shapes, pixel_runs
from diag.recipes.spec import RecipeError

CLASSES = 9
SMALLEST = 16
"""Pixels of the side, below which shapes can no longer be told apart."""
KINDS = np.array([(0, NOTHING), (1, NOTHING), (2, NOTHING), (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)])
"""The shapes of each class: 0 triangle, 1 parallelogram, 2 ellipse."""
LEAST_CONTRAST = 0.2
MOST_HIDDEN = 0.5
_L = 1 - 2 * LEAST_CONTRAST
GREY_DEVIATION = (_L**2 / 3 + 4 * _L * LEAST_CONTRAST / 3 + 5 * LEAST_CONTRAST**2 / 3 - 0.25) ** 0.5
"""Of a grey level of `draw_greys` from 1/2: sqrt(E g^2 - 1/4), g one of three sorted uniform numbers moved apart."""


def shapeset_batch(count: int, source: torch.Generator | int, size: int = 32) -> Batch:
    """The first batch of `shapeset_stream`: images float32 [count, 1, size, size], labels int64 [count].

    Raises: RecipeError as `shapeset_stream`.
    """
    return next(shapeset_stream(count, source, size))


def shapeset_stream(batch_size: int, source: torch.Generator | int, size: int = 32, skip: int = 0) -> Iterator[Batch]:
    """Endless batches, every class as likely; source and skip as in `diag.recipes.endless.endless`.

    Raises: RecipeError for a size below 16 pixels, or as `endless`.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < SMALLEST:
        raise RecipeError(f"shapeset's size is a whole number of pixels from {SMALLEST}, got {size!r}")

    def draw(random: np.random.Generator, count: int) -> Batch:
        labels = (random.random(count) * CLASSES).astype(np.int64)
        lower, upper = draw_scenes(labels, random, size)
        return torch.from_numpy(paint(lower, upper, draw_greys(count, random), size)), torch.from_numpy(labels)

    return endless(draw, batch_size, source, skip)


def draw_scenes(labels: Array, random: np.random.Generator, size: int) -> tuple[Shapes, Shapes]:
    """The lower and the upper shape of each image; pairs are drawn again until neither hides too much of the other."""
    kinds = KINDS[labels]
    swap = (random.random(len(labels)) < 0.5) & (kinds[:, 1] != NOTHING)
    kinds[swap] = kinds[swap, ::-1]
    lower, upper = draw_shapes(kinds[:, 0], random), draw_shapes(kinds[:, 1], random)
    left = np.flatnonzero(kinds[:, 1] != NOTHING)
    while len(left):
        again = [Shapes(one.kind[left], one.matrix[left], one.center[left]) for one in (lower, upper)]
        first, second = (pixel_runs(one, size) for one in again)
        common = np.clip(np.minimum(first[1], second[1]) - np.maximum(first[0], second[0]), 0, None).sum(1)
        smaller = np.minimum((first[1] - first[0]).sum(1), (second[1] - second[0]).sum(1))
        left = left[common > MOST_HIDDEN * smaller]
        for shapes in (lower, upper):
            shapes.put(left, draw_shapes(shapes.kind[left], random))
    return lower, upper


def paint(lower: Shapes, upper: Shapes, greys: Array, size: int) -> Array:
    """Images float32 [n, 1, size, size]; greys: of background, lower and upper shape, [n, 3]."""
    column = np.arange(size, dtype=np.int16)
    levels = ((greys - 0.5) / GREY_DEVIATION).astype(np.float32)
    image = np.broadcast_to(levels[:, 0, None, None], (len(levels), size, size))
    for shapes, level in ((lower, levels[:, 1]), (upper, levels[:, 2])):
        first, after = pixel_runs(shapes, size)
        inside = (column >= first[:, :, None]) & (column < after[:, :, None])
        image = np.where(inside, level[:, None, None], image)
    return image[:, None]


def draw_greys(count: int, random: np.random.Generator) -> Array:
    """Three grey levels in [0, 1] an image, [count, 3], in random order and at least 0.2 apart."""
    levels = np.sort(random.random((count, 3)), 1) * (1 - 2 * LEAST_CONTRAST) + np.arange(3) * LEAST_CONTRAST
    return np.take_along_axis(levels, np.argsort(random.random((count, 3)), 1), 1)
