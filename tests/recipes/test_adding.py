"""The adding problem: two marks, one in each half, and their exact sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from diag.recipes.adding import BASELINE, adding_batch, adding_stream
from diag.recipes.spec import RecipeError


@settings(max_examples=40, deadline=None)
@given(length=st.integers(2, 60), count=st.integers(1, 300), seed=st.integers(0, 2**64 - 1))
def test_two_places_are_marked_one_in_each_half_and_the_target_is_their_sum(length: int, count: int, seed: int) -> None:
    inputs, targets = adding_batch(count, length, seed)
    assert (inputs.shape, targets.shape) == ((count, length, 2), (count, 1))
    assert inputs.dtype == targets.dtype == torch.float32 and inputs.is_contiguous()
    values, marks = inputs.numpy()[:, :, 0], inputs.numpy()[:, :, 1]
    assert values.min() >= 0 and values.max() < 1
    for half in (marks[:, : length // 2], marks[:, length // 2 :]):
        assert ((half == 1).sum(1) == 1).all() and ((half == 0).sum(1) == half.shape[1] - 1).all()
    for row, mark, target in zip(values, marks, targets.numpy()[:, 0], strict=True):
        first, second = np.flatnonzero(mark)
        assert target == row[first] + row[second], "to the last bit of single precision"


def test_always_answering_1_has_the_error_1_over_6() -> None:
    """t = sum - 1 has the density 1 - |t|: E t^2 = 1/6 and E t^4 = 1/15, hence the error of the measured mean."""
    count = 100_000
    targets = adding_batch(count, 6, 1)[1].double()
    assert BASELINE == 1 / 6
    assert abs(float((targets - 1).square().mean()) - BASELINE) < 3 * ((1 / 15 - 1 / 36) / count) ** 0.5
    assert abs(float(targets.mean()) - 1) < 3 * (BASELINE / count) ** 0.5
    triangular = stats.triang(0.5, 0, 2).cdf
    assert stats.kstest(targets.numpy()[:, 0], triangular).pvalue > 1e-4


@pytest.mark.parametrize("length", [10, 11])
def test_numbers_and_places_are_uniform_and_independent(length: int) -> None:
    inputs = adding_batch(20_000, length, 2)[0].numpy()
    assert stats.kstest(inputs[:, :, 0].ravel()[:20_000], "uniform").pvalue > 1e-4
    first, second = (inputs[:, half, 1].argmax(1) for half in (slice(0, length // 2), slice(length // 2, length)))
    together = np.zeros((length // 2, length - length // 2))
    np.add.at(together, (first, second), 1)
    assert stats.chisquare(together.ravel()).pvalue > 1e-4


@pytest.mark.parametrize(
    ("count", "length", "message"),
    [
        (0, 5, "the number of samples must be a whole number from 1, got 0"),
        (-2, 5, "got -2"),
        (5, 1, "the length of a sequence must be a whole number from 2, got 1"),
        (5, 0, "got 0"),
        (5, -4, "got -4"),
        (5, 6.0, "got 6.0"),
        (5, True, "got True"),
    ],
)
def test_what_cannot_be_is_an_error(count: int, length: int, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        adding_batch(count, length, 0)
    assert message in str(caught.value)
    with pytest.raises(RecipeError):
        adding_stream(count, 0, length)
