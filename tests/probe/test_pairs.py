"""Pairs that a contrastive loss draws together or pushes apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diag

CENTERS = 3 * torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Both(nn.Module):
    """Two batches in one call."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(one), self.net(other)


def _pairs(same: Tensor) -> tuple[Tensor, Tensor]:
    kinds = torch.randint(5, same.shape)
    others = (kinds + torch.where(same, 0, torch.randint(1, 5, same.shape))) % 5
    return tuple(CENTERS[one] + torch.randn(len(one), 6) for one in (kinds, others))  # type: ignore[return-value]


def contrastive(a: Tensor, b: Tensor, same: Tensor) -> Tensor:
    d = F.pairwise_distance(a, b)
    return (same * d.square() + (1 - same) * (3 - d).relu().square()).mean()


def swapped(a: Tensor, b: Tensor, same: Tensor) -> Tensor:
    return contrastive(a, b, 1 - same)


def classified(a: Tensor, b: Tensor, same: Tensor) -> Tensor:
    """No loss of distances, though it has opposite aims for both."""
    return F.cross_entropy(a, same.long()) + F.cross_entropy(b, 1 - same.long())


def drawn_alone(a: Tensor, b: Tensor, same: Tensor) -> Tensor:
    return (a - b).square().mean()


def watched(loss: Callable[..., Tensor], *, at_once: bool, steps: int = 30) -> Any:
    torch.manual_seed(0)
    net: nn.Module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    net = Both(net) if at_once else net
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    with diag.watch(net) as watch:
        for _ in range(steps):
            same = torch.rand(32) < 0.5
            one, other = _pairs(same)
            a, b = net(one, other) if at_once else (net(one), net(other))
            optimizer.zero_grad()
            loss(a, b, same.float()).backward()
            optimizer.step()
    return watch


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("loss", "sign"), [(swapped, 1), (contrastive, -1), (classified, 0), (drawn_alone, 0)])
def test_whether_those_alike_are_drawn_together(loss: Callable[..., Tensor], sign: int, at_once: bool) -> None:
    watch = watched(loss, at_once=at_once)
    known = watch.trace.coverage["pairs"]
    if sign:
        assert sign * known["z"] > 8 and known["passes"] > 10
    else:
        assert known is None
    told = [one.severity for one in watch.diagnose().findings if one.evidence.get("of") == "pairs"]
    assert told == ["error"] * (sign > 0)


def test_the_score_is_standard_normal_where_labels_are_chance() -> None:
    """Labels drawn anew have nothing to do with the inputs: z of a training is within what chance allows."""
    watch = watched(lambda a, b, same: contrastive(a, b, (torch.rand(32) < 0.5).float()), at_once=True, steps=60)
    assert abs(watch.trace.coverage["pairs"]["z"]) < 4


def test_training_is_the_same() -> None:
    weights = []
    for watches in (True, False):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 4))
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        watch = diag.watch(net) if watches else None
        if watch is not None:
            watch.__enter__()
        for _ in range(5):
            same = torch.rand(32) < 0.5
            one, other = _pairs(same)
            optimizer.zero_grad()
            contrastive(net(one), net(other), same.float()).backward()
            optimizer.step()
        if watch is not None:
            watch.__exit__(None, None, None)
        weights.append(net[0].weight.detach())
    assert torch.equal(*weights)
