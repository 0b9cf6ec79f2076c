"""Verdicts are what the interval says, and nothing else."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diag.suite.claim import Claim, interval, judge_claim
from diag.suite.errors import MissingTrialsError, SuiteError
from diag.suite.results import Results

NOTHING = Results([])


def judged(value: Any, **bounds: float):
    return judge_claim(Claim("it is so", "a paper", lambda results: value, **bounds), NOTHING)


def series(*values: float) -> pd.Series:
    return pd.Series(values, index=range(len(values)), dtype=float)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_the_interval_is_scipys(values: list[float]) -> None:
    array = np.array(values)
    mean, low, high = interval(array)
    if array.std() < 1e-9 * max(1.0, abs(array).max()):
        assert low == pytest.approx(high, abs=1e-6)
        return
    expected = stats.ttest_1samp(array, 0.0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-9)
    assert mean == pytest.approx(array.mean())


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 5))
    covered = [low <= 3.0 <= high for _, low, high in map(interval, draws)]
    # Four standard errors of a share of 0.95.
    assert np.mean(covered) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))


@pytest.mark.parametrize(
    ("values", "bounds", "verdict"),
    [
        ((1.0, 1.1, 0.9, 1.0), {"above": 0.5}, "holds"),
        ((1.0, 1.1, 0.9, 1.0), {"below": 0.5}, "does not hold"),
        ((1.0, 1.1, 0.9, 1.0), {"above": 1.0}, "undecided"),
        ((1.0, 1.1, 0.9, 1.0), {"above": 0.5, "below": 1.5}, "holds"),
        ((1.0, 1.1, 0.9, 1.0), {"above": 1.5, "below": 2.5}, "does not hold"),
        ((1.0,), {"above": 0.5}, "undecided"),
        ((1.0, 1.0), {"above": 0.5}, "holds"),
        ((1.0, 1.0), {"above": 1.0}, "does not hold"),  # a bound is not inside
        ((math.inf, math.inf), {"above": 0.5}, "holds"),
        ((math.inf, math.inf), {"below": 0.5}, "does not hold"),
        ((math.inf, 1.0), {"above": 5.0}, "undecided"),
        ((math.nan, 1.0), {"above": 0.5}, "undecided"),
        ((math.nan, 1.0), {"below": 0.5}, "undecided"),
    ],
)
def test_verdicts_over_seeds(values: tuple[float, ...], bounds: dict[str, float], verdict: str) -> None:
    found = judged(series(*values), **bounds)
    assert found.verdict == verdict
    assert found.parts[0].seeds == len(values)


@pytest.mark.parametrize(
    ("value", "verdict"), [(1.0, "holds"), (0.5, "does not hold"), (0.2, "does not hold"), (math.nan, "undecided")]
)
def test_a_number_in_which_nothing_is_random(value: float, verdict: str) -> None:
    found = judged(value, above=0.5)
    assert (found.verdict, found.parts[0].seeds) == (verdict, 0)


def test_all_parts_must_hold_and_their_intervals_are_wider() -> None:
    values = series(1.0, 1.2, 0.8, 1.1, 0.9)
    alone = judged(values, above=0.5).parts[0]
    three = judged({"a": values, "b": values, "c": values}, above=0.5)
    assert three.verdict == "holds"
    _, low, high = interval(values.to_numpy(), 1 - 0.05 / 3)
    assert (three.parts[0].low, three.parts[0].high) == (low, high)
    assert low < alone.low and high > alone.high
    assert judged({"a": values, "b": -values}, above=0.5).verdict == "does not hold"
    assert judged({"a": values, "b": series(0.4, 0.6, 0.5)}, above=0.5).verdict == "undecided"


def test_missing_trials_leave_it_undecided() -> None:
    def measure(results: Results) -> float:
        raise MissingTrialsError("no trial with lr=3 yet")

    found = judge_claim(Claim("it is so", "-", measure, above=0), NOTHING)
    assert (found.verdict, found.why) == ("undecided", "no trial with lr=3 yet")


@pytest.mark.parametrize(
    ("value", "message"),
    [("text", "measures a str"), ({}, "measures nothing"), (None, "measures a NoneType")],
)
def test_a_measure_that_returns_something_else(value: Any, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        judged(value, above=0)


def test_a_measure_that_raises_is_named() -> None:
    claim = Claim("it is so", "-", lambda results: 1 / 0, above=0)
    with pytest.raises(SuiteError, match="'it is so' cannot be measured: ZeroDivisionError"):
        judge_claim(claim, NOTHING)


@pytest.mark.parametrize(
    ("measure", "bound", "message"),
    [(3, 0.1, "needs a function as its measure, got 3"), (len, "0.1", "needs a number for `above`, got '0.1'"),
     (len, math.nan, "needs a number for `above`, got nan"), (len, True, "needs a number for `above`, got True")],
)  # fmt: skip
def test_a_claim_of_other_kinds_is_refused_before_anything_runs(measure: Any, bound: Any, message: str) -> None:
    with pytest.raises(SuiteError, match=re.escape(message)):
        Claim("it learns", "us", measure, above=bound)


def test_a_claim_that_could_not_fail_or_hold_is_refused() -> None:
    with pytest.raises(SuiteError, match="could not fail"):
        Claim("it is so", "-", lambda results: 1.0)
    with pytest.raises(SuiteError, match="could not hold"):
        Claim("it is so", "-", lambda results: 1.0, above=2, below=1)


def test_a_verdict_is_valid_json() -> None:
    text = json.dumps(judged(series(1.0), above=0.5).to_dict(), allow_nan=False)
    assert json.loads(text)["parts"][0]["high"] == "inf"
