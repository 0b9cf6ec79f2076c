"""Models of several inputs: each out of scale is standardized by its own statistics, and the others are left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.prescribe.arguments import arguments
from diag.train.workload import Workload
from tests.prescribe.cases import STEPS, proposals, quiet, search
from tests.prescribe.test_remedies import pasted

SCALES = torch.tensor([1.0, 50.0, 40000.0, 7.0])


class Tabular(nn.Module):
    """Numbers, numbers of unit scale, and a category."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.body = nn.Sequential(nn.Linear(4 + 3 + 4, 32), nn.ReLU(), nn.Linear(32, 1))
        self.seen: list[Any] = []

    def forward(self, numbers: Tensor, small: Tensor, kind: Tensor, extra: None = None) -> Tensor:
        self.seen = [numbers, small, kind]
        found: Tensor = self.body(torch.cat([numbers, small, self.embedding(kind)], 1)).squeeze(1)
        return found


def rows() -> list[Any]:
    torch.manual_seed(0)
    found = []
    for _ in range(STEPS):
        numbers, small, kind = torch.randn(32, 4), torch.randn(32, 3), torch.randint(5, (32,))
        targets = (numbers[:, 0] - numbers[:, 2] + small[:, 0] > 0).float()
        found.append(((numbers * SCALES + 20, small), {"kind": kind, "y": targets}))
    return found


def by_position(model: nn.Module, batch: Any) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(*batch[0], batch[1]["kind"]), batch[1]["y"])


def by_name(model: nn.Module, batch: Any) -> Tensor:
    (numbers, small), rest = batch
    out = model(numbers, kind=rest["kind"], small=small, extra=None)
    return F.binary_cross_entropy_with_logits(out, rest["y"])


def made(model: nn.Module, batch: Any) -> Tensor:
    out = model(batch[0][0].clone(), batch[0][1], kind=batch[1]["kind"])
    return F.binary_cross_entropy_with_logits(out, batch[1]["y"])


def tabular(loss: Any, batches: list[Any] | None = None) -> Workload:
    torch.manual_seed(0)
    model = Tabular()
    return Workload(model, batches or rows(), loss, torch.optim.SGD(model.parameters(), lr=0.1))


@pytest.mark.parametrize(("loss", "second"), [(by_position, 1), (by_name, "small")])
def test_where_its_inputs_stand(loss: Any, second: Any) -> None:
    found = arguments(search(tabular(loss)).patient)
    assert found is not None
    assert [(one.key, one.code) for one in found] == [(0, "batch[0][0]"), (second, "batch[0][1]")]


def test_one_input_by_position_is_none_of_several() -> None:
    def alone(model: nn.Module, batch: Any) -> Tensor:
        out: Tensor = model(batch[0][0]).mean()
        return out

    model = nn.Linear(4, 1)
    workload = Workload(model, rows(), alone, torch.optim.SGD(model.parameters(), lr=1e-3))
    assert arguments(search(workload).patient) is None


def test_a_loss_that_asks_for_its_own_model() -> None:
    def own(model: nn.Module, batch: Any) -> Tensor:
        assert len(model.body) == 3  # type: ignore[arg-type]
        return by_name(model, batch)

    def strict(model: nn.Module, batch: Any) -> Tensor:
        assert type(model) is Tabular
        return by_name(model, batch)

    assert arguments(search(tabular(own)).patient) is not None
    assert arguments(search(tabular(strict)).patient) is None


@pytest.mark.parametrize("loss", [by_position, by_name])
def test_each_is_standardized_by_its_own_statistics(loss: Any) -> None:
    found, remedies, _ = proposals(tabular(loss))
    remedy = remedies["inputs standardized by feature"]
    assert "batch[0][0]: deviations from" in remedy.change and "integers" in remedy.change
    assert "batch[0][1]" not in remedy.code  # of unit scale
    trial = found.bench.try_(remedy)
    assert trial.verdict == "helped", (trial.effect, trial.why)
    mine = tabular(loss)
    with quiet():
        changed = pasted(remedy, mine)
    batch = rows()[0]
    changed.loss(changed.model, batch)
    numbers, small, kind = mine.model.seen  # type: ignore[misc]
    assert numbers.mean(0).abs().max() < 1 and numbers.std(0).min() > 0.5 and numbers.std(0).max() < 2
    assert torch.equal(small, batch[0][1]) and torch.equal(kind, batch[1]["kind"])
    assert {"mean_0", "std_0"} <= set(changed.model.state_dict())


def test_lsuv_runs_models_of_one_input() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 1))

        def forward(self, numbers: Tensor, small: Tensor) -> Tensor:
            found: Tensor = self.body(torch.cat([numbers, small], 1)).squeeze(1)
            return found

    flat = [(inputs[0], inputs[1], rest["y"]) for inputs, rest in rows()]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch[0], small=batch[1]), batch[2])

    torch.manual_seed(0)
    model = Plain()
    _, remedies, advice = proposals(Workload(model, flat, loss, torch.optim.SGD(model.parameters(), lr=0.1)))
    assert "LSUV initialization" not in remedies and "one input" in advice["LSUV initialization"].why


def test_what_is_not_finite_is_cleaned() -> None:
    batches = rows()
    batches[0][0][0][0, 0] = float("nan")
    _, remedies, _ = proposals(tabular(by_name, batches))
    mine = tabular(by_name, batches)
    changed = pasted(remedies["inputs cleaned"], mine)
    assert torch.isfinite(changed.loss(changed.model, batches[0]))


def test_what_the_loss_makes_is_told() -> None:
    _, remedies, advice = proposals(tabular(made))
    assert "inputs standardized by feature" not in remedies
    assert "do it by hand" in advice["inputs standardized"].why
