"""Weight decay that outweighs the loss, known from the optimizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag


def _found(optimizer: str, decay: float, lr: float, *, steps: int = 60) -> list[diag.Finding]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    trainer = getattr(torch.optim, optimizer)(model.parameters(), lr=lr, weight_decay=decay)
    with diag.watch(model) as watch:
        for _ in range(steps):
            x = torch.randn(64, 10)
            trainer.zero_grad()
            F.mse_loss(model(x), 1.5 * x[:, :1] * x[:, 1:2] + x[:, 2:3]).backward()
            trainer.step()
    every = [two for one in watch.diagnose().findings for two in (one, *one.consequences)]
    return [one for one in every if one.evidence.get("of") in ("decay", "shrink")]


@pytest.mark.parametrize(
    ("optimizer", "decay", "lr"), [("Adam", 0.5, 2e-3), ("SGD", 0.5, 0.02), ("AdamW", 100.0, 2e-3)]
)
def test_a_decay_that_outweighs_the_loss_is_an_error(optimizer: str, decay: float, lr: float) -> None:
    (finding,) = _found(optimizer, decay, lr)
    assert (finding.rule, finding.severity) == ("oversized-update", "error")
    if finding.evidence["of"] == "decay":
        assert finding.evidence["weight_decay"] == decay
        assert finding.evidence["ratio"] >= 1


@pytest.mark.parametrize(
    ("optimizer", "decay", "lr"),
    [("Adam", 1e-4, 2e-3), ("SGD", 5e-4, 0.05), ("AdamW", 0.1, 2e-3), ("AdamW", 0.0, 2e-3)],
)
def test_usual_decays_are_none(optimizer: str, decay: float, lr: float) -> None:
    assert not _found(optimizer, decay, lr)


@pytest.mark.parametrize(("trained", "count"), [(False, 1), (True, 0)])
def test_a_backbone_frozen_at_random_is_an_error(trained: bool, count: int) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    if trained:
        nn.init.kaiming_normal_(body[0].weight)
        nn.init.kaiming_normal_(body[2].weight)
    model = nn.Sequential(body.requires_grad_(False), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model[1].parameters(), 0.01)
    x = torch.randn(64, 10)
    with diag.watch(model) as watch:
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(model(x), x.abs().argmax(1)).backward()
            optimizer.step()
    findings = [one for one in watch.diagnose().findings if one.evidence.get("of") == "frozen"]
    assert len(findings) == count
    if count:
        assert (findings[0].rule, findings[0].severity) == ("stalled-update", "error")
        assert findings[0].evidence["modules"] == ["0.0", "0.2"]


@pytest.mark.parametrize(("decay", "gone"), [(0.1, True), (1e-5, False)])
def test_a_decay_that_brings_weights_to_nothing_is_one_however_the_loss_falls(decay: float, gone: bool) -> None:
    """Biases alone learn the mean, which is most of the loss."""
    torch.manual_seed(0)
    left, right = nn.Embedding(40, 8), nn.Embedding(30, 8)
    for table in (left, right):
        nn.init.normal_(table.weight, std=0.1)

    class Factors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.mean = left, right, nn.Parameter(torch.zeros(()))

        def forward(self, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
            return self.mean + (self.left(i) * self.right(j)).sum(-1)

    model = Factors()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=decay)
    truth = torch.randn(40, 30) * 0.3 + 3
    with diag.watch(model) as watch:
        for _ in range(400):
            i, j = torch.randint(40, (64,)), torch.randint(30, (64,))
            optimizer.zero_grad()
            F.mse_loss(model(i, j), truth[i, j]).backward()
            optimizer.step()
    roots = [one for one in watch.diagnose().findings if one.severity == "error"]
    assert ["shrink"] * gone == [one.evidence.get("of") for one in roots if one.evidence.get("of") == "shrink"]


@pytest.mark.parametrize(("decay", "told"), [(1e-5, "it is the loss that makes them small"), (20.0, "")])
def test_weights_that_the_loss_makes_small(decay: float, told: str) -> None:
    """A variance that is to be kept is diminished: outputs shrink to nothing, and the decay has no part in it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3 if told else 0.02, weight_decay=decay)
    with diag.watch(model) as watch:
        for _ in range(150):
            x = torch.randn(64, 10)
            optimizer.zero_grad()
            one, other = model(x + 0.1 * torch.randn_like(x)), model(x)
            (1 + F.mse_loss(one, other) + one.var(0).mean() + 2 * one.square().mean()).backward()
            optimizer.step()
    every = [two for one in watch.diagnose().findings for two in (one, *one.consequences)]
    shrunk = [one for one in every if one.evidence.get("of") == "shrink"]
    assert shrunk
    assert all((told in one.message) if told else ("decay pulls only" not in one.message) for one in shrunk)
