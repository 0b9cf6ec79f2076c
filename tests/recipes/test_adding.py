"""The adding problem: two marks, one in each half, and their exact sum."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from diag.recipes.adding import adding_batch, adding_stream
from diag.recipes.spec import RecipeError


@pytest.mark.parametrize("length", [2, 3, 10, 51])
def test_two_places_are_marked_one_in_each_half(length: int) -> None:
    inputs, targets = adding_batch(500, length, 0)
    assert (inputs.shape, targets.shape) == ((500, length, 2), (500, 1))
    assert inputs.dtype == targets.dtype == torch.float32
    marks = inputs[:, :, 1]
    assert set(marks.unique().tolist()) <= {0.0, 1.0}
    assert marks[:, : length // 2].sum(1).eq(1).all() and marks[:, length // 2 :].sum(1).eq(1).all()


def test_targets_are_the_sums_of_the_marked_numbers() -> None:
    inputs, targets = adding_batch(1000, 20, 3)
    x = inputs.numpy()
    for row, target in zip(x, targets.numpy()[:, 0], strict=True):
        first, second = np.flatnonzero(row[:, 1])
        assert target == np.float32(row[first, 0] + row[second, 0])


def test_always_answering_1_has_the_error_1_over_6() -> None:
    """The variance of a sum of two uniform numbers; the fourth moment gives the deviation of its mean."""
    count = 100_000
    _, targets = adding_batch(count, 6, 1)
    squared = (targets.double() - 1).square()
    # t = sum - 1 has the density 1 - |t|: E t^4 = 1/15, so Var t^2 = 1/15 - 1/36.
    assert abs(float(squared.mean()) - 1 / 6) < 3 * ((1 / 15 - 1 / 36) / count) ** 0.5


def test_numbers_and_places_are_uniform() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    inputs, _ = adding_batch(20_000, 10, 2)
    numbers = inputs[:, :, 0].flatten().numpy()
    assert scipy_stats.kstest(numbers[:20_000], "uniform").pvalue > 1e-4
    assert numbers.min() >= 0 and numbers.max() <= 1
    for half in (slice(0, 5), slice(5, 10)):
        assert scipy_stats.chisquare(inputs[:, half, 1].sum(0).numpy()).pvalue > 1e-4


def test_the_same_seed_gives_the_same_stream_and_another_seed_another() -> None:
    first, again, other = ([one for one, _ in islice(adding_stream(4, seed, 6), 5)] for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again)) and not any(map(torch.equal, first, other))
    assert not torch.equal(first[0], first[1])


def test_a_generator_is_drawn_from_and_numpy_is_not() -> None:
    state = np.random.get_state()[1].copy()
    generator = torch.Generator().manual_seed(0)
    first, second = (adding_batch(3, 4, generator)[0] for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, adding_batch(3, 4, torch.Generator().manual_seed(0))[0])
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize(("count", "length"), [(0, 5), (5, 1), (5, 0)])
def test_what_cannot_be_is_an_error(count: int, length: int) -> None:
    with pytest.raises(RecipeError, match="from"):
        adding_batch(count, length, 0)
