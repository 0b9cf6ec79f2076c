"""Shapeset-3x2: each image fixed by seed and number, classes even, and nothing hidden by more than half."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from diag.recipes.shapeset import CLASSES, KINDS, draw_scenes, shapeset_batch, shapeset_stream
from diag.recipes.shapeset_geometry import ELLIPSE, NOTHING, PARALLELOGRAM, TRIANGLE, Shapes
from diag.recipes.spec import RecipeError

stats = pytest.importorskip("scipy.stats")


def covered(shapes: Shapes, one: int, size: int) -> np.ndarray:
    """The pixels whose middle lies in a shape, from its definition: center + matrix p, p in a shape of area 1."""
    middle = (np.arange(size) + 0.5) / size
    x = np.stack(np.meshgrid(middle, middle), -1)
    p = (x - shapes.center[one]) @ np.linalg.inv(shapes.matrix[one]).T
    kind = shapes.kind[one]
    if kind == NOTHING:
        return np.zeros((size, size), bool)
    if kind == ELLIPSE:
        return (p**2).sum(-1) <= 1 / np.pi
    if kind == PARALLELOGRAM:
        return np.abs(p).max(-1) <= 0.5
    assert kind == TRIANGLE
    directions = np.array([(np.cos(a), np.sin(a)) for a in 2 * np.pi * np.arange(3) / 3])
    inner = 1 / 27**0.25  # the radius of the circle in a regular triangle of area 1
    return (p @ directions.T).max(-1) <= inner


@pytest.fixture(scope="module")
def scenes() -> tuple[np.ndarray, Shapes, Shapes]:
    random = np.random.Generator(np.random.Philox(5))
    labels = random.integers(CLASSES, size=400)
    return (labels, *draw_scenes(labels, random, 32))


def test_neither_shape_is_hidden_by_more_than_half(scenes: tuple[np.ndarray, Shapes, Shapes]) -> None:
    _, lower, upper = scenes
    shares = []
    for one in np.flatnonzero((lower.kind != NOTHING) & (upper.kind != NOTHING)):
        a, b = covered(lower, one, 32), covered(upper, one, 32)
        assert a.sum() > 0 and b.sum() > 0
        shares.append((a & b).sum() / min(a.sum(), b.sum()))
    assert max(shares) <= 0.5
    assert np.mean(np.array(shares) > 0) > 0.1, "some do overlap"


def test_the_shapes_are_those_of_the_class(scenes: tuple[np.ndarray, Shapes, Shapes]) -> None:
    labels, lower, upper = scenes
    for label, first, second in zip(labels, lower.kind, upper.kind, strict=True):
        assert sorted(one for one in (first, second) if one != NOTHING) == sorted(
            one for one in KINDS[label] if one != NOTHING
        )
    assert len({tuple(sorted(one)) for one in KINDS.tolist()}) == CLASSES == 9


def test_shapes_lie_whole_within_the_frame(scenes: tuple[np.ndarray, Shapes, Shapes]) -> None:
    for shapes in scenes[1:]:
        for one in np.flatnonzero(shapes.kind != NOTHING)[:60]:
            inside, area = covered(shapes, one, 200).mean(), np.linalg.det(shapes.matrix[one])
            assert inside == pytest.approx(area, rel=0.05), "what was outside would be missing"


def test_an_image_has_a_level_for_the_ground_and_for_each_shape() -> None:
    images, labels = shapeset_batch(300, 1)
    for image, label in zip(images, labels, strict=True):
        present = int((KINDS[label] != NOTHING).sum())
        assert len(image.unique()) == present + 1


def test_the_same_whatever_the_batch_size() -> None:
    whole = shapeset_batch(700, 3)
    parts = list(islice(shapeset_stream(70, 3), 10))
    for number in range(2):
        assert torch.equal(torch.cat([one[number] for one in parts]), whole[number])
    assert not torch.equal(shapeset_batch(700, 4)[0], whole[0])


def test_any_batch_can_be_had_without_the_ones_before() -> None:
    tenth = next(islice(shapeset_stream(33, 3), 9, None))
    skipped = next(shapeset_stream(33, 3, skip=9))
    assert all(map(torch.equal, tenth, skipped))


def test_global_generators_are_left_alone_and_a_generator_is_drawn_from() -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    generator = torch.Generator().manual_seed(0)
    first, second = (shapeset_batch(5, generator)[0] for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, shapeset_batch(5, torch.Generator().manual_seed(0))[0])
    assert torch.equal(torch.get_rng_state(), states[0]) and np.array_equal(np.random.get_state()[1], states[1])


def test_what_is_done_to_a_batch_does_not_reach_the_next() -> None:
    first, second = shapeset_stream(10, 3), shapeset_stream(10, 3)
    next(first)[0].zero_()
    next(second)
    assert torch.equal(next(first)[0], next(second)[0])


def test_classes_are_equally_likely_and_range_and_type_are_as_said() -> None:
    images, labels = shapeset_batch(9000, 2)
    assert (images.shape, images.dtype, labels.dtype) == ((9000, 1, 32, 32), torch.float32, torch.int64)
    assert stats.chisquare(np.bincount(labels.numpy(), minlength=9)).pvalue > 1e-4
    assert abs(float(images.mean())) < 0.1 and float(images.std()) == pytest.approx(1, abs=0.1)
    assert float(images.abs().max()) < 3


@pytest.mark.parametrize("size", [16, 32, 64])
def test_any_size_from_16(size: int) -> None:
    images, _ = shapeset_batch(4, 0, size)
    assert images.shape == (4, 1, size, size)


@pytest.mark.parametrize("size", [0, -1, 4])
def test_too_small_a_size_is_an_error(size: int) -> None:
    with pytest.raises(RecipeError, match="size"):
        shapeset_batch(4, 0, size)


def test_no_samples_is_an_error() -> None:
    with pytest.raises(RecipeError, match="from 1"):
        shapeset_batch(0, 0)
