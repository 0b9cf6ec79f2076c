"""Whatever training does to a workload, afterwards it is as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diag.check import check
from diag.train.snapshot import restored
from diag.train.workload import Workload


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)
        self.register_buffer("queue", torch.zeros(2), persistent=False)
        self.register_buffer("late", None)
        self.register_buffer("wide", torch.ones(1).expand(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.queue = torch.cat([self.queue, x.detach().mean().view(1)])
        self.late = x.detach().clone()
        return self.b(self.bn(self.a(x)))


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 0.1, amsgrad=True),
    "lbfgs": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=3),
}


def train(workload: Workload, steps: int = 3) -> None:
    optimizer = workload.optimizer
    assert optimizer is not None

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = workload.model(torch.randn(5, 4)).square().sum()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


def everything(workload: Workload) -> dict[str, Any]:
    """A deep copy of all that must come back."""
    model, optimizer = workload.model, workload.optimizer
    assert optimizer is not None
    return copy.deepcopy(
        {
            "parameters": {name: one.detach() for name, one in model.named_parameters()},
            "buffers": {f"{p}.{n}": b for p, m in model.named_modules() for n, b in m._buffers.items()},
            "gradients": {name: one.grad for name, one in model.named_parameters()},
            "frozen": [one.requires_grad for one in model.parameters()],
            "modes": [one.training for one in model.modules()],
            "state": [optimizer.state.get(p, {}) for g in optimizer.param_groups for p in g["params"]],
            "groups": [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups],
            "random": (random.getstate(), np.random.get_state()[1], torch.get_rng_state()),
        }
    )


def assert_equal(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        left, right = list(left.values()), list(right.values())
    if isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_equal(one, other)
    elif isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
    elif isinstance(left, np.ndarray):
        assert np.array_equal(left, right)
    else:
        assert left == right


def workload(kind: str, trained: bool) -> Workload:
    torch.manual_seed(0)
    model = Net()
    model.b.bias.requires_grad_(False)
    model.bn.eval()
    one = Workload(
        model, [], lambda m, b: m(b).sum(), OPTIMIZERS[kind]([p for p in model.parameters() if p.requires_grad])
    )
    if trained:
        train(one, 2)
        model.b.weight.grad = None
    return one


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_everything_comes_back(kind: str, trained: bool, error: type[BaseException] | None) -> None:
    one = workload(kind, trained)
    before = everything(one)
    identities = [id(p) for p in one.model.parameters()]
    try:
        with restored(one):
            train(one)
            spoil(one)
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt) as caught:
        assert type(caught) is error
    assert_equal(everything(one), before)
    assert [id(p) for p in one.model.parameters()] == identities
    train(one)  # still trains, with the same parameters
    assert not torch.equal(one.model.a.weight, before["parameters"]["a.weight"])


def spoil(one: Workload) -> None:
    """What training loops do beside steps."""
    assert one.optimizer is not None
    for group in one.optimizer.param_groups:
        group["lr"] = 99.0
        group["initial_lr"] = 1.0
    one.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]}) if len(one.optimizer.state) > 1 else None
    one.model.eval()
    one.model.a.weight.requires_grad_(False)
    one.model.b.weight = nn.Parameter(torch.zeros(2, 3))
    random.random(), np.random.rand(), torch.rand(1)


def test_continuing_after_a_restore_is_bit_identical() -> None:
    results = []
    for interrupted in (False, True):
        one = workload("adam", True)
        if interrupted:
            with restored(one):
                train(one, 5)
        train(one, 3)
        results.append(everything(one))
    assert_equal(*results)


def test_gradients_keep_their_objects_and_values() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Embedding(5, 2, sparse=True))
    model[0].weight.grad = torch.full((3, 4), 2.0)
    model[1](torch.tensor([1, 1, 3])).sum().backward()
    gradient, sparse = model[0].weight.grad, model[1].weight.grad.to_dense()
    with restored(Workload(model, [], lambda m, b: m(b))):
        model[0].weight.grad.add_(1.0)
        model[1](torch.tensor([2, 2])).sum().backward()
    assert model[0].weight.grad is gradient
    assert (gradient == 2).all()
    assert model[0].bias.grad is None
    assert torch.equal(model[1].weight.grad.to_dense(), sparse)


def test_the_state_keeps_its_own_dtype() -> None:
    model = nn.Linear(4, 2, dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    optimizer.state[model.weight]["momentum_buffer"] = torch.full((2, 4), 1 / 3)
    with restored(Workload(model, [], lambda m, b: m(b), optimizer)):
        optimizer.state[model.weight]["momentum_buffer"].zero_()
    assert torch.equal(optimizer.state[model.weight]["momentum_buffer"], torch.full((2, 4), 1 / 3))


@pytest.mark.parametrize("shuffled", [True, False])
def test_a_loader_draws_the_same_batches_again(shuffled: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(torch.arange(20)), 4, shuffle=shuffled, generator=generator)
    with restored(Workload(nn.Linear(1, 1), loader, lambda m, b: m(b))):
        first = [batch[0] for batch in loader]
    assert_equal([batch[0] for batch in loader], first)


def test_lazy_modules_are_lazy_again() -> None:
    model = nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d(), nn.Linear(2, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    before = model[2].weight.detach().clone()
    held = list(model.parameters())
    with restored(Workload(model, [], lambda m, b: m(b), optimizer)):
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
        assert type(model[0]) is nn.Linear
    assert torch.equal(model[2].weight, before)
    assert (type(model[0]), type(model[1])) == (nn.LazyLinear, nn.LazyBatchNorm1d)
    assert all(one is other for one, other in zip(model.parameters(), held, strict=True))
    assert model[0].has_uninitialized_params()
    assert optimizer.state == {}
    model(torch.randn(4, 5)).sum().backward()
    optimizer.step()
    assert model[0].in_features == 5
    assert (type(model[0]), type(model[1])) == (nn.Linear, nn.BatchNorm1d)
    assert not model[0]._forward_pre_hooks


def test_lazy_modules_that_are_trained_by_a_check_are_not() -> None:
    def losses(checks: bool) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        x, y = torch.randn(16, 4, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 3
        loss = nn.CrossEntropyLoss()
        if checks:
            check(Workload(model, [(x, y)], lambda m, b: loss(m(b[0]), b[1]), optimizer), steps=5)
        found = []
        for _ in range(3):
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            optimizer.step()
            found.append(value.item())
        return found

    assert losses(True) == losses(False)
