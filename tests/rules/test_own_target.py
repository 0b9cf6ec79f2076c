"""A network whose loss compares it with itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag

Loss = Callable[[Tensor, Tensor], Tensor]


def _spread(z: Tensor) -> Tensor:
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(a, b)).mean()


def _contrast(a: Tensor, b: Tensor) -> Tensor:
    return _cosine(a, b) + F.cosine_similarity(a, b.roll(1, 0)).relu().mean()


def _found(outputs: int, lr: float, loss: Callable[[nn.Module, Tensor], Tensor]) -> list[diag.Finding]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, outputs))
    optimizer = torch.optim.Adam(model.parameters(), lr)
    with diag.watch(model) as watch:
        for _ in range(120):
            optimizer.zero_grad()
            loss(model, torch.randn(64, 16)).backward()
            optimizer.step()
    return [one for one in watch.diagnose().findings if one.evidence.get("of") == "own target"]


@pytest.mark.parametrize(
    ("loss", "count"),
    [
        (F.mse_loss, 1),
        (lambda a, b: 25 * F.mse_loss(a, b), 1),
        (lambda a, b: F.mse_loss(a, b) + _spread(a) + _spread(b), 0),
        (_cosine, 1),
        (lambda a, b: -F.cosine_similarity(a, b).mean(), 1),
        (lambda a, b: F.cosine_embedding_loss(a, b, torch.ones(64)), 1),
        (_contrast, 0),
        (lambda a, b: F.triplet_margin_loss(a, b, b.roll(1, 0)), 0),
    ],
)
def test_views_that_are_only_drawn_together(loss: Loss, count: int) -> None:
    def views(model: nn.Module, x: Tensor) -> Tensor:
        return loss(model(x + 0.3 * torch.randn_like(x)), model(x + 0.3 * torch.randn_like(x)))

    found = _found(8, 1e-2, views)
    assert [(one.rule, one.severity, one.site) for one in found] == [("collapsed-signal", "error", "2")] * count


def test_a_critic_whose_two_means_drift_is_no_collapse() -> None:
    """It puts out one number, whose offset says nothing."""
    assert not _found(1, 3e-2, lambda model, x: (model(x) - model(x + 0.01) - 0.1 * model(x).clamp(max=50)).mean())


def test_targets_that_are_far_from_zero_are_no_collapse() -> None:
    """Their variance is small beside their square, and is not the network's own."""
    assert not _found(1, 3e-2, lambda model, x: F.mse_loss(model(x), 50 + 0.1 * x[:, :1]))


def test_pairs_that_are_only_drawn_together_by_hand() -> None:
    """Squares of differences, with a negative that is passed through the network and left out of the loss."""

    def pull(model: nn.Module, x: Tensor) -> Tensor:
        anchor, positive, negative = model(x), model(x + 0.3 * torch.randn_like(x)), model(torch.randn_like(x))
        near, _ = (anchor - positive).pow(2).sum(1), (anchor - negative).pow(2).sum(1)
        return near.relu().mean()

    assert [one.severity for one in _found(8, 1e-2, pull)] == ["error"]


def test_log_probabilities_that_are_made_small_are_told_by_their_sign() -> None:
    labels = torch.arange(64) % 8

    def turned(model: nn.Module, x: Tensor) -> Tensor:
        return model(x).log_softmax(1).gather(1, labels[:, None]).mean()

    assert _found(8, 1e-2, turned) == []
