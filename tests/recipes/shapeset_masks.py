"""The pixels of Shapeset's shapes from their definition, pixel by pixel: a second way to what `pixel_runs` gives."""

from __future__ import annotations

import numpy as np

from diag.recipes.shapeset_geometry import ELLIPSE, NOTHING, TRIANGLE, Shapes


def corners_of(shapes: Shapes, one: int) -> np.ndarray:
    """Of a triangle or parallelogram, [corners, 2], in order: the image of the regular one of area 1."""
    count = 3 if shapes.kind[one] == TRIANGLE else 4
    turns = np.pi + 2 * np.pi * np.arange(3) / 3 if count == 3 else np.pi / 4 + np.pi / 2 * np.arange(4)
    radius = (2 / (count * np.sin(2 * np.pi / count))) ** 0.5
    return shapes.center[one] + radius * np.stack([np.cos(turns), np.sin(turns)], 1) @ shapes.matrix[one].T


def mask_of(shapes: Shapes, one: int, size: int) -> np.ndarray:
    """bool [size, size]: on the same side of every side of a polygon; at most 1 / pi in an ellipse's quadratic form."""
    middle = (np.arange(size) + 0.5) / size
    points = np.stack(np.meshgrid(middle, middle), -1)
    if shapes.kind[one] == NOTHING:
        return np.zeros((size, size), bool)
    if shapes.kind[one] == ELLIPSE:
        apart = points - shapes.center[one]
        form = np.linalg.inv(shapes.matrix[one] @ shapes.matrix[one].T)
        return np.einsum("xyi,ij,xyj->xy", apart, form, apart) <= 1 / np.pi
    corners = corners_of(shapes, one)
    sides = zip(corners, np.roll(corners, -1, 0), strict=True)
    crossed = [
        (b - a)[0] * (points[:, :, 1] - a[1]) - (b - a)[1] * (points[:, :, 0] - a[0]) for a, b in sides
    ]  # positive on one side, negative on the other
    return np.all(np.array(crossed) >= 0, 0)


def masks_of(shapes: Shapes, size: int) -> np.ndarray:
    """bool [n, size, size]."""
    return np.stack([mask_of(shapes, one, size) for one in range(len(shapes.kind))])
