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


def labelled(label: float, *, apart: bool, soft: float = 0.0, steps: int = 12) -> dict[str, Any]:
    """A binary cross-entropy, with passes of their own for data and for what is made, or one for both.

    label: of what is made, for what makes it.
    """
    torch.manual_seed(0)
    maker, critic = nn.Sequential(nn.Linear(2, 8)), nn.Sequential(nn.Linear(8, 1), nn.Sigmoid())
    optimizers = [torch.optim.SGD(one.parameters(), 1e-3) for one in (maker, critic)]
    probe, ones = Probe([maker, critic], optimizers), torch.ones(16, 1)
    with watched(probe):
        for _ in range(steps):
            data, made = torch.randn(16, 8), maker(torch.randn(16, 2))
            optimizers[1].zero_grad()
            terms = [
                F.binary_cross_entropy(critic(data), ones - soft),
                F.binary_cross_entropy(critic(made.detach()), 0 * ones),
            ]
            for loss in terms if apart else [terms[0] + terms[1]]:
                loss.backward()
            optimizers[1].step()
            optimizers[0].zero_grad()
            F.binary_cross_entropy(critic(made), label * ones).backward()
            optimizers[0].step()
    found: dict[str, Any] = probe.trace().coverage["opponents"]
    return found


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(("label", "soft", "way"), [(1.0, 0.0, "up"), (0.0, 0.0, "down"), (1.0, 0.1, "up")])
def test_labels_of_a_binary_cross_entropy_are_ways_too(label: float, soft: float, way: str, apart: bool) -> None:
    scores = _scores(labelled(label, apart=apart, soft=soft))
    assert set(scores) == {"judged_down", f"fooled_{way}"}
    assert min(scores.values()) >= 2


def test_a_loss_that_a_network_puts_out_itself_is_no_score() -> None:
    """As that of a codebook, beside a variable that might be a reward."""

    class Codes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(4, 8))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            near = self.table[torch.cdist(x, self.table).argmin(1)]
            return x + (near - x).detach(), F.mse_loss(near, x.detach()) + F.mse_loss(x, near.detach())

    torch.manual_seed(0)
    nets = nn.Linear(2, 8), Codes(), nn.Linear(8, 2)
    optimizer = torch.optim.SGD([one for net in nets for one in net.parameters()], 1e-2)
    probe = Probe(list(nets), [optimizer])
    with watched(probe):
        for _ in range(8):
            x = torch.randn(16, 2)
            q, r = nets[1](nets[0](x))
            optimizer.zero_grad()
            (F.mse_loss(nets[2](q), x) + r).backward()
            optimizer.step()
    assert not probe.trace().coverage["opponents"]


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
