"""What the suite on regularization measures, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import diag
from diag.recipes.dataset import Dataset
from diag.suite.load import load_suite, module_of
from diag.suite.record import Record
from diag.suite.results import Results

SUITE = module_of(load_suite("suites/regularization.py"))


def session(prediction: str = "plain", p: float = 0.5) -> SimpleNamespace:
    """A network that is sure of one-hot inputs and knows nothing of zeros; half of its test labels are wrong."""
    inputs = torch.eye(4)
    labels = torch.tensor([0, 1, 3, 2])
    linear = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        linear.weight.copy_(50 * torch.eye(4))
    part = (inputs, labels)
    dataset = Dataset("classification", 4, part, part, part, elsewhere=torch.zeros(3, 4))
    return SimpleNamespace(
        recipe=diag.Recipe(prediction=prediction), dataset=dataset, model=nn.Sequential(nn.Dropout(p), linear).eval()
    )


def test_calibration_of_a_confident_half_wrong_network() -> None:
    found = SUITE.calibration(session())
    assert found["ece"] == pytest.approx(0.5, abs=1e-6)
    assert found["auroc_of_confidence"] == 1.0
    assert found["reliability"]["right"].tolist() == [1, 1, 0, 0]
    assert "auroc_of_variance" not in found


def test_variance_over_passes() -> None:
    torch.manual_seed(0)
    found = SUITE.calibration(session("mc_dropout(passes=200)"))
    # A pass either keeps the one input, and is sure, or drops it, and says 1/4 of each: variance p(1-p) (9/16 + 3/16).
    known = found["uncertainty"].query("inputs == 'classes 0 to 7'")["std"]
    assert known.to_numpy() == pytest.approx((0.25 * 12 / 16) ** 0.5, abs=0.03)
    # Zeros stay zeros whatever is dropped: no variance, so they all lie below.
    assert found["auroc_of_variance"] == 0.0


def test_mechanics() -> None:
    found = SUITE.mechanics(session(p=0.3))
    assert found["largest_norm"] == 50.0
    assert found["kept"] == pytest.approx(1.0, abs=0.005)
    assert "kept" not in SUITE.mechanics(SimpleNamespace(model=nn.Sequential(nn.Linear(2, 2))))


def test_strength_is_chosen_by_validation_and_judged_by_test() -> None:
    def record(case: str, valid: float, test: float) -> Record:
        return Record(case, 0, {"recipe": SUITE.BASE.to_dict()}, {"valid_loss": valid, "test_loss": test})

    results = Results(
        [
            record("none", 1.0, 1.0), record("l2 0.0005", 0.9, 0.8), record("l2 0.002", 0.7, 0.9),
            record("l2 0.01", 0.8, 0.1), record("dropout 0.5 + max-norm 0.5", 0.5, 0.4),
            record("dropout 0.5 + max-norm 1.0", 0.6, 0.3), record("dropout 0.5 + max-norm 2.0", 0.7, 0.2),
        ]
    )  # fmt: skip
    assert SUITE.tuned(results, "l2") == "l2 0.002"
    assert SUITE.better(results, "l2").to_dict() == {0: pytest.approx(0.1)}
    assert SUITE.tuned(results, "dropout 0.5 + max-norm") == "dropout 0.5 + max-norm 0.5"
