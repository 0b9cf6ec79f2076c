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


def test_what_is_frozen_as_it_was_initialized() -> None:
    model = _network()
    model[:2].requires_grad_(False)
    share = (8 * 32 + 32) / sum(one.numel() for one in model.parameters())
    found = _coverage(model)["frozen_untrained"]
    assert found == {"Sequential": {"modules": ["0"], "share": pytest.approx(share)}}


def _drawn(stds: list[float], tail: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(*[part for _ in stds for part in (nn.Linear(48, 48), nn.LayerNorm(48))], nn.Linear(48, 4))
    for layer, std in zip(model[:-1:2], stds, strict=True):
        assert isinstance(layer, nn.Linear)
        nn.init.normal_(layer.weight, std=std)
        if tail:
            layer.weight.data[0] *= 8
    model[:-1].requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("stds", "tail", "new"),
    [
        ([0.02] * 6, False, True),
        ([0.02, 0.005] * 3, False, True),
        ([0.02, 0.03, 0.05, 0.01, 0.06, 0.08], False, False),
        ([0.02] * 6, True, False),
        ([0.02] * 5, False, False),
    ],
)
def test_weights_of_a_law_of_ones_own(stds: list[float], tail: bool, new: bool) -> None:
    model = _drawn(stds, tail)
    optimizer = torch.optim.SGD(model[-1].parameters(), 0.1)
    with diag.watch(model, optimizer) as watch:
        F.cross_entropy(model(torch.randn(8, 48)), torch.arange(8) % 4).backward()
        optimizer.step()
    assert bool(watch.trace.coverage["frozen_untrained"]) == new


def _trained(model: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()


def _loaded(model: nn.Sequential) -> None:
    nn.init.normal_(model[0].weight, std=0.3)


def _normed(model: nn.Sequential) -> None:
    model[1].weight.data[0] = 0.9


@pytest.mark.parametrize("change", [_trained, _loaded, _normed])
def test_what_was_trained_before_is_meant(change: Any) -> None:
    model = _network()
    change(model)
    model[:2].requires_grad_(False)
    assert _coverage(model)["frozen_untrained"] == {}


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
