"""Triangles, parallelograms and ellipses at random, and the pixels that they cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TRIANGLE, PARALLELOGRAM, ELLIPSE = range(3)
NOTHING = -1
"""The kind of a shape that is not there; it covers no pixel."""

LEAST_SCALE, MOST_SCALE = 0.3, 0.5
"""Root of a shape's area, in sides of the frame."""
MOST_STRETCH = 1.25
"""A shape is at most so many times as long, and as narrow, as the regular one of its area. The longest side of all is
that of a triangle, sqrt(3) _RADIUS 0.5 * 1.25 = 0.95: every shape has room in the frame, however it is turned."""

_RADIUS = 2 / 27**0.25
"""Of the circle around the regular triangle of area 1: 3 sqrt(3) / 4 radius^2 = 1."""


def _directions(*turns: float) -> Array:
    return np.array([(np.cos(2 * np.pi * one), np.sin(2 * np.pi * one)) for one in turns])


# A row per kind. A triangle's first side and corner stand twice, so that both polygons have four; an ellipse has none.
_THIRDS, _NONE = _directions(0, 1 / 3, 2 / 3, 0), np.zeros((4, 2))
_NORMALS = np.stack([_THIRDS, _directions(0, 1 / 4, 1 / 2, 3 / 4), _NONE])
_APOTHEMS = np.array([_RADIUS / 2, 1 / 2, 0])
_CORNERS = np.stack([-_RADIUS * _THIRDS, _directions(1 / 8, 3 / 8, 5 / 8, 7 / 8) / np.sqrt(2), _NONE])


@dataclass(frozen=True)
class Shapes:
    """Shapes in a frame of side 1, the second coordinate downwards.

    A shape is the points center + matrix p, with p in the regular triangle, the square or the disc that has area 1 and
    its middle at the origin: so its area is det(matrix).
    kind: int [n]. matrix: float64 [n, 2, 2]. center: float64 [n, 2].
    """

    kind: Array
    matrix: Array
    center: Array

    def take(self, where: Array) -> Shapes:
        """A copy of those at the indices."""
        return Shapes(self.kind[where], self.matrix[where], self.center[where])

    def put(self, where: Array, others: Shapes) -> None:
        """Replace those at the indices by others of the same kinds."""
        self.matrix[where], self.center[where] = others.matrix, others.center


def draw_shapes(kind: Array, random: np.random.Generator) -> Shapes:
    """Shapes of these kinds, each whole within the frame; the kind tells nothing of the area.

    matrix = r R(a) diag(s, 1/s) R(b): the angles a and b are uniform, r in [0.3, 0.5] too, s is log-uniform in
    [1, 1.25]. The center is uniform over all places at which the shape lies whole within the frame.
    """
    u = random.random((6, len(kind)))
    scale, stretch = LEAST_SCALE + (MOST_SCALE - LEAST_SCALE) * u[0], MOST_STRETCH ** u[1]
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

    A row of a convex shape is one run. It lies, with d = inverse(matrix) (x - center), for a polygon within
    normal . d <= apothem for every side, and for an ellipse within |d|^2 <= 1 / pi.
    """
    (a, b), (c, d) = shapes.matrix.transpose(1, 2, 0)
    determinant = a * d - b * c
    inverse = (np.stack([d, -b, -c, a], 1) / determinant[:, None]).reshape(-1, 2, 2)
    height = (np.arange(size) + 0.5) / size - shapes.center[:, 1:]
    left, right = np.zeros_like(height), np.full_like(height, -np.inf)
    polygon, ellipse = np.isin(shapes.kind, (TRIANGLE, PARALLELOGRAM)), shapes.kind == ELLIPSE
    kind = shapes.kind[polygon]
    left[polygon], right[polygon] = _between_sides(_APOTHEMS[kind], _NORMALS[kind] @ inverse[polygon], height[polygon])
    left[ellipse], right[ellipse] = _within_ellipse(inverse[ellipse], determinant[ellipse], height[ellipse])
    ends = (np.stack([left, right]) + shapes.center[:, :1]) * size - 0.5
    runs = np.clip([np.ceil(ends[0]), np.floor(ends[1]) + 1], 0, size).astype(np.int16)
    np.maximum(runs[1], runs[0], out=runs[1])
    return runs


def _between_sides(apothem: Array, normals: Array, height: Array) -> tuple[Array, Array]:
    """From where to where, as seen from the center, each row lies within all sides."""
    across, down = normals[:, :, 0], normals[:, :, 1]
    across = np.where(across == 0, 1e-300, across)  # a level side bounds a row nowhere, or far away
    bound = (apothem[:, None, None] - down[:, :, None] * height[:, None, :]) / across[:, :, None]
    rightwards = (across > 0)[:, :, None]
    return np.where(rightwards, -np.inf, bound).max(1), np.where(rightwards, bound, np.inf).min(1)


def _within_ellipse(inverse: Array, determinant: Array, height: Array) -> tuple[Array, Array]:
    """The same for q00 x^2 + 2 q01 x y + q11 y^2 <= 1 / pi, where q = inverse^T inverse, of determinant 1 / det^2."""
    q00, q01 = (inverse[:, :, :1] * inverse).sum(1).T
    squared = q00[:, None] / np.pi - (height / determinant[:, None]) ** 2
    half = np.sqrt(np.maximum(squared, 0)) / q00[:, None]
    middle = -(q01 / q00)[:, None] * height
    return middle - half, np.where(squared < 0, -np.inf, middle + half)
