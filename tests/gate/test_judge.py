"""The statistics of a gate, against scipy's own tests and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from diag.gate.gate import judge_all
from diag.gate.judge import FALSE_ALARMS, judge, needed
from diag.gate.metrics import METRICS
from diag.gate.samples import RESOLUTION, Sample
from tests.gate.runs import sample_of, standardized

VALUES = st.lists(st.floats(-50, 50), min_size=2, max_size=12)
MARGINS = st.floats(0.01, 10)


def wide(values: list[float], margin: float) -> bool:
    """Whether the spread is above what the gate believes at least: only there scipy's test is the same."""
    return float(np.std(values, ddof=1)) > 1.01 * RESOLUTION * margin


@given(VALUES, MARGINS)
def test_paired_p_is_that_of_scipys_test_with_a_shifted_mean(values: list[float], margin: float) -> None:
    assume(wide(values, margin))
    (check,) = judge([sample_of(values, margin=margin)])
    expected = stats.ttest_1samp(values, margin, alternative="greater")
    assert check.p == pytest.approx(expected.pvalue, rel=1e-7, abs=1e-12)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert (check.low, check.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


@given(VALUES, VALUES, MARGINS)
def test_unpaired_p_is_that_of_welchs_test_with_a_shifted_mean(
    new: list[float], old: list[float], margin: float
) -> None:
    assume(wide(new, margin) and wide(old, margin))
    (check,) = judge([sample_of(new, old, margin=margin)])
    shifted = np.array(new) - margin
    expected = stats.ttest_ind(shifted, old, equal_var=False, alternative="greater")
    assert check.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-10)
    low, high = stats.ttest_ind(new, old, equal_var=False).confidence_interval(0.9)
    assert (check.low, check.high) == pytest.approx((low, high), rel=1e-5, abs=1e-8)


def test_the_four_answers() -> None:
    samples = {
        "regression": sample_of(standardized(5, 3.0, 0.3)),
        "improvement": sample_of(standardized(5, -3.0, 0.3)),
        "pass": sample_of(standardized(5, 0.1, 0.3)),
        "cannot tell": sample_of(standardized(5, 0.8, 0.8)),
    }
    found = judge(list(samples.values()))
    assert [one.answer for one in found] == list(samples)
    assert [one.needed is None for one in found] == [True, True, True, False]
    assert [one.harm for one in found] == pytest.approx([3.0, -3.0, 0.1, 0.8])


def test_below_the_margin_nothing_matters_however_sure() -> None:
    (check,) = judge([sample_of([0.7] * 500)])
    assert check.answer == "pass"
    assert check.low > 0.6, "that it is worse is beyond doubt"
    assert check.p > 0.999


def test_equal_values_are_no_proof() -> None:
    # Without the floor a spread of nothing would make any harm beyond the margin infinitely sure.
    (check,) = judge([sample_of([1.05] * 3)])
    assert check.p == pytest.approx(stats.t.sf(0.05 / (RESOLUTION / math.sqrt(3)), 2))
    assert check.answer == "cannot tell"
    assert judge([sample_of([2.0] * 5)])[0].answer == "regression"


def test_more_is_better_for_accuracy() -> None:
    base = sample_of(standardized(5, 3.0, 0.3))
    accuracy = Sample(
        "case", METRICS["test_accuracy"], 1.0, -base.baseline - 9, -base.new - 9, True, base.seeds, (-1, -1)
    )
    (check,) = judge([accuracy])
    # The arrays are harm already: -9 stands for an accuracy of 9, from which 3 were gained.
    assert (check.baseline, check.new, check.answer) == (pytest.approx(9.0), pytest.approx(12.0), "improvement")


def test_holm_holds_all_comparisons_together() -> None:
    raw = [0.004, 0.006, 0.2, 0.9]
    distances = [stats.t.isf(p, 4) for p in raw]
    samples = [sample_of(standardized(5, 1 + d / math.sqrt(5), 1.0)) for d in distances]
    adjusted = [one.p for one in judge(samples)]
    assert adjusted == pytest.approx([4 * 0.004, 3 * 0.006, 2 * 0.2, 0.9])
    # One alone would have failed the gate; among four it must not.
    assert judge(samples[:1])[0].answer == "regression"
    assert "regression" not in [one.answer for one in judge(samples)]
    alarms = [one.answer for one in judge(samples, 0.017)]
    assert alarms[:2] == ["regression", "cannot tell"]


