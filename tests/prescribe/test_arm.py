"""One training: what is measured, in which order, and that measuring changes nothing."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diag.prescribe.arm import run_arm
from diag.train.workload import Workload
from tests.prescribe.cases import blobs, classify, mlp, sgd


def test_it_is_plain_training() -> None:
    workload, batches = sgd(mlp(3)), blobs()
    twin = copy.deepcopy(workload.model)
    starts = [float(classify(twin, batch).detach()) for batch in batches[:3]]
    arm = run_arm(workload, batches, 0, workload.loss)
    optimizer, losses = torch.optim.SGD(twin.parameters(), lr=0.1), []
    for batch in batches:
        optimizer.zero_grad()
        loss = classify(twin, batch)
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
    assert arm.start == pytest.approx(sum(starts) / 3)
    assert arm.final == pytest.approx(sum(losses[-6:]) / 6)
    assert all(torch.equal(a, b) for a, b in zip(workload.model.parameters(), twin.parameters(), strict=True))


def test_a_seed_is_an_order_of_the_same_batches() -> None:
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for seed, numbers in seen.items():

        def loss(model: nn.Module, batch: Any, numbers: list[int] = numbers) -> Tensor:
            numbers.append(batch)
            return sum(p.square().sum() for p in model.parameters())  # type: ignore[return-value]

        workload = sgd(mlp(2), lr=0.01, loss=loss)
        run_arm(workload, list(range(20)), seed, loss)
    # The loss before training is read on the first three batches.
    seen = {seed: numbers[3:] for seed, numbers in seen.items()}
    assert seen[0] == list(range(20))
    assert sorted(seen[1]) == sorted(seen[2]) == list(range(20))
    assert seen[0] != seen[1] != seen[2]


def test_gradient_norms_on_demand() -> None:
    def loss(model: nn.Module, batch: float) -> Tensor:
        return batch * model.weight.sum()  # type: ignore[operator, union-attr]

    model = nn.Linear(2, 2, bias=False)
    workload = Workload(model, [], loss, torch.optim.SGD(model.parameters(), lr=0.0))
    assert run_arm(workload, [1.0, 2.0], 0, loss, norms=True).gradient_norms == [2.0, 4.0]
    assert run_arm(workload, [1.0, 2.0], 0, loss).gradient_norms == []


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e9])
def test_divergence_ends_it(value: float) -> None:
    calls = []

    def loss(model: nn.Module, batch: int) -> Tensor:
        calls.append(batch)
        return model.weight.sum() * 0 + (value if batch == 5 else 1.0)  # type: ignore[operator, union-attr]

    model = nn.Linear(2, 2)
    workload = Workload(model, [], loss, torch.optim.SGD(model.parameters(), lr=0.1))
    arm = run_arm(workload, list(range(20)), 0, loss)
    assert (arm.diverged, arm.final, arm.start, calls) == (True, math.inf, 1.0, [0, 1, 2, *range(6)])


def test_dropout_is_off_where_it_is_measured_and_on_where_it_is_trained() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.Dropout(0.9), nn.Linear(64, 4))
    twin = copy.deepcopy(model)
    workload = sgd(model, lr=0.0)
    arm = run_arm(workload, blobs(10), 0, workload.loss)
    norm, plain = model[1], copy.deepcopy(twin)
    plain[2].p = 0.0  # type: ignore[union-attr]
    expected = sum(float(classify(plain, batch).detach()) for batch in blobs(10)[-2:]) / 2
    assert arm.final == pytest.approx(expected, rel=1e-5)
    # The running statistics have seen each batch once, as without a measurement.
    assert isinstance(norm, nn.BatchNorm1d) and int(norm.num_batches_tracked) == 10
    for batch in blobs(10):
        twin(batch[0])
    assert torch.allclose(norm.running_mean, twin[1].running_mean)  # type: ignore[arg-type]
    assert model[2].training


def test_the_random_stream_is_the_same_however_it_is_measured() -> None:
    def other(model: nn.Module, batch: Any) -> Tensor:
        return torch.rand(()) + classify(model, batch)

    weights = []
    for measure in (classify, other):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 64), nn.Dropout(0.5), nn.Linear(64, 4))
        run_arm(sgd(model), blobs(10), 0, measure)
        weights.append(model[0].weight)
    assert torch.equal(*weights)


def test_lbfgs_and_the_sign() -> None:
    model = mlp(2)
    workload = Workload(model, [], classify, torch.optim.LBFGS(model.parameters(), lr=0.1))
    arm = run_arm(workload, blobs(1) * 6, 0, lambda model, batch: -classify(model, batch))
    assert -2.0 < arm.start < 2 * arm.final < 0


def test_a_training_whose_loss_refuses_what_has_diverged_has_diverged() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
    batches = [(x, (x[:, :1] > 0).float()) for x, _ in blobs()]

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.binary_cross_entropy(model(batch[0]), batch[1])

    for lr, diverged in ((0.1, False), (math.inf, True)):
        fresh = copy.deepcopy(model)
        workload = Workload(fresh, batches, loss, torch.optim.SGD(fresh.parameters(), lr=lr))
        arm = run_arm(workload, batches, 0, loss)
        assert (arm.diverged, math.isinf(arm.final)) == (diverged, diverged)

    def broken(model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.binary_cross_entropy(model(batch[0]) * torch.nan, batch[1])

    with pytest.raises(RuntimeError, match="between 0 and 1"):
        run_arm(Workload(model, batches, broken, torch.optim.SGD(model.parameters(), lr=0.1)), batches, 0, broken)
