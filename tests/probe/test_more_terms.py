"""Overlaps, smoothed labels, entropies and differences that are spread, read off the graphs of losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

import diag
from tests.probe.test_terms import STATES, terms

MASKS = (STATES[:, :2] > 0).float()


def dice(net: nn.Module) -> Tensor:
    predicted = net(STATES).sigmoid()
    return (2 * (predicted * MASKS).sum() + 1) / (predicted.sum() + MASKS.sum() + 1)


def by_sample(net: nn.Module) -> Tensor:
    predicted = net(STATES).sigmoid().flatten(1)
    both = (predicted * MASKS).sum(1)
    return (2.0 * both / (predicted.sum(1) + MASKS.sum(1)).clamp(min=1e-6)).mean()


def jaccard(net: nn.Module) -> Tensor:
    predicted = net(STATES).softmax(1)[:, 1]
    both = (predicted * MASKS[:, 0]).sum()
    return both / (predicted.sum() + MASKS[:, 0].sum() - both)


def of_squares(net: nn.Module) -> Tensor:
    predicted = net(STATES).sigmoid()
    return 2 * (predicted * MASKS).sum() / (predicted.pow(2).sum() + MASKS.pow(2).sum())


OVERLAPS = (dice, by_sample, jaccard, of_squares)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_an_overlap_that_is_made_small(overlap: Callable[[nn.Module], Tensor]) -> None:
    assert terms(lambda net: overlap(net).backward())["overlapping"] == 2
    assert terms(lambda net: (1 - overlap(net)).backward())["overlapping"] == 0
    assert terms(lambda net: (-overlap(net)).backward())["overlapping"] == 0


def negative_above(net: nn.Module) -> None:
    predicted = net(STATES).sigmoid()
    (-2 * (predicted * MASKS).sum() / (predicted.sum() + MASKS.sum())).backward()


def masked_mean(net: nn.Module) -> None:
    error = (net(STATES) - MASKS) ** 2
    ((error * MASKS).sum() / MASKS.sum()).backward()


def weighted_mean(net: nn.Module) -> None:
    attention = net(STATES).softmax(0)
    ((attention * STATES[:, :2].abs()).sum() / 12).backward()


@pytest.mark.parametrize("loss", [negative_above, masked_mean, weighted_mean])
def test_what_is_no_overlap_or_stands_as_it_should(loss: Callable[[nn.Module], None]) -> None:
    assert terms(loss)["overlapping"] == 0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_how_far_labels_are_smoothed(share: float) -> None:
    labels = torch.arange(12) % 2
    found = terms(lambda net: F.cross_entropy(net(STATES), labels, label_smoothing=share).backward())
    assert found["smoothing"] == pytest.approx(share)


def _policy(net: nn.Module, bonus: float) -> None:
    policy = Categorical(logits=net(STATES))
    actions = policy.sample()
    weights = actions - 0.5 + STATES[:, 0]
    (-(policy.log_prob(actions) * weights).mean() - bonus * policy.entropy().mean()).backward()


def _by_hand(net: nn.Module, bonus: float) -> None:
    logs = net(STATES).log_softmax(-1)
    actions = Categorical(logits=logs).sample()
    weights = actions - 0.5 + STATES[:, 0]
    entropy = -(logs.exp() * logs).sum(-1).mean()
    (-(logs.gather(1, actions[:, None])[:, 0] * weights).mean() - bonus * entropy).backward()


@pytest.mark.parametrize("loss", [_policy, _by_hand])
@pytest.mark.parametrize("bonus", [0.01, 3.0])
def test_how_undecided_a_policy_is(loss: Callable[[nn.Module, float], None], bonus: float) -> None:
    found = terms(lambda net: loss(net, bonus))["policy"]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    entropy = Categorical(logits=net(STATES)).entropy().mean() / torch.tensor(2.0).log()
    assert found["first"] == pytest.approx(entropy.item(), abs=1e-3)
    assert found["bonus"] == pytest.approx(bonus)
    assert found["passes"] == 2


def test_a_likelihood_is_no_policy() -> None:
    labels = torch.arange(12) % 2
    found = terms(lambda net: (-net(STATES).log_softmax(1).gather(1, labels[:, None]).mean()).backward())
    assert "policy" not in found


def absolute(net: nn.Module, targets: Tensor) -> None:
    (net(STATES) - targets).abs().mean().backward()


def tilted(net: nn.Module, targets: Tensor) -> None:
    error = targets - net(STATES)
    torch.maximum(0.7 * error, -0.3 * error).mean().backward()


@pytest.mark.parametrize("loss", [absolute, tilted])
def test_differences_that_are_spread(loss: Callable[[nn.Module, Tensor], None]) -> None:
    crossed: dict[str, Any] = terms(lambda net: loss(net, STATES[:, 0]), outputs=1)["crossed"]
    assert (crossed["given"], crossed["spread"]) == ([12, 1], [12, 12])
    assert "crossed" not in terms(lambda net: loss(net, STATES[:, :1]), outputs=1)


def _surrogate(net: nn.Module, old: Callable[[Tensor], Tensor]) -> None:
    logs = Categorical(logits=net(STATES)).log_prob(torch.arange(12) % 2)
    ratio = (logs - old(logs)).exp()
    adv = STATES[:, 0]
    (-torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv).mean()).backward()


@pytest.mark.parametrize(
    ("old", "count"),
    [(lambda logs: logs, 2), (lambda logs: logs.detach(), 0), (lambda logs: torch.full_like(logs, -0.7), 0)],
)
def test_a_ratio_of_a_policy_to_itself(old: Callable[[Tensor], Tensor], count: int) -> None:
    found = terms(lambda net: _surrogate(net, old))
    assert (found["of_itself"], found["surrogates"], found["reversed"]) == (count, 0, {})


def test_an_overlap_of_what_a_layer_puts_out() -> None:
    def raw(net: nn.Module) -> Tensor:
        predicted = net(STATES)
        return 1 - 2 * (predicted * MASKS).sum() / (predicted.sum() + MASKS.sum())

    found = terms(lambda net: raw(net).backward())
    assert (found["of_logits"], found["overlapping"]) == (2, 0)
    assert terms(lambda net: (1 - dice(net)).backward())["of_logits"] == 0


@pytest.mark.parametrize("ignored", [-100, 0])
def test_the_label_that_batches_end_with(ignored: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(6, 8, padding_idx=0), nn.Linear(8, 6))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model) as watch:
        for _ in range(12):
            ids = torch.randint(1, 6, (4, 10))
            ids[:, 3:] = 0
            optimizer.zero_grad()
            F.cross_entropy(model(ids).flatten(0, 1), ids.flatten(), ignore_index=ignored).backward()
            optimizer.step()
    assert watch.trace.coverage["padding"] == {"Sequential": [[0, 6]]}
    known = watch.trace.coverage["terms"].get("last")
    if ignored == 0:
        assert known is None
    else:
        assert (known["label"], known["share"]) == (0, pytest.approx(0.7))
        assert known["passes"] >= 5
