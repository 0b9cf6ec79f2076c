"""The exponent of a power law, its interval and its verdict."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diag.scaling.slopes import LEVEL, slopes

SIZES = [16, 32, 64, 128]


def law(exponent: float, noise: float = 0.01, seeds: int = 4, quantity: str = "activation") -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (size, seed, 3 * size**exponent * math.exp(noise * rng.normal())) for size in SIZES for seed in range(seeds)
    ]
    table = pd.DataFrame(rows, columns=["size", "seed", "value"])
    return table.assign(site="a", quantity=quantity, step=0)


@given(st.floats(-3, 3))
def test_a_power_law_gives_its_exponent_back(exponent: float) -> None:
    (found,) = slopes(law(exponent, noise=1e-6))
    assert found.slope == pytest.approx(exponent, abs=1e-4)
    expected = "level" if abs(exponent) < LEVEL - 1e-3 else "grows" if exponent > 0 else "shrinks"
    if abs(abs(exponent) - LEVEL) > 1e-3:
        assert found.verdict == expected


def test_the_interval_is_that_of_least_squares() -> None:
    table = law(0.5, noise=0.3)
    (found,) = slopes(table)
    x, y = np.log(table["size"]), np.log(table["value"])
    design = np.column_stack([np.ones(len(x)), x])
    weights, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = math.sqrt(residual[0] / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    half = stats.t.ppf(0.975, len(x) - 2) * error
    assert (found.low, found.slope, found.high) == pytest.approx((weights[1] - half, weights[1], weights[1] + half))


def test_too_much_noise_cannot_tell() -> None:
    (found,) = slopes(law(0.0, noise=2.0, seeds=2))
    assert found.verdict == "cannot tell"
    assert found.low < -LEVEL or found.high > LEVEL


@pytest.mark.parametrize(("value", "verdict"), [(0.0, "shrinks"), (math.inf, "grows"), (math.nan, "grows")])
def test_what_dies_or_overflows_at_the_largest_size(value: float, verdict: str) -> None:
    table = law(0.0)
    table.loc[table["size"] == 128, "value"] = value
    (found,) = slopes(table)
    assert found.verdict == verdict
    assert math.isnan(found.slope)


def test_two_sizes_and_one_seed_have_no_interval() -> None:
    table = law(1.0, seeds=1)
    (found,) = slopes(table[table["size"] <= 32])
    assert found.verdict == "cannot tell"
    assert found.slope == pytest.approx(1.0, abs=0.1)


def test_one_size_has_no_slope() -> None:
    assert slopes(law(1.0)[lambda t: t["size"] == 16]) == []
