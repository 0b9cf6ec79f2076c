"""Metrics that may become worse on either side: decays, away from zero; the first update, by any change."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.gate.runs import baseline_of, held

NEAR = [0.001, -0.002, 0.0, 0.002, -0.001]
"""Small and of both signs."""


@pytest.mark.parametrize(
    ("metric", "before", "after", "answer", "harm"),
    [
        ("gradient_decay", 0.0, 0.05, "regression", 0.05),
        ("gradient_decay", 0.0, -0.05, "regression", 0.05),
        ("gradient_decay", -0.3, -0.25, "improvement", -0.05),
        ("gradient_decay", -0.3, -0.35, "regression", 0.05),
        ("gradient_decay", -0.05, 0.05, "pass", 0.0),
        ("gradient_decay", -0.05, 0.1, "regression", 0.05),
        ("update_ratio", -3.0, -2.5, "regression", 0.5),
        ("update_ratio", -3.0, -3.5, "regression", 0.5),
        ("update_ratio", -3.0, -2.9, "pass", 0.1),
    ],
)
@pytest.mark.parametrize("cases", [1, 3])
def test_a_decay_is_worse_away_from_zero_and_an_update_that_changes_either_way(
    metric: str, before: float, after: float, answer: str, harm: float, cases: int
) -> None:
    old, new = (
        {f"case {i}": {metric: [middle + one for one in NEAR[i:] + NEAR[:i]]} for i in range(cases)}
        for middle in (before, after)
    )
    verdict = held(new, old)
    assert verdict.answer == answer
    assert {one.answer for one in verdict.checks} == {answer}
    for check in verdict.checks:
        assert (check.baseline, check.new) == (pytest.approx(before), pytest.approx(after))
        assert check.harm == pytest.approx(harm)


@pytest.mark.parametrize("metric", ["gradient_decay", "update_ratio"])
@pytest.mark.parametrize("paired", [True, False])
def test_noise_on_both_sides_of_zero_is_no_harm_however_many_cases(metric: str, paired: bool) -> None:
    # Of 200 gates; the level is 1 %. A mean over cases of distances that were each chosen by looking would fail in all.
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        old, new = ({f"case {i}": {metric: rng.normal(0, 3, 5).tolist()} for i in range(30)} for _ in range(2))
        wrong += held(baseline_of(new, range(5) if paired else range(10, 15)), old).answer == "regression"
    assert wrong <= 6


def test_a_gradient_that_dies_is_worse_whatever_the_sign_of_the_decay() -> None:
    old = {f"case {i}": {"gradient_decay": [-0.1 + one for one in NEAR]} for i in range(3)}
    new = {case: {"gradient_decay": [math.inf] * 5} for case in old}
    verdict = held(new, old)
    assert {one.answer for one in (*verdict.checks, *verdict.pooled)} == {"regression"}
