"""Biases that make up what a layer puts out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diag

GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(256, 20, generator=GENERATOR)
Y = (X @ torch.randn(20, 4, generator=GENERATOR)).argmax(1)
Loss = Callable[[Tensor], Tensor]


def told(
    place: int, bias: float | Tensor, activation: nn.Module, loss: Loss, outputs: int = 4, steps: int = 30
) -> list[str]:
    """Where a bias is told of."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 64), activation, nn.Linear(64, outputs))
    net[place].bias.data.copy_(torch.as_tensor(bias).expand_as(net[place].bias))  # type: ignore[union-attr]
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    with diag.watch(net, optimizer) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(net(X)).backward()
            optimizer.step()
    return [
        one.site for one in watch.diagnose().findings if one.evidence.get("of") == "bias" and one.severity == "error"
    ]


def classes(out: Tensor) -> Tensor:
    return F.cross_entropy(out, Y)


def rare(out: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(out[:, 0], (Y == 1).float())


def squared(out: Tensor) -> Tensor:
    return F.mse_loss(out, 40 + F.one_hot(Y, 4).float())


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Tanh()])
def test_a_bias_before_what_it_saturates(activation: nn.Module) -> None:
    assert told(0, 15.0, activation, classes) == ["0"]
    assert told(0, -15.0, activation, classes) == ["0"]
    assert told(0, 1.0, activation, classes) == []


def test_a_bias_of_logits() -> None:
    assert told(2, -200.0, nn.ReLU(), rare, outputs=1) == ["2"]
    assert told(2, torch.tensor([60.0, 0.0, -60.0, 0.0]), nn.ReLU(), classes) == ["2"]


def test_biases_that_are_meant() -> None:
    assert told(2, -4.6, nn.ReLU(), rare, outputs=1) == []  # what is expected: 1 %
    assert told(2, -11.0, nn.ReLU(), classes) == []  # to a softmax a shift of all is none
    assert told(2, 40.0, nn.ReLU(), squared) == []  # the targets' mean
    assert told(0, 15.0, nn.ReLU(), classes) == []  # dead or linear units are told of elsewhere
