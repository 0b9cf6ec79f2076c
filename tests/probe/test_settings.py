"""What is read of modules and optimizers when a trace is made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def _coverage(model: nn.Module, optimizer: torch.optim.Optimizer | None = None, steps: int = 2) -> dict[str, Any]:
    with diag.watch(model) as watch:
        for _ in range(steps):
            F.cross_entropy(model(X), Y).backward()
            if optimizer is None:
                watch.step()
            else:
                optimizer.step()
                optimizer.zero_grad()
    return watch.trace.coverage


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 3))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda p: torch.optim.SGD(p, 0.1, weight_decay=1e-4), (1e-4, False)),
        (lambda p: torch.optim.Adam(p, 1e-3, weight_decay=0.5), (0.5, False)),
        (lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1), (0.1, True)),
        (lambda p: torch.optim.Adam(p, 1e-3), None),
        (lambda p: torch.optim.Rprop(p, 1e-3), None),
    ],
)
def test_the_decay_of_each_parameter(make: Any, found: tuple[float, bool] | None) -> None:
    model = _network()
    decays = _coverage(model, make(model.parameters()))["weight_decay"]
    names = {name for name, _ in model.named_parameters()}
    assert decays == ({} if found is None else dict.fromkeys(names, found))


def test_groups_decay_by_themselves() -> None:
    model = _network()
    groups = [{"params": model[0].parameters(), "weight_decay": 0.2}, {"params": model[3].parameters()}]
    assert _coverage(model, torch.optim.SGD(groups, 0.1))["weight_decay"] == {
        "0.weight": (0.2, False),
        "0.bias": (0.2, False),
    }


def test_a_model_that_is_put_back_was_trained_all_the_same() -> None:
    """`diag check` trains in training mode and restores the model that it was given, statistics and mode included."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32, momentum=1e-5), nn.ReLU(), nn.Linear(32, 3)).eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    coverage = diag.check(diag.Workload(model, [(X, Y)], loss, optimizer), steps=3).trace.coverage
    assert not model.training
    assert coverage["norms_unused"] == []
    assert coverage["slow_statistics"] == {"1": (1e-5, 3)}


def test_nothing_that_is_computed_is_asked_for() -> None:
    """To read the weight of a spectral normalization turns its power iteration by one."""
    torch.manual_seed(0)
    model = nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(8, 32)), nn.ReLU(), nn.Linear(32, 3))
    before = model[0].parametrizations.weight[0]._u.clone()
    with diag.watch(model):
        pass
    assert torch.equal(model[0].parametrizations.weight[0]._u, before)
    with diag.watch(model) as watch:
        F.cross_entropy(model(X), Y).backward()
        watch.step()
        during = model[0].parametrizations.weight[0]._u.clone()
    assert torch.equal(model[0].parametrizations.weight[0]._u, during)
