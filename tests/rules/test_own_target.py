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
    ],
)
def test_views_that_are_only_drawn_together(loss: Loss, count: int) -> None:
    def views(model: nn.Module, x: Tensor) -> Tensor:
        return loss(model(x + 0.3 * torch.randn_like(x)), model(x + 0.3 * torch.randn_like(x)))

    found = _found(8, 1e-2, views)
    assert [(one.rule, one.severity, one.site) for one in found] == [("collapsed-signal", "error", "2")] * count


def test_targets_that_are_far_from_zero_are_no_collapse() -> None:
    """Their variance is small beside their square, and is not the network's own."""
    assert not _found(1, 3e-2, lambda model, x: F.mse_loss(model(x), 50 + 0.1 * x[:, :1]))
