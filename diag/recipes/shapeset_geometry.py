"""Triangles, parallelograms and ellipses at random, and the pixels that they cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

TRIANGLE, PARALLELOGRAM, ELLIPSE = range(3)
NOTHING = -1
"""The kind of a shape that is not there; it covers no pixel."""

LEAST_SCALE, MOST_SCALE = 0.2, 0.37
MOST_STRETCH = 1.5

_RADIUS = 2 / 27**0.25
"""Of the circle around a regular triangle of area 1: 3 sqrt(3) / 4 radius^2 = 1."""


def _directions(angles: list[float]) -> Array:
    return np.array([(np.cos(one), np.sin(one)) for one in angles])


# A triangle's first side stands twice, so that both polygons have four.
_THIRDS = _directions([2 * np.pi * k / 3 for k in (0, 1, 2, 0)])
_QUARTERS = _directions([np.pi * k / 2 for k in range(4)])
_NORMALS = np.stack([_THIRDS, _QUARTERS, np.zeros((4, 2))])
_APOTHEMS = np.array([_RADIUS / 2, 0.5, 0.0])
_CORNERS = np.stack([-_RADIUS * _THIRDS, _directions([np.pi * (k + 0.5) / 2 for k in range(4)]) / np.sqrt(2),
                     np.zeros((4, 2))])  # fmt: skip


@dataclass(frozen=True)
class Shapes:
    """Shapes in a frame of side 1, the second coordinate downwards.

    A shape is the points center + matrix p, with p in the regular triangle, the square or the disc that has area 1 and
    its middle at the origin. So its area is det(matrix).
    kind: int [n]. matrix: float64 [n, 2, 2]. center: float64 [n, 2].
    """

    kind: Array
    matrix: Array
    center: Array

    def put(self, where: Array, others: Shapes) -> None:
        """Replace those at the indices `where`."""
        self.matrix[where], self.center[where] = others.matrix, others.center


def draw_shapes(kind: Array, random: np.random.Generator) -> Shapes:
    """Shapes of these kinds, each whole within the frame.

    matrix = scale R(a) diag(s, 1/s) R(b): the angles a and b uniform, the scale (root of the area) uniform in
    [0.2, 0.37], s log-uniform in [1, 1.5], so that a shape is at most 2.25 times as long as wide, seen from its regular
    one. The center is uniform over all places where the shape lies whole within the frame. The kind tells nothing of
    the area.
    """
    u = random.random((6, len(kind)))
    scale = LEAST_SCALE + (MOST_SCALE - LEAST_SCALE) * u[0]
    stretch = MOST_STRETCH ** u[1]
    lengths = np.stack([scale * stretch, scale / stretch], 1)
    matrix = (_rotation(u[2]) * lengths[:, None, :]) @ _rotation(u[3])
    corners = np.einsum("nij,ncj->nci", matrix, _CORNERS[kind])
    rounded = np.sqrt((matrix**2).sum(2) / np.pi) * (kind == ELLIPSE)[:, None]
    before, behind = np.maximum(-corners.min(1), rounded), np.maximum(corners.max(1), rounded)
    return Shapes(kind, matrix, before + u[4:].T * (1 - before - behind))


def _rotation(turn: Array) -> Array:
    cosine, sine = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    return np.stack([cosine, -sine, sine, cosine], 1).reshape(-1, 2, 2)


def pixel_runs(shapes: Shapes, size: int) -> Array:
    """The pixels whose middle a shape covers, int16 [2, n, size]: in each row the first, and the one after the last.

    The shapes are convex, so that in every row they are one run: for a polygon, of the half-planes
    normal . matrix^-1 (x - center) <= apothem; for an ellipse, of |matrix^-1 (x - center)|^2 <= 1 / pi.
    """
    (a, b), (c, d) = shapes.matrix.transpose(1, 2, 0)
    determinant = a * d - b * c
    inverse = (np.stack([d, -b, -c, a], 1) / determinant[:, None]).reshape(-1, 2, 2)
    height = (np.arange(size) + 0.5) / size - shapes.center[:, 1:]
    left, right = np.zeros_like(height), np.full_like(height, -1.0)
    many = (shapes.kind == TRIANGLE) | (shapes.kind == PARALLELOGRAM)
    left[many], right[many] = _between_sides(
        _APOTHEMS[shapes.kind[many]], _NORMALS[shapes.kind[many]] @ inverse[many], height[many]
    )
    one = shapes.kind == ELLIPSE
    left[one], right[one] = _within_ellipse(inverse[one], determinant[one], height[one])
    ends = (np.stack([left, right]) + shapes.center[:, :1]) * size - 0.5
    runs = np.clip(np.stack([np.ceil(ends[0]), np.floor(ends[1]) + 1]), 0, size).astype(np.int16)
    np.maximum(runs[1], runs[0], out=runs[1])
    return runs


def _between_sides(apothem: Array, normals: Array, height: Array) -> tuple[Array, Array]:
    """From where to where, seen from the center, a row at some height above it is on the inner side of every side."""
    across, down = normals[:, :, 0], normals[:, :, 1]
    across = np.where(across == 0, 1e-300, across)
    bound = (apothem[:, None, None] - down[:, :, None] * height[:, None, :]) / across[:, :, None]
    rightwards = (across > 0)[:, :, None]
    return np.where(rightwards, -np.inf, bound).max(1), np.where(rightwards, bound, np.inf).min(1)


def _within_ellipse(inverse: Array, determinant: Array, height: Array) -> tuple[Array, Array]:
    """The same for the quadratic form q = inverse^T inverse: q00 x^2 + 2 q01 x y + q11 y^2 <= 1 / pi."""
    q00, q01 = (inverse[:, :, :1] * inverse).sum(1).T
    squared = q00[:, None] / np.pi - (height / determinant[:, None]) ** 2
    half = np.sqrt(np.maximum(squared, 0)) / q00[:, None]
    middle = -(q01 / q00)[:, None] * height
    return middle - half, np.where(squared < 0, -np.inf, middle + half)
