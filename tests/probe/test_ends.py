"""Targets where episodes end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diag
from diag.probe.ends import Ends

GAMMA, STEPS, N = 0.9, 40, 32


def _next(net: nn.Module, states: Tensor) -> Tensor:
    with torch.no_grad():
        best: Tensor = net(states).max(1).values
    return best


def masked(net: nn.Module, optimizer: Any, batch: Callable[[], tuple[Any, ...]]) -> None:
    s, a, r, s2, d = batch()
    loss = F.mse_loss(net(s).gather(1, a).squeeze(1), r + GAMMA * _next(net, s2) * (1 - d))
    loss.backward()


def unmasked(net: nn.Module, optimizer: Any, batch: Callable[[], tuple[Any, ...]]) -> None:
    s, a, r, s2, d = batch()  # noqa: RUF059
    loss = F.smooth_l1_loss(net(s).gather(1, a).squeeze(1), r + GAMMA * _next(net, s2))
    loss.backward()


def clipped(net: nn.Module, optimizer: Any, batch: Callable[[], tuple[Any, ...]]) -> None:
    s, a, rewards, s2, dones = batch()
    target = rewards.clamp(-0.5, 0.5) + GAMMA * _next(net, s2) * (1 - dones)
    F.huber_loss(net(s).gather(1, a).squeeze(1), target).backward()


def as_lists(net: nn.Module, optimizer: Any, batch: Callable[[], tuple[Any, ...]]) -> None:
    s, a, reward_batch, s2, terminated = batch()
    reward_batch, terminated = tuple(reward_batch.tolist()), [bool(one) for one in terminated]
    target = torch.tensor(reward_batch) + GAMMA * _next(net, s2)
    F.mse_loss(net(s).gather(1, a).squeeze(1), target).backward()


def standardized(net: nn.Module, optimizer: Any, batch: Callable[[], tuple[Any, ...]]) -> None:
    s, a, r, s2, done = batch()  # noqa: RUF059
    returns = r + GAMMA * _next(net, s2)
    F.mse_loss(net(s).gather(1, a).squeeze(1), (returns - returns.mean()) / returns.std()).backward()


def masked_by_what_goes_on(net: nn.Module, optimizer: Any, batch: Callable[[], tuple[Any, ...]]) -> None:
    s, a, r, s2, done_mask = batch()
    done_mask = 1 - done_mask  # as minimal implementations name it
    F.mse_loss(net(s).gather(1, a).squeeze(1), r + GAMMA * _next(net, s2) * done_mask).backward()


def marked_otherwise(net: nn.Module, optimizer: Any, batch: Callable[[], tuple[Any, ...]]) -> None:
    s, a, r, s2, not_done = batch()  # noqa: RUF059
    F.mse_loss(net(s).gather(1, a).squeeze(1), r + GAMMA * _next(net, s2)).backward()


def _watched(learn: Callable[..., None], ended: float = 0.2) -> Any:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)

    def batch() -> tuple[Any, ...]:
        done = (torch.rand(N) < ended).float()
        return torch.randn(N, 4), torch.randint(2, (N, 1)), torch.where(done > 0, 1.0, 0.0), torch.randn(N, 4), done

    with diag.watch(net) as watching:
        for _ in range(STEPS):
            optimizer.zero_grad()
            learn(net, optimizer, batch)
            optimizer.step()
    return watching


@pytest.mark.parametrize(
    ("learn", "ended", "found"),
    [
        (unmasked, 0.2, True),
        (as_lists, 0.2, True),
        (masked, 0.2, False),
        (clipped, 0.2, False),
        (masked_by_what_goes_on, 0.2, False),
        (standardized, 0.2, False),
        (marked_otherwise, 0.2, False),
        (unmasked, 0.01, False),  # as of time limits, beyond which episodes go on
    ],
)
def test_a_value_that_goes_on_beyond_the_end(learn: Callable[..., None], ended: float, found: bool) -> None:
    findings = [one for one in _watched(learn, ended).diagnose().findings if one.evidence.get("of") == "ends"]
    assert [one.severity for one in findings] == (["error"] if found else [])


def test_what_is_told() -> None:
    """Every other step is looked at."""
    known = _watched(masked).trace.coverage["terms"]["ends"]
    assert (known["passes"], known["samples"], known["done"], known["reward"]) == (STEPS // 2, STEPS // 2 * N, "d", "r")
    assert known["ended"] == known["told"] > 0 and known["kept"] == 1
    known = _watched(unmasked).trace.coverage["terms"]["ends"]
    assert known["kept"] < 0.1
    assert "ends" not in _watched(marked_otherwise).trace.coverage["terms"]


def test_rewards_of_which_each_is_another_one_take_no_more_room() -> None:
    ends = Ends()
    for number in range(10_000):
        ends._count(0, number / 7, 1.0)
    ends._count(1, 0.0, 1.0)
    assert sum(len(one) for one in ends._targets[0].values()) < 1000
    known = ends.to_dict()
    assert known is not None and known["samples"] == 10_001
