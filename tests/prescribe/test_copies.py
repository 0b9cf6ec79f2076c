"""Copies train as the user's own would, and the user's own stay what they were."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR

from diag.errors import DiagError
from diag.prescribe.arm import run_arm
from diag.prescribe.copies import Source, require_own_loss
from diag.train.workload import Workload
from tests.prescribe.cases import blobs, classify, mlp, sgd


class Clipped(torch.optim.SGD):
    """An optimizer with an attribute that its state does not hold."""

    def __init__(self, parameters: Any, lr: float, limit: float) -> None:
        super().__init__(parameters, lr=lr)
        self.limit = limit

    def step(self, closure: Any = None) -> None:
        nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], self.limit)
        super().step(closure)


def trained(workload: Workload) -> list[torch.Tensor]:
    run_arm(workload, blobs(10), 0, workload.loss)
    return [parameter.detach().clone() for parameter in workload.model.parameters()]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        lambda p: Clipped(p, 0.1, 0.01),
        lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=4),
    ],
)
def test_a_copy_trains_as_the_original_does(make: Any) -> None:
    model = mlp(3)
    workload = Workload(model, blobs(), classify, make(model.parameters()))
    run_arm(workload, blobs(4), 0, classify)  # so that the optimizer has a state to copy
    source = Source(workload)
    for _ in range(2):
        with source.fresh() as lent:
            assert type(lent.optimizer) is type(workload.optimizer)
            assert lent.model is not model
            copied = trained(lent)
    assert all(torch.equal(a, b) for a, b in zip(copied, trained(workload), strict=True))


def test_groups_are_mapped_by_parameter_and_foreign_parameters_are_copied() -> None:
    model, other = mlp(3), nn.Linear(2, 2)
    groups = [{"params": model[0].parameters(), "lr": 0.5}, {"params": [*model[2].parameters(), *other.parameters()]}]
    with Source(Workload(model, blobs(), classify, torch.optim.SGD(groups, lr=0.1))).fresh() as lent:
        assert lent.optimizer is not None
        first, second = lent.optimizer.param_groups
        inside = {id(one) for one in lent.model.parameters()}
        assert (first["lr"], second["lr"]) == (0.5, 0.1)
        assert first["params"][0] is lent.model[0].weight  # type: ignore[index]
        assert [id(one) in inside for one in second["params"]] == [True, True, False, False]
        assert second["params"][2] is not other.weight


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    model[2].weight = model[0].weight
    with Source(sgd(model)).fresh() as lent:
        assert lent.model[2].weight is lent.model[0].weight  # type: ignore[index]


def _scheduled() -> tuple[Workload, Any]:
    workload = sgd(mlp(3), lr=0.2)
    assert workload.optimizer is not None
    schedule = ExponentialLR(workload.optimizer, 0.9)
    workload.optimizer.register_step_post_hook(lambda *_: schedule.step())
    return workload, schedule


def test_a_schedule_follows_the_copy_and_comes_back() -> None:
    workload, schedule = _scheduled()
    assert workload.optimizer is not None
    before = copy.deepcopy({k: v for k, v in vars(schedule).items() if k != "optimizer"})
    source = Source(workload)
    for _ in range(2):
        with source.fresh() as lent:
            copied = trained(lent)
            assert lent.optimizer is not None
            assert lent.optimizer.param_groups[0]["lr"] == pytest.approx(0.2 * 0.9**10)
            assert workload.optimizer.param_groups[0]["lr"] == 0.2
    assert schedule.optimizer is workload.optimizer
    assert {k: v for k, v in vars(schedule).items() if k != "optimizer"} == before
    assert all(torch.equal(a, b) for a, b in zip(copied, trained(workload), strict=True))
    assert schedule.last_epoch == 10


def test_a_schedule_by_a_function_begins_anew_each_time() -> None:
    workload = sgd(mlp(2), lr=1.0)
    assert workload.optimizer is not None
    schedule = LambdaLR(workload.optimizer, lambda step: 1.0 / (1 + step))
    workload.optimizer.register_step_post_hook(lambda *_: schedule.step())
    source, rates = Source(workload), []
    for _ in range(2):
        with source.fresh() as lent:
            trained(lent)
            assert lent.optimizer is not None
            rates.append(lent.optimizer.param_groups[0]["lr"])
    assert rates == [pytest.approx(1 / 11)] * 2


class Locked(nn.Module):
    """A model that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.lock = mlp(3), threading.Lock()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def test_what_cannot_be_copied_is_lent_and_restored() -> None:
    workload = sgd(Locked(), momentum=0.9)
    source = Source(workload)
    assert source.why_not == "Locked cannot be copied (TypeError: cannot pickle '_thread.lock' object)"
    before = copy.deepcopy(workload.model.state_dict())
    with source.fresh() as lent:
        assert lent.model is workload.model
        assert lent.optimizer is not workload.optimizer
        trained(lent)
        assert not torch.equal(lent.model.state_dict()["body.0.weight"], before["body.0.weight"])
    assert all(torch.equal(one, before[name]) for name, one in workload.model.state_dict().items())
    assert workload.optimizer is not None and not workload.optimizer.state


def test_a_model_that_keeps_its_activations_is_copied_from_before_it_ran() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(3)
            self.kept: Any = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.kept = self.body(x)
            return self.kept

    source = Source(sgd(Keeping()))
    with source.fresh() as lent:
        first = trained(lent)
    with source.fresh() as lent:
        assert all(torch.equal(a, b) for a, b in zip(first, trained(lent), strict=True))


def test_a_loss_with_a_model_of_its_own() -> None:
    workload = sgd(mlp(3))
    model = workload.model
    workload.loss = lambda _, batch: classify(model, batch)
    with pytest.raises(DiagError, match=r"trains a model of its own.*write loss\(model, batch\)"):
        require_own_loss(Source(workload), blobs()[0])
    assert all(parameter.grad is None for parameter in model.parameters())
    require_own_loss(Source(sgd(mlp(3))), blobs()[0])


def test_lazy_layers_get_their_shapes_on_the_copy_alone() -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(4))
    workload = sgd(model)
    source = Source(workload, blobs()[0])
    assert source.template.model[0].weight.shape == (8, 16)  # type: ignore[index]
    for _ in range(2):
        with source.fresh() as lent:
            before = lent.model[0].weight.detach().clone()  # type: ignore[index]
            trained(lent)
            assert not torch.equal(lent.model[0].weight, before)  # type: ignore[index]
    assert nn.parameter.is_lazy(model[0].weight)
