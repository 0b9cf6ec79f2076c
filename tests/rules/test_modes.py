"""Batch normalizations that are trained in evaluation mode."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag


def _run(depth: int, *, train: bool, steps: int = 20, tested: bool = False) -> diag.Diagnosis:
    """tested: whether the modes are turned round, and training mode is that of the test."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Linear(8 if index == 0 else 16, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    x = torch.randn(64, 8)
    model.train(train)
    with diag.watch(model) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
            optimizer.step()
        if tested:
            with torch.no_grad():
                model.train()(x)
    return watch.diagnose()


def test_what_never_normalized_is_the_root_of_what_fades() -> None:
    finding = _run(10, train=False).findings[0]
    assert (finding.rule, finding.severity, finding.site) == ("loss-not-decreasing", "error", "1")
    assert finding.evidence["of"] == "evaluation"
    assert finding.evidence["count"] == 10
    assert "mean 0 and variance 1" in finding.message
    assert {one.rule for one in finding.consequences} >= {"collapsed-signal"}


@pytest.mark.parametrize("tested", [False, True])
@pytest.mark.parametrize("steps", [40, 600])
def test_it_is_an_error_however_much_is_learned_and_whatever_a_test_does(steps: int, tested: bool) -> None:
    found = _run(1, train=False, steps=steps, tested=tested).findings
    (finding,) = [one for one in found if one.evidence.get("of") == "evaluation"]
    assert finding.severity == "error"
    assert "1 batch normalization (1) normalizes nothing" in finding.message


@pytest.mark.parametrize("depth", [1, 10])
def test_what_has_seen_a_batch_is_not_told(depth: int) -> None:
    for tested in (True, False):
        found = _run(depth, train=True, tested=tested).findings
        assert not [one for one in found if one.evidence.get("of") == "evaluation"]


def test_a_target_network_runs_without_a_graph_beside_what_is_trained() -> None:
    torch.manual_seed(0)
    online, target = (nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)) for _ in range(2))
    both = nn.ModuleDict({"online": online, "target": target})
    optimizer = torch.optim.SGD(online.parameters(), 0.05)
    with diag.watch(both) as watch:
        for _ in range(20):
            optimizer.zero_grad()
            x = torch.randn(16, 8)
            with torch.no_grad():
                wanted = target(x)
            F.mse_loss(online(x), wanted).backward()
            optimizer.step()
    assert watch.trace.coverage["norms_unused"] == []


def test_statistics_that_were_loaded_are_meant() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))
    model[1].running_mean.fill_(0.5)
    with diag.watch(model.eval()) as watch:
        F.cross_entropy(model(torch.randn(64, 8)), torch.arange(64) % 3).backward()
        watch.step()
    assert watch.trace.coverage["norms_unused"] == []