@pytest.mark.parametrize(("harm", "sd"), [(0.4, 1.0), (-0.2, 1.4), (2.5, 1.2)])
@pytest.mark.parametrize("paired", [True, False])
def test_with_the_seeds_that_are_needed_it_tells(harm: float, sd: float, paired: bool) -> None:
    others = [sample_of([0.0] * 5) for _ in range(7)]

    def told(values: np.ndarray, zeros: np.ndarray) -> bool:
        own = sample_of(list(values), None if paired else list(zeros))
        return judge([own, *others])[0].answer in ("pass", "regression")

    first = sample_of(standardized(5, harm, sd), None if paired else standardized(5, 0.0, sd))
    check = judge([first, *others])[0]
    assert check.answer == "cannot tell"
    assert check.needed is not None
    assert check.needed > 5
    rng = np.random.default_rng(1)
    shares = []
    for seeds in (check.needed, check.needed // 2):
        draws = [(rng.normal(harm, sd, seeds), rng.normal(0, sd, seeds)) for _ in range(300)]
        shares.append(sum(told(*one) for one in draws) / len(draws))
    assert shares[0] > 0.85, "a promise of 90 %"
    assert shares[1] < shares[0] - 0.1, "half of them would not do"


def test_too_many_seeds_are_not_promised() -> None:
    assert needed(sample_of(standardized(5, 1.001, 1.0))) is None
    assert judge([sample_of(standardized(5, 1.001, 1.0))])[0].answer == "cannot tell"


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=6), min_size=1, max_size=5),
    st.floats(0, 20),
    st.integers(0, 4),
)
def test_harm_in_every_trial_never_makes_a_comparison_look_better(
    cases: list[list[float]], harm: float, which: int
) -> None:
    which %= len(cases)
    rank = {"improvement": 0, "pass": 1, "cannot tell": 1, "regression": 2}
    before = judge([sample_of(one) for one in cases])
    after = judge([sample_of([v + harm * (i == which) for v in one]) for i, one in enumerate(cases)])
    assert after[which].p <= before[which].p + 1e-9
    for i, (one, other) in enumerate(zip(before, after, strict=True)):
        if one.answer == "regression":
            assert other.answer == "regression", "Holm: a smaller p elsewhere cannot raise this one"
        if i == which:
            assert rank[other.answer] >= rank[one.answer]
            assert not (one.answer == "cannot tell" and other.answer == "pass")


@given(st.lists(st.floats(0, 5), min_size=5, max_size=5), st.integers(0, 4), st.floats(0, 1000))
def test_harm_in_one_trial_never_turns_a_regression_into_a_pass(noise: list[float], seed: int, harm: float) -> None:
    values = [3.0 + 0.1 * one for one in noise]
    assert judge([sample_of(values)])[0].answer == "regression"
    values[seed] += harm
    assert judge([sample_of(values)])[0].answer in ("regression", "cannot tell")


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8))
def test_identical_sides_pass(values: list[float]) -> None:
    (check,) = judge([Sample("a", METRICS["test_loss"], 0.02, np.array(values), np.array(values), True)])
    assert check.harm == 0
    # Two seeds with their floor of a fifth of the margin are enough to see nothing.
    assert check.answer == "pass"


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("heavy", [False, True])
def test_false_alarms_stay_below_the_level(paired: bool, heavy: bool) -> None:
    """2,750 gates, 1,250 of the kind that has a lower bound too, of 6 cases x 8 metrics and their means over cases,
    with nothing to find.

    The spread is 10 margins, so that the margin hardly helps: the rate has to come near the level, not above it.
    """
    rng = np.random.default_rng(20)
    metrics = list(METRICS.values())[:8]
    gates, seeds = 1250 if paired and not heavy else 500, tuple(range(5))
    size = (gates, 6, len(metrics), 2, 5)
    values = 10 * (rng.standard_t(3, size) / math.sqrt(3) if heavy else rng.standard_normal(size))
    alarms = 0
    for gate in values:
        samples = [
            Sample(f"case {i}", metric, 1.0, gate[i, j, 0], gate[i, j, 1], paired, (seeds, seeds))
            for i in range(6)
            for j, metric in enumerate(metrics)
        ]
        pooled, checks = judge_all(samples, FALSE_ALARMS)
        alarms += any(one.answer == "regression" for one in (*pooled, *checks))
    assert len(pooled) == 8
    assert alarms <= stats.binom.ppf(0.999, gates, FALSE_ALARMS)
    if not heavy and paired:
        # Where Student's test is exact the level is used, too: a gate that never alarms would pass the bound above.
        assert alarms >= stats.binom.ppf(0.001, gates, FALSE_ALARMS / 2)
