"""A momentum that adds up hundreds of gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import diag
from diag.rules.causes import join
from diag.rules.finding import Finding

GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(256, 20, generator=GENERATOR)
Y = (X @ torch.randn(20, 4, generator=GENERATOR)).argmax(1)


def told(momentum: float, lr: float = 0.05, steps: int = 80, dampening: float = 0.0) -> list[tuple[str, str]]:
    """Severity and site of what is said of the momentum."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr, momentum=momentum, dampening=dampening)
    with diag.watch(net, optimizer) as watch:
        for step in range(steps):
            rows = torch.arange(32) + 32 * (step % 8)
            optimizer.zero_grad()
            F.cross_entropy(net(X[rows]), Y[rows]).backward()
            optimizer.step()
    found = [one for one in watch.diagnose().findings if one.evidence.get("of") == "summed"]
    assert all(one.evidence["momentum"] == pytest.approx(momentum) for one in found)
    return [(one.severity, one.site) for one in found]


def test_a_momentum_that_runs_away_is_an_error() -> None:
    assert told(0.999, 0.3) == [("error", "optimizer")]
    assert told(1.0, 0.3) == [("error", "optimizer")]


def test_one_that_does_no_harm_yet_is_a_warning() -> None:
    assert told(0.996, 1e-3) == [("warning", "optimizer")]


@pytest.mark.parametrize(("momentum", "dampening"), [(0.0, 0.0), (0.9, 0.0), (0.99, 0.0), (0.999, 0.999)])
def test_usual_ones_and_means_are_not(momentum: float, dampening: float) -> None:
    assert told(momentum, dampening=dampening) == []


@pytest.mark.parametrize(
    ("betas", "optimizer", "severity"),
    [
        ((0.9, 0.1), torch.optim.AdamW, "error"),
        ((0.999, 0.9), torch.optim.Adam, "error"),
        ((0.9, 0.999), torch.optim.Adam, None),
        ((0.9, 0.9), torch.optim.Adam, None),
        ((0.95, 0.9), torch.optim.NAdam, None),  # as a schedule of one cycle may raise it
        ((0.5, 0.9), torch.optim.Adam, None),
    ],
)
def test_betas_that_do_not_go_together(betas: tuple[float, float], optimizer: type, severity: str | None) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
    adam = optimizer(net.parameters(), 1e-3, betas=betas)
    with diag.watch(net, adam) as watch:
        for _ in range(20):
            adam.zero_grad()
            F.cross_entropy(net(X), Y).backward()
            adam.step()
    found = [one for one in watch.diagnose().findings if one.evidence.get("of") == "betas"]
    assert [(one.severity, one.evidence["betas"]) for one in found] == ([(severity, list(betas))] if severity else [])


def test_a_momentum_is_an_error_where_something_breaks() -> None:
    summed = Finding("oversized-update", "warning", "optimizer", "", {"step": 0, "of": "summed"})
    dead = Finding("dead-units", "error", "1", "", {"step": 5})
    [root] = join([dead, summed])
    assert (root.evidence["of"], root.severity, [one.rule for one in root.consequences]) == (
        "summed", "error", ["dead-units"],
    )  # fmt: skip
    assert [one.severity for one in join([summed])] == ["warning"]
