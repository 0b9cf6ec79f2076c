"""Passes that are a policy's actions, told from training and from evaluation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import nn

import diag


def passes(between: Callable[[nn.Module], object], batch: int = 32, steps: int = 4) -> int:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with diag.watch(model) as watch:
        for _ in range(steps):
            between(model)
            optimizer.zero_grad()
            model.train()(torch.randn(batch, 3)).square().mean().backward()
            optimizer.step()
    return int(watch.trace.coverage["acting_passes"])


def without_graph(samples: int, count: int) -> Callable[[nn.Module], None]:
    @torch.no_grad()
    def act(model: nn.Module) -> None:
        for _ in range(count):
            model(torch.randn(samples, 3))

    return act


@pytest.mark.parametrize(("samples", "count", "found"), [(1, 5, 20), (8, 2, 8), (9, 5, 0), (32, 3, 0)])
def test_few_samples_between_steps_on_many_are_actions(samples: int, count: int, found: int) -> None:
    assert passes(without_graph(samples, count)) == found


@pytest.mark.parametrize("environment", [True, False])
def test_with_a_graph_they_may_be_a_part_of_the_loss(environment: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gymnasium", "gym"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    if environment:
        monkeypatch.setitem(sys.modules, "gymnasium", ModuleType("gymnasium"))
    assert passes(lambda model: [model(torch.randn(3)) for _ in range(3)]) == 12 * environment


def test_an_episode_is_a_step_s_only_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", ModuleType("gymnasium"))
    assert passes(lambda model: [model(torch.randn(32, 3)) for _ in range(9)]) == 40
    assert passes(lambda model: [model(torch.randn(32, 3)) for _ in range(3)]) == 0


def test_in_evaluation_mode_only_beside_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    act = without_graph(1, 5)
    monkeypatch.delitem(sys.modules, "gymnasium", raising=False)
    monkeypatch.delitem(sys.modules, "gym", raising=False)
    assert passes(lambda model: act(model.eval())) == 0
    monkeypatch.setitem(sys.modules, "gymnasium", ModuleType("gymnasium"))
    assert passes(lambda model: act(model.eval())) == 20


def test_steps_on_single_samples_are_no_actions() -> None:
    assert passes(without_graph(1, 2), batch=1) == 0
