"""How the suite on pretraining chooses rates and compares starts."""

from __future__ import annotations

import pytest

from diag.suite.load import load_suite, module_of
from diag.suite.record import Record
from diag.suite.results import Results

SUITE = module_of(load_suite("suites/pretraining.py"))


def results() -> Results:
    """Validation prefers the second rate from scratch, and the first from a GAN; the test parts disagree."""
    valid = {"scratch": [0.9, 0.5], "autoencoder": [0.9, 0.4], "gan": [0.1, 0.2]}
    test = {"scratch": [0.99, 0.7], "autoencoder": [0.9, 0.75], "gan": [0.5, 0.9]}
    return Results(
        [
            Record(case, seed, {"recipe": recipe.to_dict()}, {
                "valid_loss": valid[start][number] + 0.01 * seed, "test_accuracy": test[start][number] + 0.02 * seed,
                "test_loss": 1.0, "train_loss": 0.1,
            })
            for start in SUITE.STARTS
            for number, lr in enumerate(SUITE.RATES)
            for labels in SUITE.LABELS
            for case in [f"{labels} labels, {start}, lr={lr}"]
            for recipe in [SUITE.cases[case]]
            for seed in (0, 1)
        ]
    )  # fmt: skip


def test_rates_are_chosen_by_validation_loss() -> None:
    assert SUITE.tuned(results(), 50, "scratch") == "50 labels, scratch, lr=0.001"
    assert SUITE.tuned(results(), 50, "autoencoder") == "50 labels, autoencoder, lr=0.001"
    assert SUITE.tuned(results(), 50, "gan") == "50 labels, gan, lr=0.0003"


def test_gain_is_of_the_test_part_at_the_chosen_rates() -> None:
    assert SUITE.gain(results(), "autoencoder", 50).to_list() == pytest.approx([0.05, 0.05])
    assert SUITE.gain(results(), "gan", 20).to_list() == pytest.approx([-0.2, -0.2])


def test_best_holds_one_case_per_start_and_number_of_labels() -> None:
    best = SUITE.best(results())
    assert len(best) == 2 * 9
    assert best.groupby(["labels", "start"])["case"].nunique().eq(1).all()
    assert set(best["lr"]) == {0.0003, 0.001}
    ranked = SUITE.ranked(50)(results())
    assert len(ranked) == 3 and ranked["test_accuracy"].is_monotonic_decreasing
