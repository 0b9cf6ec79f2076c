"""With which sign the scores of a critic stand in its own loss, and in that of what it judges."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diag.probe.probe import Probe

COUNTS = ("judged_up", "judged_down", "fooled_up", "fooled_down", "rewarded_down")


@contextlib.contextmanager
def watched(probe: Probe) -> Iterator[None]:
    probe.start()
    try:
        yield
    finally:
        probe.stop()


def _scores(told: dict[str, dict[str, int]]) -> dict[str, int]:
    [known] = told.values()
    return {name: known[name] for name in COUNTS if known[name]}


def wasserstein(
    critic_sign: float, maker_sign: float, *, copied: bool = False, graph: bool = True, steps: int = 12
) -> dict[str, Any]:
    torch.manual_seed(0)
    maker, critic = nn.Sequential(nn.Linear(2, 8)), nn.Sequential(nn.Linear(8, 1))
    optimizers = [torch.optim.SGD(one.parameters(), 1e-3) for one in (maker, critic)]
    probe = Probe([maker, critic], optimizers)
    with watched(probe):
        for _ in range(steps):
            with torch.set_grad_enabled(graph):
                data, made = torch.randn(16, 8), maker(torch.randn(16, 2)).detach()
            loss = critic(made + 0.1 * torch.randn(16, 8) if copied else made).mean() - critic(data).mean()
            optimizers[1].zero_grad()
            (critic_sign * loss).backward()
            optimizers[1].step()
            optimizers[0].zero_grad()
            (maker_sign * critic(maker(torch.randn(16, 2))).mean()).backward()
            optimizers[0].step()
    found: dict[str, Any] = probe.trace().coverage["opponents"]
    return found


@pytest.mark.parametrize(
    ("critic_sign", "maker_sign", "ways"),
    [
        (1, -1, ("judged_down", "fooled_up")),
        (-1, -1, ("judged_up", "fooled_up")),
        (1, 1, ("judged_down", "fooled_down")),
    ],
)
def test_the_signs_of_both_players(critic_sign: float, maker_sign: float, ways: tuple[str, str]) -> None:
    told = wasserstein(critic_sign, maker_sign)
    assert set(told) == {"Sequential#2"}
    scores = _scores(told)
    assert set(scores) == set(ways)
    assert min(scores.values()) >= 2, "steps of both, though they take turns"


def test_what_was_made_without_a_graph_is_known_too() -> None:
    assert set(_scores(wasserstein(-1, -1, graph=False))) == {"judged_up", "fooled_up"}


def test_what_was_changed_since_is_no_longer_known() -> None:
    assert set(_scores(wasserstein(1, -1, copied=True))) == {"fooled_up"}


def deterministic(sign: float, name: str) -> dict[str, Any]:
    torch.manual_seed(0)
    actor, critic = nn.Sequential(nn.Linear(3, 2), nn.Tanh()), nn.Sequential(nn.Linear(5, 1))
    optimizers = [torch.optim.SGD(one.parameters(), 1e-3) for one in (actor, critic)]

    def step(**given: torch.Tensor) -> None:
        states = torch.randn(16, 3)
        with torch.no_grad():
            actions = actor(states)
        optimizers[1].zero_grad()
        F.mse_loss(critic(torch.cat([states, actions], 1)), next(iter(given.values()))).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (sign * critic(torch.cat([states, actor(states)], 1)).mean()).backward()
        optimizers[0].step()

    def with_reward(reward: torch.Tensor) -> None:
        step(reward=reward)
        optimizers[0].zero_grad()
        states = torch.randn(16, 3)
        (sign * critic(torch.cat([states, actor(states)], 1)).mean() + 0 * reward.sum()).backward()
        optimizers[0].step()

    probe = Probe([actor, critic], optimizers)
    with watched(probe):
        for _ in range(10):
            (with_reward if name == "reward" else lambda cost: step(cost=cost))(torch.randn(16, 1))
    found: dict[str, Any] = probe.trace().coverage["opponents"]
    return found


@pytest.mark.parametrize(
    ("sign", "name", "ways"),
    [
        (-1, "reward", {"fooled_up"}),
        (1, "reward", {"fooled_down", "rewarded_down"}),
        (1, "cost", {"fooled_down"}),
    ],
)
def test_what_a_critic_says_of_an_actor(sign: float, name: str, ways: set[str]) -> None:
    assert set(_scores(deterministic(sign, name))) == ways


def test_a_single_network_has_no_opponent() -> None:
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    probe = Probe([net], [optimizer])
    with watched(probe):
        for _ in range(4):
            optimizer.zero_grad()
            net(torch.randn(16, 3)).mean().backward()
            optimizer.step()
    assert probe.trace().coverage["opponents"] == {}
