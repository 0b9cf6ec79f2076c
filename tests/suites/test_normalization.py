"""What the suite on normalization measures, against closed forms and by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

import diag
from diag.recipes.dataset import Dataset
from diag.suite.load import load_suite, module_of
from diag.suite.record import Record
from diag.suite.results import Results

SUITE = module_of(load_suite("suites/normalization.py"))


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "factor"), [("none", 1.0), ("batch", math.pi / (math.pi - 1))])
def test_gradient_factor_meets_theory(norm: str, factor: float) -> None:
    found = SUITE.gradients_at_start(3, norm, layers=20, units=256, samples=512)
    assert found["gradient_factor"] == pytest.approx(factor, rel=0.06)
    assert list(found["by_depth"]["layer"]) == list(range(20))


def test_drift_by_hand() -> None:
    rows = [
        {"step": step, "site": f"blocks.{layer}.linear", "kind": "activation", "mean": mean, "var": var}
        for layer, values in enumerate([[(0.0, 1.0), (1.0, 4.0)], [(2.0, 4.0), (2.0, 4.0)]])
        for step, (mean, var) in enumerate(values, 1)
    ]
    rows.append({"step": 1, "site": "blocks.0.activation", "kind": "activation", "mean": 50.0, "var": 9.0})
    session = SimpleNamespace(
        recipe=diag.Recipe(), fitted=SimpleNamespace(diverged=False), trace=SimpleNamespace(frame=pd.DataFrame(rows))
    )
    found = SUITE.drift(session)
    # Layer 0 moves by ln 2 and one standard deviation, layer 1 stays.
    assert found["spread_drift"] == pytest.approx(math.log(2) / 2)
    assert found["mean_drift"] == pytest.approx(0.5)
    assert len(found["distributions"]) == 4
    session.fitted.diverged = True
    assert SUITE.drift(session) == {}


def test_statistics_tell_running_from_own() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 3, generator=generator) + 5
    labels = (inputs[:, 0] > 5).long()
    norm, linear = nn.BatchNorm1d(3), nn.Linear(3, 2)
    model = nn.Sequential(norm, linear).eval()
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-1.0, 0, 0], [1.0, 0, 0]]))
        linear.bias.zero_()
    dataset = Dataset("classification", 2, (inputs, labels), (inputs, labels), (inputs, labels))
    session = SimpleNamespace(
        recipe=diag.Recipe(norm="batch"), fitted=SimpleNamespace(diverged=False), model=model, dataset=dataset
    )
    # The running mean is still 0: everything is far above it, half of it by mistake.
    found = SUITE.statistics(session)
    right = float((labels == 1).float().mean())
    assert found["running_minus_own"] == pytest.approx(right - 1, abs=0.1)
    assert found["change_running"] < 1e-5 < found["change_own"]
    assert norm.track_running_stats
    assert norm.running_mean is not None
    norm.running_mean.fill_(5.0)
    assert abs(SUITE.statistics(session)["running_minus_own"]) < 0.1
    session.recipe = diag.Recipe()
    assert SUITE.statistics(session) == {}


def test_ratios_of_times() -> None:
    found = SUITE.ratios(
        {"little": ("model(x)", lambda n: sum(range(n)), 20), "much": ("model(30 * x)", lambda n: sum(range(n)), 20)},
        {"x": 2000},
        rounds=3,
    )
    assert found["little"] == 1.0
    assert found["much"] > 4


def test_network_has_the_norm_before_the_activation() -> None:
    kinds = [type(one).__name__ for one in SUITE.network("batch", 16, 2)]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert len(SUITE.network("none", 16, 2)) == 5


def test_largest_rate_that_learns() -> None:
    accuracies = {0: {0.01: 0.9, 0.1: 0.9, 1.0: 0.1}, 1: {0.01: 0.3, 0.1: 0.2, 1.0: 0.1}}
    records = [
        Record(f"lr={lr}", seed, {"recipe": diag.Recipe(norm="batch", lr=lr).to_dict()}, {"test_accuracy": value})
        for seed, values in accuracies.items()
        for lr, value in values.items()
    ]
    assert SUITE.largest_rate(Results(records), "batch").to_dict() == {0: 0.1, 1: pytest.approx(0.01 / 3)}
