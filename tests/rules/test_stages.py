"""Of training in stages, which steps are a model's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diag.probe.probe import Probe
from diag.rules.judge import judge
from diag.rules.stages import stage_of

torch.manual_seed(0)
CENTERS = 3 * torch.randn(10, 16)
Y = torch.arange(400) % 10
X = CENTERS[Y] + torch.randn(400, 16)


def table(*optimizers: int) -> pd.DataFrame:
    """Steps that these optimizers ended; -1 for none."""
    return pd.DataFrame({"step": range(len(optimizers)), "optimizer": list(optimizers)})


@pytest.mark.parametrize(
    ("optimizers", "trained", "own"),
    [
        ([0] * 50, [3], range(50)),
        ([0, 1] * 30, [0, 2], range(60)),
        ([0] * 40 + [1] * 20, [3], range(40)),
        ([0] * 40 + [1] * 20, [50], range(40, 60)),
        ([0] * 40 + [1] * 35 + [2] * 20, [50, 70], range(40, 75)),
        ([0] * 20 + [1] * 40, [3, 50], range(20, 60)),
        ([0] * 5 + [1] * 5 + [2] * 5, [0, 6, 12], range(15)),
        ([0] * 40 + [1] * 20, [], range(40)),
        ([0] * 40 + [1] * 20 + [0] * 5, [3], range(65)),
        ([0] * 40 + [-1] + [1] * 40, [45], range(41, 81)),
        ([-1] * 9, [2], range(9)),
    ],
)
def test_a_stage_is_its_model_s_own(optimizers: list[int], trained: list[int], own: range) -> None:
    assert list(stage_of(table(*optimizers), trained)["step"]) == list(own)


def fit(model: nn.Module, lr: float, steps: int, target: torch.Tensor, loss: nn.Module, clear: bool = True) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for step in range(steps):
        batch = torch.arange(step * 40, step * 40 + 40) % 400
        if clear:
            optimizer.zero_grad()
        loss(model(X[batch]), target[batch]).backward()
        optimizer.step()


@contextlib.contextmanager
def watched(*models: nn.Module) -> Iterator[Probe]:
    probe = Probe(models)
    probe.start()
    try:
        yield probe
    finally:
        probe.stop()


def errors(probe: Probe) -> list[tuple[str, str]]:
    found = judge(probe.trace(), {})
    return [(one.rule, str(one.evidence.get("of"))) for one in found if one.severity == "error"]


def network(out: int = 10) -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, out))


@pytest.mark.parametrize("lr", [1e-2, 1e-7])
def test_a_second_model_is_judged_by_its_own_loss(lr: float) -> None:
    first, second = network(16), network()
    with watched(first, second) as probe:
        fit(first, 1e-2, 60, X, nn.MSELoss())
        fit(second, lr, 40, Y, nn.CrossEntropyLoss())
    assert [rule for rule, _ in errors(probe)] == ([] if lr > 1e-3 else ["stalled-update"])


def test_a_first_model_that_does_not_learn_is_not_hidden_by_the_second() -> None:
    first, second = network(16), network()
    with watched(first, second) as probe:
        fit(first, 1e-7, 40, X, nn.MSELoss())
        fit(second, 1e-2, 90, Y, nn.CrossEntropyLoss())
    assert [rule for rule, _ in errors(probe)] == ["stalled-update"]


def test_only_the_second_optimizer_never_clears() -> None:
    first, second = network(16), network()
    with watched(first, second) as probe:
        fit(first, 1e-2, 30, X, nn.MSELoss())
        fit(second, 1e-2, 30, Y, nn.CrossEntropyLoss(), clear=False)
    assert ("oversized-update", "uncleared") in errors(probe)
    assert probe.trace().coverage["uncleared_steps"] == 29


def test_fine_tuning_of_what_was_trained_is_healthy() -> None:
    model = network()
    with watched(model) as probe:
        fit(model, 1e-2, 60, Y, nn.CrossEntropyLoss())
        fit(model, 1e-4, 40, Y, nn.CrossEntropyLoss())
    assert errors(probe) == []
    assert F.cross_entropy(model(X), Y) < 0.5
