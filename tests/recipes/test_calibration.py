"""Calibration and separation: by hand, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from diag.errors import DiagError
from diag.recipes.calibration import auroc, brier_score, expected_calibration_error, negative_log_likelihood

GENERATOR = torch.Generator().manual_seed(0)
PROBABILITIES = torch.randn(500, 4, generator=GENERATOR, dtype=torch.float64).softmax(1)
LABELS = torch.randint(4, (500,), generator=GENERATOR)


def test_calibration_error_by_hand() -> None:
    """Confidences 0.6 and 0.7 with one right of two, and 0.9 twice, both right: in two bins and in ten."""
    chances = torch.tensor([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1])
    # Two bins: all four are in (0.5, 1]: accuracy 3/4, confidence 3.1/4.
    assert expected_calibration_error(chances, labels, bins=2) == pytest.approx(0.025, rel=1e-12)
    # Ten: (0.5, 0.6] |1 - 0.6|, (0.6, 0.7] |0 - 0.7|, (0.8, 0.9] |1 - 0.9| twice.
    assert expected_calibration_error(chances, labels, bins=10) == pytest.approx((0.4 + 0.7 + 0.2) / 4, rel=1e-12)


def test_calibration_error_against_a_loop() -> None:
    confidence, predicted = PROBABILITIES.numpy().max(1), PROBABILITIES.numpy().argmax(1)
    right = predicted == LABELS.numpy()
    expected = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(PROBABILITIES, LABELS) == pytest.approx(expected, rel=1e-10)
    assert expected > 0.05


def test_certain_and_right_or_wrong() -> None:
    certain = torch.eye(3)
    assert expected_calibration_error(certain, torch.arange(3)) == 0
    assert expected_calibration_error(certain, torch.tensor([1, 2, 0])) == 1
    assert brier_score(certain, torch.arange(3)) == 0
    assert brier_score(certain, torch.tensor([1, 2, 0])) == 2


def test_scores_against_independent_ones() -> None:
    assert negative_log_likelihood(PROBABILITIES.log(), LABELS) == pytest.approx(
        log_loss(LABELS.numpy(), PROBABILITIES.numpy(), labels=range(4)), rel=1e-12
    )
    expected = np.mean(((PROBABILITIES.numpy() - np.eye(4)[LABELS.numpy()]) ** 2).sum(1))
    assert brier_score(PROBABILITIES, LABELS) == pytest.approx(expected, rel=1e-12)
    assert brier_score(torch.full((5, 4), 0.25), LABELS[:5]) == pytest.approx(0.75)
    assert negative_log_likelihood(torch.full((5, 4), 0.25).log(), LABELS[:5]) == pytest.approx(math.log(4))


def test_no_chance_for_what_came_is_infinite() -> None:
    assert negative_log_likelihood(torch.eye(2).log(), torch.tensor([0, 0])) == math.inf


def test_auroc_by_hand() -> None:
    inside, outside = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0])
    # Pairs in which the outside score is higher: 1 + 1/2 + 0 of 2.0, and 3 of 4.0.
    assert auroc(inside, outside) == pytest.approx(4.5 / 6)
    assert auroc(outside, inside) == pytest.approx(1.5 / 6)
    assert auroc(inside, inside) == 0.5
    assert auroc(inside, inside + 10) == 1
    assert auroc(-inside, torch.tensor([-math.inf])) == 0


@pytest.mark.parametrize("levels", [3, 50, 10**9])
def test_auroc_against_scikit_learn(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    inside = torch.randint(levels, (300,), generator=generator)
    outside = torch.randint(levels, (20, 10), generator=generator) + levels // 3
    expected = roc_auc_score([0] * 300 + [1] * 200, np.concatenate([inside.numpy(), outside.numpy().ravel()]))
    assert auroc(inside, outside) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("measure", [expected_calibration_error, negative_log_likelihood, brier_score])
def test_shapes_that_do_not_match(measure: object) -> None:
    for chances, labels in ((torch.ones(3, 2), torch.ones(2)), (torch.ones(3), torch.ones(3)), (torch.ones(0, 2),) * 2):
        with pytest.raises(DiagError, match=r"\[count, classes\] and as many labels, got"):
            measure(chances, labels)  # type: ignore[operator]


def test_what_cannot_be() -> None:
    with pytest.raises(DiagError, match="bins from 1, got 0"):
        expected_calibration_error(PROBABILITIES, LABELS, bins=0)
    for bad in (torch.ones(0), torch.tensor([math.nan])):
        with pytest.raises(DiagError, match="NaN"):
            auroc(bad, torch.ones(1))


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    probabilities = torch.tensor([[0.5, 0.5], [0.75, 0.25]])
    found = expected_calibration_error(probabilities, torch.tensor([0, 1]), bins=2)
    assert found == pytest.approx((0.5 + 0.75) / 2)
