"""Triangles, parallelograms and ellipses: their areas, places and pixels, each found a second way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from diag.recipes.shapeset_geometry import (
    ELLIPSE,
    LEAST_SCALE,
    MOST_SCALE,
    MOST_STRETCH,
    NOTHING,
    PARALLELOGRAM,
    TRIANGLE,
    Array,
    Shapes,
    draw_shapes,
    pixel_runs,
)  # fmt: skip
from tests.recipes.shapeset_masks import corners_of, masks_of

KINDS = [TRIANGLE, PARALLELOGRAM, ELLIPSE]


def some(kind: int, count: int, seed: int = 0) -> Shapes:
    return draw_shapes(np.full(count, kind), np.random.default_rng(seed))


def as_masks(runs: Array, size: int) -> np.ndarray:
    column = np.arange(size)
    return (column >= runs[0][:, :, None]) & (column < runs[1][:, :, None])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(8, 80))
def test_runs_are_the_pixels_whose_middle_is_inside(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    shapes = draw_shapes(random.integers(NOTHING, 3, 12), random)
    assert np.array_equal(as_masks(pixel_runs(shapes, size), size), masks_of(shapes, size))


def test_pixels_counted_by_hand() -> None:
    """On 8 x 8 pixels: a level square of side 4; a disc of radius 4.8 / sqrt(pi) = 2.71: so 2.66, 2.25 and 1.04."""
    matrix = np.eye(2) * np.array([0.5, 0.6])[:, None, None]
    runs = pixel_runs(Shapes(np.array([PARALLELOGRAM, ELLIPSE]), matrix, np.full((2, 2), 0.5)), 8)
    square, disc = as_masks(runs, 8)
    assert np.array_equal(np.argwhere(square), [(y, x) for y in range(2, 6) for x in range(2, 6)])
    assert disc.sum(1).tolist() == [0, 2, 4, 6, 6, 4, 2, 0]
    assert np.array_equal(disc, disc.T) and np.array_equal(disc, disc[:, ::-1])


@pytest.mark.parametrize("kind", [TRIANGLE, PARALLELOGRAM])
def test_a_polygon_has_the_area_of_its_corners(kind: int) -> None:
    """Half the sum of the corners' cross products (the shoelace formula) is the determinant and the share of pixels."""
    shapes = some(kind, 40)
    share = (pixel_runs(shapes, 256)[1] - pixel_runs(shapes, 256)[0]).sum(1) / 256**2
    for one in range(40):
        x, y = corners_of(shapes, one).T
        area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
        assert area == pytest.approx(np.linalg.det(shapes.matrix[one]), rel=1e-12)
        assert share[one] == pytest.approx(area, rel=0.01)


def test_an_ellipse_has_the_area_pi_a_b() -> None:
    shapes = some(ELLIPSE, 40)
    axes = np.linalg.svd(shapes.matrix, compute_uv=False) / np.pi**0.5
    runs = pixel_runs(shapes, 256)
    assert (runs[1] - runs[0]).sum(1) / 256**2 == pytest.approx(np.pi * axes[:, 0] * axes[:, 1], rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_scale_and_stretch_have_their_distributions(kind: int) -> None:
    """The kinds do not differ in them: no network can tell them apart by area."""
    longer, shorter = np.linalg.svd(some(kind, 4000).matrix, compute_uv=False).T
    scale, stretch = np.sqrt(longer * shorter), np.sqrt(longer / shorter)
    assert stats.kstest(scale, stats.uniform(LEAST_SCALE, MOST_SCALE - LEAST_SCALE).cdf).pvalue > 1e-4
    assert stats.kstest(np.log(stretch), stats.uniform(0, np.log(MOST_STRETCH)).cdf).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_lies_whole_within_the_frame_and_reaches_every_edge_of_it(kind: int) -> None:
    shapes = some(kind, 2000)
    if kind == ELLIPSE:
        reach = np.sqrt((shapes.matrix**2).sum(2) / np.pi)
        least, most = shapes.center - reach, shapes.center + reach
    else:
        corners = np.stack([corners_of(shapes, one) for one in range(2000)])
        least, most = corners.min(1), corners.max(1)
    assert least.min() >= 0 and most.max() <= 1
    assert least.min(0).max() < 0.01 and most.max(0).min() > 0.99
    room = 1 - (most - least)
    assert room.min() > 0
    for axis in range(2):
        assert stats.kstest(least[:, axis] / room[:, axis], "uniform").pvalue > 1e-4


def test_every_direction_of_the_longer_axis_is_as_likely_in_the_frame_and_in_the_regular_shape() -> None:
    """The singular vectors, up to their sign: what R(a) and R(b) turn."""
    left, _, right = np.linalg.svd(some(ELLIPSE, 4000).matrix)
    for x, y in (left[:, :, 0].T, right[:, 0, :].T):
        assert stats.kstest(np.arctan2(y, x) / np.pi % 1, "uniform").pvalue > 1e-4


def test_what_is_not_there_covers_nothing() -> None:
    runs = pixel_runs(some(NOTHING, 5), 16)
    assert runs.shape == (2, 5, 16) and runs.dtype == np.int16
    assert np.array_equal(runs[0], runs[1])


def test_take_copies_and_put_replaces() -> None:
    shapes, others = some(TRIANGLE, 5), some(TRIANGLE, 2, seed=1)
    where = np.array([3, 0])
    taken = shapes.take(where)
    shapes.put(where, others)
    assert np.array_equal(shapes.matrix[where], others.matrix) and np.array_equal(shapes.center[where], others.center)
    assert np.array_equal(taken.center, some(TRIANGLE, 5).center[where])
    assert np.array_equal(shapes.center[[1, 2, 4]], some(TRIANGLE, 5).center[[1, 2, 4]])
