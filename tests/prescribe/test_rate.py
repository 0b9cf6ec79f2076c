"""The range test finds the learning rate that theory gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diag.prescribe.rate import HIGHEST, LOWEST, UNTUNED, suggestions, tuned
from diag.prescribe.remedy import Advice, Remedy
from diag.train.workload import Workload
from tests.prescribe.cases import blobs, classify, mlp, proposals, search, sgd


def test_suggestions_lie_below_where_it_diverges() -> None:
    rates = np.geomspace(1e-6, 10, 57).tolist()
    # Falls from 1e-3 on, is lowest about 0.1, and explodes beyond 1.
    losses = [2.3 if rate < 1e-3 else max(0.1, 2.3 - 1.1 * np.log10(rate / 1e-3)) for rate in rates if rate < 1]
    losses += [5.0, 50.0]
    found = suggestions(rates[: len(losses)], losses)
    assert 1 <= len(found) <= 4
    assert all(1e-3 < rate < 1.0 for rate in found)
    assert min(found) < 0.1 * max(found)


def test_a_sweep_that_breaks_down_at_once_suggests_small_rates() -> None:
    assert max(suggestions([1e-6, 2e-6], [2.0, float("nan")])) <= 1e-3


class Bowl(nn.Module):
    """f = h w^2 / 2 in each of 100 directions: gradient descent converges for lr < 2 / h, at once for lr = 1 / h."""

    def __init__(self, curvature: float) -> None:
        super().__init__()
        self.weight, self.curvature = nn.Parameter(torch.ones(10, 10)), curvature

    def forward(self) -> torch.Tensor:
        return self.curvature * self.weight.square().sum() / 2


def bowl(curvature: float, lr: float, groups: bool = False) -> Workload:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return model()

    model = Bowl(curvature)
    parameters: Any = [{"params": [model.weight]}]
    if groups:
        parameters.append({"params": [nn.Parameter(torch.ones(1))], "lr": lr / 10})
    return Workload(model, [0] * 30, loss, torch.optim.SGD(parameters, lr=lr))


def found_rate(workload: Workload) -> tuple[float, Remedy]:
    (remedy,) = tuned(search(workload).patient, None)
    assert isinstance(remedy, Remedy)
    with search(workload).bench.source.fresh() as lent:
        changed = remedy.apply(lent).optimizer
        assert changed is not None
        return float(changed.param_groups[0]["lr"]), remedy


@pytest.mark.parametrize("curvature", [0.5, 5.0, 500.0])
def test_a_quadratic(curvature: float) -> None:
    rate, remedy = found_rate(bowl(curvature, 3e-6))
    assert 0.1 / curvature < rate < 2.0 / curvature
    assert LOWEST <= rate <= HIGHEST
    assert 'group["lr"] =' in remedy.code


def test_groups_keep_their_ratio() -> None:
    workload = bowl(5.0, 1e-5, groups=True)
    rate, remedy = found_rate(workload)
    assert 'group["lr"] *=' in remedy.code
    with search(workload).bench.source.fresh() as lent:
        changed = remedy.apply(lent).optimizer
        assert changed is not None
        assert changed.param_groups[1]["lr"] == pytest.approx(rate / 10)


@pytest.mark.parametrize("lr", [30.0, 1e-8])
def test_a_network(lr: float) -> None:
    found, remedies, _ = proposals(sgd(mlp(4), lr))
    assert remedies["learning rate"] is UNTUNED
    (remedy,) = tuned(found.patient, None)
    assert isinstance(remedy, Remedy)
    trial = found.bench.try_(remedy)
    assert trial.helped and trial.effect is not None and trial.effect.remedy < 0.35 * trial.effect.start


def test_a_good_rate_is_left_alone() -> None:
    found = search(sgd(mlp(4), 0.15))
    (told,) = tuned(found.patient, None)
    assert isinstance(told, (Advice, Remedy))
    if isinstance(told, Remedy):
        trial = found.bench.try_(told)
        assert trial.effect is not None and trial.effect.control < 1.5 * trial.effect.remedy + 0.1
    else:
        assert "about the present 0.15" in told.why


def test_where_no_rate_helps() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return 1.0 + 0 * classify(model, batch)

    workload = Workload(model := mlp(2), blobs(), loss, torch.optim.SGD(model.parameters(), lr=0.1))
    (told,) = tuned(search(workload).patient, None)
    assert isinstance(told, Advice)
    assert told.why == "at no rate of the sweep did the loss fall"


def test_a_good_rate_after_another_remedy_is_no_advice_on_the_training_as_it_is() -> None:
    nothing = Remedy("nothing", "biases", "Do nothing.", "", ())
    found = search(sgd(mlp(4), 0.15)).patient
    alone, after = list(tuned(found, None)), list(tuned(found, nothing))
    assert not any(isinstance(one, Advice) for one in after)
    assert len(after) == sum(isinstance(one, Remedy) for one in alone)

    def flat(model: nn.Module, batch: Any) -> torch.Tensor:
        return 1.0 + 0 * classify(model, batch)

    flats = search(Workload(model := mlp(2), blobs(), flat, torch.optim.SGD(model.parameters(), lr=0.1))).patient
    assert list(tuned(flats, nothing)) == []
    (told,) = tuned(flats, None)
    assert isinstance(told, Advice) and "alone" in told.change
