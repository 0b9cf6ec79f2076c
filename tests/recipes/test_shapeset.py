"""Shapeset-3x2: classes even, nothing hidden by more than half, pixels as said, and a network learns it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from diag.recipes.shapeset import CLASSES, KINDS, draw_greys, draw_scenes, paint, shapeset_batch, shapeset_stream
from diag.recipes.shapeset_geometry import NOTHING, Shapes
from diag.recipes.spec import RecipeError
from tests.recipes.shapeset_masks import masks_of


def scenes(seed: int, count: int, size: int) -> tuple[np.ndarray, Shapes, Shapes]:
    random = np.random.default_rng(seed)
    labels = random.integers(CLASSES, size=count)
    return (labels, *draw_scenes(labels, random, size))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(8, 48))
def test_two_shapes_share_at_most_half_of_the_smaller(seed: int, size: int) -> None:
    _, lower, upper = scenes(seed, 60, size)
    below, above = masks_of(lower, size), masks_of(upper, size)
    pairs = upper.kind != NOTHING
    shared = (below & above).sum((1, 2))
    assert below.any((1, 2)).all() and np.array_equal(above.any((1, 2)), pairs)
    assert (2 * shared[pairs] <= np.minimum(below.sum((1, 2)), above.sum((1, 2)))[pairs]).all()


def test_pairs_do_overlap_and_up_to_the_half() -> None:
    _, lower, upper = scenes(0, 1500, 32)
    pairs = np.flatnonzero(upper.kind != NOTHING)
    below, above = masks_of(lower.take(pairs), 32), masks_of(upper.take(pairs), 32)
    shares = (below & above).sum((1, 2)) / np.minimum(below.sum((1, 2)), above.sum((1, 2)))
    assert 0.05 < np.mean(shares == 0) < 0.5
    assert 0.45 < shares.max() <= 0.5


def test_classes_are_the_three_shapes_and_their_six_pairs() -> None:
    assert KINDS.tolist() == [[0, -1], [1, -1], [2, -1], [0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 2]]
    labels, lower, upper = scenes(1, 4000, 16)
    drawn, meant = np.stack([lower.kind, upper.kind], 1), KINDS[labels]
    assert np.array_equal(np.sort(drawn, 1), np.sort(meant, 1))
    assert np.array_equal(drawn[labels < 3], meant[labels < 3]), "a single shape is the lower one"
    mixed = np.isin(labels, (4, 5, 7))
    on_top = (upper.kind > lower.kind)[mixed]
    assert stats.binomtest(int(on_top.sum()), len(on_top)).pvalue > 1e-4, "either kind lies on top as often"


def test_every_class_is_as_likely() -> None:
    labels = shapeset_batch(9000, 2, 8)[1]
    assert labels.dtype == torch.int64
    assert stats.chisquare(np.bincount(labels.numpy(), minlength=CLASSES)).pvalue > 1e-4


def test_an_image_shows_the_upper_shape_over_the_lower_over_the_background() -> None:
    _, lower, upper = scenes(3, 50, 20)
    greys = draw_greys(50, np.random.default_rng(4))
    below, above = masks_of(lower, 20), masks_of(upper, 20)
    levels = greys[:, :, None, None]
    expected = levels[:, 0] * (~below & ~above) + levels[:, 1] * (below & ~above) + levels[:, 2] * above
    images = paint(lower, upper, greys, 20)
    assert images.dtype == np.float32 and images.shape == (50, 20, 20)
    assert np.allclose(images * 0.27 + 0.28, expected, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), size=st.integers(8, 64), count=st.integers(1, 300))
def test_images_of_any_size_keep_what_is_said(seed: int, size: int, count: int) -> None:
    """Of a single shape two levels, of a pair three: 0.2 apart, within [0, 1], the background the darkest."""
    images, labels = shapeset_batch(count, seed, size)
    assert images.shape == (count, 1, size, size) and images.dtype == torch.float32 and images.is_contiguous()
    greys = images.double() * 0.27 + 0.28
    assert greys.min() > -1e-6 and greys.max() < 1 + 1e-6
    for image, label in list(zip(greys, labels, strict=True))[:30]:
        levels, pixels = image.unique(return_counts=True)
        assert len(levels) == (2 if label < 3 else 3)
        assert levels.diff().min() > 0.2 - 1e-6
        assert pixels[0] > 0.25 * size**2 and pixels[1:].min() >= 1


def test_greys_are_three_uniform_numbers_moved_apart() -> None:
    """The i-th of three sorted uniform numbers has the mean i / 4."""
    greys = draw_greys(40_000, np.random.default_rng(0))
    assert np.sort(greys, 1).mean(0) == pytest.approx([0.15, 0.5, 0.85], abs=0.003)
    assert stats.binomtest(int((greys[:, 1] < greys[:, 2]).sum()), 40_000).pvalue > 1e-4


@pytest.mark.parametrize("size", [16, 32])
def test_pixels_have_mean_0_and_variance_1(size: int) -> None:
    images = shapeset_batch(12_000, 5, size)[0].double()
    assert float(images.mean()) == pytest.approx(0, abs=0.02)
    assert float(images.var()) == pytest.approx(1, abs=0.02)


def test_the_images_of_a_seed_stay_what_they_are() -> None:
    """Baselines of suites are held to them: whoever changes the images changes these numbers knowingly."""
    images, labels = shapeset_batch(500, 0)
    assert labels[:12].tolist() == [0, 2, 1, 5, 4, 2, 8, 8, 2, 1, 6, 1]
    assert float(images.double().mean()) == pytest.approx(-0.0093235096858225, abs=1e-9)


@pytest.mark.parametrize("size", [0, -1, 7, 257, 32.0, True, "32"])
def test_a_size_that_cannot_be_is_an_error_at_once(size: int) -> None:
    with pytest.raises(RecipeError, match=r"an image's size in pixels must be a whole number from 8 to 256, got"):
        shapeset_stream(4, 0, size)


@pytest.mark.parametrize("count", [0, -5, 1.5])
def test_a_count_that_cannot_be_is_an_error(count: int) -> None:
    with pytest.raises(RecipeError, match="the number of samples must be a whole number from 1, got"):
        shapeset_batch(count, 0)


@pytest.mark.slow
def test_a_small_network_learns_it() -> None:
    """Chance is an error of 8 / 9; 100,000 images of 16 x 16 pixels bring two layers of 128 units below 0.7."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(256, 128), nn.Softsign(), nn.Linear(128, 128), nn.Softsign(), nn.Linear(128, 9)
        )
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    batches = shapeset_stream(100, 1, 16)
    inputs, targets = shapeset_batch(2000, 2, 16)

    def error() -> float:
        with torch.no_grad():
            return float((model(inputs).argmax(1) != targets).double().mean())

    assert error() > 0.8
    for _ in range(1000):
        images, labels = next(batches)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert error() < 0.7
