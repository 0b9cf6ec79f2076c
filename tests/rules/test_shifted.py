"""Tests whose inputs are not scaled, or centered, as those of the training are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diag
from diag.rules.finding import Finding

GENERATOR = torch.Generator().manual_seed(3)
CENTERS = torch.randn(5, 12, generator=GENERATOR)
Y = torch.arange(400) % 5
X = CENTERS[Y] + 0.5 * torch.randn(400, 12, generator=GENERATOR)
X = (X - X.mean(0)) / X.std(0)
TRAIN, TEST = slice(0, 200), slice(200, 400)
SIGNS = torch.tensor([1.0, -1.0]).repeat(6)


Change = Callable[[Tensor], Tensor]


def told(change: Change, numbers: bool = False, epochs: int = 20, mode: bool = True) -> list[Finding]:
    """What tests show, of inputs changed so, whose labels or numbers training learns."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1 if numbers else 5))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    wanted = X[:, :1] * X[:, 1:2] + X[:, 2:3]

    def loss(rows: Tensor) -> Tensor:
        return F.mse_loss(net(X[rows]), wanted[rows]) if numbers else F.cross_entropy(net(X[rows]), Y[rows])

    with diag.watch(net) as watch:
        for _ in range(epochs):
            net.train()
            for rows in torch.randperm(200).split(50):
                optimizer.zero_grad()
                loss(rows).backward()
                optimizer.step()
            net.train(not mode)
            with torch.no_grad():
                out, right = net(change(X[TEST])), Y[TEST]
                if numbers:
                    F.mse_loss(out, wanted[TEST])
                else:
                    (out.argmax(1) == right).float().mean()
    return [one for one in watch.diagnose().findings if one.evidence.get("of") == "tested input"]


@pytest.mark.parametrize("mode", [True, False], ids=["eval()", "train()"])
def test_inputs_that_are_not_centered(mode: bool) -> None:
    (found,) = told(lambda x: x + 3, mode=mode)
    assert found.severity == "error"
    assert found.evidence["mean"] == pytest.approx(3 + float(X[TEST].mean()), rel=1e-4)
    assert found.evidence["shift"] == pytest.approx(3, rel=0.1)


def test_features_that_are_shifted_apart_have_the_same_mean() -> None:
    (found,) = told(lambda x: x + 3 * SIGNS)
    assert abs(found.evidence["mean"]) < 0.1
    assert found.evidence["shift"] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("numbers", [True, False], ids=["numbers", "classes"])
def test_inputs_that_are_not_scaled(numbers: bool) -> None:
    (found,) = told(lambda x: 5 * x + 4, numbers)
    assert found.severity == "error"


@pytest.mark.parametrize("change", [lambda x: x, lambda x: 0.7 * x + 0.2], ids=["same", "near"])
def test_inputs_that_are_nearly_those_of_training(change: Change) -> None:
    assert told(change) == []


def test_a_training_that_has_learned_nothing_yet_is_no_measure() -> None:
    assert told(lambda x: x + 0.5, epochs=1) == []
