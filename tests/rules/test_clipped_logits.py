"""Logits that go through a ReLU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag
from diag.rules.finding import Finding

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
Y = X[:, :4].argmax(1)


class Classifier(nn.Module):
    def __init__(self, last: str, bias: float) -> None:
        super().__init__()
        self.hidden, self.out, self.last = nn.Linear(8, 32), nn.Linear(32, 4), last
        nn.init.constant_(self.out.bias[:1], bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.out(F.relu(self.hidden(x)))
        h = F.relu(h) if self.last == "relu" else F.leaky_relu(h) if self.last == "leaky" else h
        return h[:, 0] if self.last == "hidden" else h


def told(last: str, bias: float, loss: str, steps: int = 20) -> list[Finding]:
    torch.manual_seed(0)
    model = Classifier(last, bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            if loss == "nll":
                value = F.nll_loss(F.log_softmax(model(X), 1), Y)
            elif loss == "binary":
                value = F.binary_cross_entropy_with_logits(model(X), F.one_hot(Y, 4).float())
            else:
                value = F.cross_entropy(model(X), Y)
            value.backward()
            optimizer.step()
    return [one for one in watch.diagnose().findings if one.evidence.get("of") == "clipped logits"]


@pytest.mark.parametrize(
    ("last", "bias", "loss", "severity", "dead"),
    [
        ("relu", -9.0, "cross-entropy", "error", 1),
        ("relu", 0.5, "cross-entropy", "warning", 0),
        ("relu", 0.5, "binary", "error", 0),
        ("none", -9.0, "cross-entropy", "", 0),
        ("leaky", -9.0, "cross-entropy", "", 0),
    ],
)
def test_logits_behind_a_relu(last: str, bias: float, loss: str, severity: str, dead: int) -> None:
    found = told(last, bias, loss)
    assert [(one.severity, one.evidence["dead"]) for one in found] == ([(severity, dead)] if severity else [])


def test_a_class_is_dead_where_it_is_zero_in_many_samples_and_steps() -> None:
    assert [one.severity for one in told("relu", -9.0, "cross-entropy", steps=4)] == ["warning"]
