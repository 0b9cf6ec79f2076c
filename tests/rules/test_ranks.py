"""Trends by ranks are those of scipy.stats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diag.rules.ranks import kendall, theil_sen

values = st.lists(st.integers(-4, 4) | st.floats(-1e6, 1e6), min_size=2, max_size=60)


@given(values)
def test_theil_sen(some: list[float]) -> None:
    found = theil_sen(np.array(some, dtype=float))
    assert found == pytest.approx(stats.theilslopes(some, np.arange(len(some)))[0], rel=1e-12, abs=1e-12)


@given(values)
def test_kendall(some: list[float]) -> None:
    tau, p = kendall(np.array(some, dtype=float))
    if len(set(some)) == 1:
        assert math.isnan(tau)
        assert p == 1.0
        return
    expected = stats.kendalltau(np.arange(len(some)), some)
    assert tau == pytest.approx(expected.statistic, rel=1e-12, abs=1e-12)
    assert p == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("count", [2, 3, 8, 33, 34, 200])
def test_a_long_trend_and_none(count: int) -> None:
    steps = np.arange(count, dtype=float)
    for some in (steps, -steps, np.where(steps % 2 == 0, steps, -steps)):
        expected = stats.kendalltau(steps, some)
        tau, p = kendall(some)
        assert tau == pytest.approx(expected.statistic, rel=1e-12)
        assert p == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)


def test_infinite_and_missing_values() -> None:
    some = np.array([3.0, 2.0, math.inf, 1.0, math.inf])
    expected = stats.kendalltau(np.arange(5), some)
    assert kendall(some) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    tau, p = kendall(np.array([3.0, math.nan, 1.0]))
    assert math.isnan(tau)
    assert p == 1.0
