"""What the suite on clipping measures, against closed forms."""

from __future__ import annotations

import math

import pytest

import diag
from diag.suite.load import load_suite, module_of
from diag.suite.record import Record
from diag.suite.results import Results
from diag.train.trial import run_recipe

SUITE = module_of(load_suite("suites/clipping.py"))


def test_the_two_vectors_and_their_cosines() -> None:
    found = SUITE.vectors(0)
    assert (found["value_first"], found["value_second"]) == (0.9, 1.0)
    length = math.hypot(0.9, 100)
    assert found["norm_first"] == pytest.approx(0.9 / length, rel=1e-5)
    assert found["norm_second"] == pytest.approx(100 / length, rel=1e-5)
    assert found["value_cosine"] == pytest.approx((0.81 + 100) / (length * math.hypot(0.9, 1)), rel=1e-12)
    assert found["norm_cosine"] == pytest.approx(1, abs=1e-15)


def test_a_gradient_that_is_short_is_left() -> None:
    cosine, after = SUITE.turned([0.3, -0.4], "norm(max_norm=1.0)")
    assert after == [0.3, -0.4]
    assert cosine == pytest.approx(1, abs=1e-15)


def test_real_gradients_turn_by_value_only() -> None:
    found = SUITE.directions(1)
    assert found["norm_cosine"] == pytest.approx(1, abs=1e-12)
    assert 0.1 < found["value_cosine"] < 0.999
    assert found == SUITE.directions(1)


@pytest.mark.parametrize("gain", [1.0, 1.2, 0.8])
def test_factor_per_time_step_of_a_linear_recurrence(gain: float) -> None:
    # g_t = U^T g_(t+1) with U = gain Q, Q orthogonal.
    recipe = SUITE.TANH.but(activation="identity", init=f"orthogonal(gain={gain})", steps=2)
    outcome = run_recipe(recipe, 0, looks=1, measures=[SUITE.by_time_step])
    assert outcome.metrics["factor_per_step"] == pytest.approx(gain, rel=1e-4)
    assert len(outcome.tables["by_time"]) == 20


def test_recipes_that_are_not_unrolled_are_left_out() -> None:
    outcome = run_recipe(SUITE.BASE.but(steps=1), 0, looks=0, measures=[SUITE.by_time_step])
    assert "factor_per_step" not in outcome.metrics


def test_gain_in_rate_with_divergence() -> None:
    errors = {"none": {0.01: 0.05, 0.1: math.inf, 1.0: math.nan}, SUITE.NORM: {0.01: 0.05, 0.1: 0.01, 1.0: 0.17}}
    records = [
        Record(
            f"{clip} {lr}", 0, {"recipe": diag.Recipe(clipping=clip, lr=lr).to_dict()}, {"test_loss": error}
        )
        for clip, by_rate in errors.items()
        for lr, error in by_rate.items()
    ]  # fmt: skip
    assert SUITE.rate_gain(Results(records)).to_dict() == {0: pytest.approx(1.0)}


def test_vectors_as_the_canon_has_them() -> None:
    record = Record("two numbers", 0, {"experiment": "vectors", "parameters": {}}, SUITE.vectors(0))
    assert max(SUITE.numbers_gap(Results([record])).values()) < 1e-7
