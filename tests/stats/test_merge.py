"""Measurements of parts merge to the measurement of the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diag.stats import reference
from diag.stats.fields import COUNT, DEAD_UNITS, FIELDS, MEAN, SAMPLE_VAR, SATURATED, UNITS, WIDTH
from diag.stats.merge import merge_rows
from diag.stats.tensor_stats import TensorStats
from tests.stats.strategies import tensors


def stats_of(values: list[float], **more: float) -> TensorStats:
    x = torch.tensor(values, dtype=torch.float64)
    row = reference.measure(x, saturation=(x, -1.0, 1.0))[0].to_row()
    for name, value in more.items():
        row[FIELDS.index(name)] = value
    return TensorStats.from_row(row)


def assert_close(found: TensorStats, expected: TensorStats) -> None:
    np.testing.assert_allclose(found.to_row(), expected.to_row(), rtol=1e-9, atol=1e-12)


numbers = st.floats(-1e3, 1e3) | st.sampled_from([0.0, math.nan, math.inf])
parts = st.lists(numbers, max_size=20)


@given(x=tensors(dtypes=(torch.float64,)), cut=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_parts_make_the_whole(x: torch.Tensor, cut: float) -> None:
    flat = x.reshape(-1)
    at = int(cut * len(flat))
    pieces = [reference.measure(p, saturation=(p, 0.1, 2.0))[0] for p in (flat[:at], flat[at:])]
    whole = reference.measure(flat, saturation=(flat, 0.1, 2.0))[0]
    assert_close(pieces[0].merge(pieces[1]), whole)
    assert_close(pieces[1].merge(pieces[0]), whole)


@given(a=parts, b=parts, c=parts)
@settings(max_examples=50, deadline=None)
def test_associative(a: list[float], b: list[float], c: list[float]) -> None:
    one, two, three = (
        stats_of(values, sample_var=float(i), units=4, dead_units=i) for i, values in enumerate([a, b, c])
    )
    assert_close(one.merge(two).merge(three), one.merge(two.merge(three)))
    assert_close(one.merge(two), two.merge(one))


def test_counted_and_empty_parts_change_no_number() -> None:
    full = stats_of([1.0, 2.0, 4.0], units=3, dead_units=1, sample_var=0.5)
    unmeasured = TensorStats.from_row([math.nan] * WIDTH)
    for neutral in (TensorStats(count=7), stats_of([]), unmeasured):
        assert_close(full.merge(neutral), full)
        assert_close(neutral.merge(full), full)
    assert TensorStats(count=7).merge(TensorStats(count=5)).count == 12
    assert all(math.isnan(value) for value in unmeasured.merge(unmeasured).to_row())


def test_means_far_apart_and_far_from_zero() -> None:
    left, right = np.full(1000, 1e8) + np.arange(1000) % 2, np.full(10, -1e8)
    merged = stats_of(left.tolist()).merge(stats_of(right.tolist()))
    assert merged.var == pytest.approx(np.concatenate([left, right]).var(), rel=1e-12)


def test_a_share_of_some_parts_is_no_share_of_the_whole() -> None:
    judged, unjudged = stats_of([0.0, 5.0]), stats_of([0.0, 5.0], saturated=math.nan)
    assert math.isnan(judged.merge(unjudged).saturated)
    assert judged.merge(stats_of([], saturated=math.nan)).saturated == 1


def test_units() -> None:
    one, two = stats_of([1.0], units=4, dead_units=3, twin_units=2), stats_of([1.0], units=4, dead_units=1)
    merged = one.merge(two)
    assert (merged.units, merged.dead_units, merged.twin_units) == (4, 1, 2)


def test_sample_variance_is_weighted_by_finite_elements() -> None:
    one, two = stats_of([1.0, math.nan], sample_var=4.0), stats_of([1.0, 2.0, 3.0], sample_var=8.0)
    assert one.merge(two).sample_var == 7.0
    assert one.merge(stats_of([2.0])).sample_var == 4.0


def test_rows_by_group() -> None:
    """Interleaved groups, one of them without rows, against the same rows folded one by one."""
    generator = np.random.default_rng(0)
    stats = [stats_of(generator.normal(i, 1, 5 + i).tolist(), sample_var=i) for i in range(12)]
    groups = np.array([0, 2, 3] * 4)
    merged = merge_rows(np.stack([s.to_row() for s in stats]), groups, 4)
    assert merged.shape == (4, WIDTH) and np.isnan(merged[1]).all()
    for group in (0, 2, 3):
        members = [s for s, g in zip(stats, groups, strict=True) if g == group]
        folded = members[0]
        for member in members[1:]:
            folded = folded.merge(member)
        assert_close(TensorStats.from_row(merged[group]), folded)
    assert merged[0, [COUNT, MEAN]] == pytest.approx(
        [sum(s.count for s in stats[::3]), sum(s.count * s.mean for s in stats[::3]) / sum(s.count for s in stats[::3])]
    )


def test_no_rows() -> None:
    assert np.isnan(merge_rows(np.empty((0, WIDTH)), np.empty(0, dtype=int), 2)).all()


def test_merging_is_not_a_loop_over_rows() -> None:
    rows = np.tile(stats_of([1.0, 3.0]).to_row(), (20_000, 1))
    merged = merge_rows(rows, np.arange(20_000) % 7, 7)
    assert merged[:, COUNT].sum() == 40_000
    assert merged[:, [MEAN, SATURATED]] == pytest.approx(np.stack([np.full(7, 2.0), merged[:, COUNT]], axis=1))
    assert np.isnan(merged[:, [UNITS, DEAD_UNITS, SAMPLE_VAR]]).all()


def test_derived_numbers() -> None:
    stats = stats_of([0.0, 3.0, -3.0, math.nan])
    assert (stats.count, stats.finite, stats.nonfinite) == (4, 3, 1)
    assert stats.var == pytest.approx(6.0)
    assert stats.rms == pytest.approx(math.sqrt(6.0))
    assert (stats.zero_fraction, stats.saturated_fraction) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    shifted = stats_of([5.0, 7.0])
    assert shifted.rms == pytest.approx(math.sqrt((25 + 49) / 2))


def test_row_of_another_length() -> None:
    with pytest.raises(ValueError, match="has 12 numbers, got 3"):
        TensorStats.from_row([1.0, 2.0, 3.0])
    stats = stats_of([1.0, 2.0])
    assert_close(TensorStats.from_row(stats.to_row()), stats)
