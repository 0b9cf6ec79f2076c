"""Outputs that are driven to the ends of their activation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag


@pytest.mark.parametrize(
    ("last", "factor", "low", "high", "found"),
    [
        (nn.Tanh(), 300.0, -0.6, 0.6, True),
        (nn.Tanh(), 1.0, -0.6, 0.6, False),
        (nn.Tanh(), 300.0, -1.0, 1.0, False),  # where targets are
        (nn.Sigmoid(), 300.0, 0.2, 0.8, True),
        (nn.Sigmoid(), 300.0, 0.0, 1.0, False),
        (nn.Identity(), 300.0, -0.6, 0.6, False),
    ],
    ids=str,
)
def test_targets_where_the_output_has_a_slope(
    last: nn.Module, factor: float, low: float, high: float, found: bool
) -> None:
    torch.manual_seed(0)
    head = nn.Linear(16, 2)
    with torch.no_grad():
        head.weight.mul_(factor)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), head, last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(64, 4)
    y = low + (high - low) * torch.rand(64, 2).round(decimals=1)
    with diag.watch(model) as watch:
        for _ in range(10):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
    told = [one for one in watch.diagnose().findings if one.evidence.get("of") == "driven out"]
    assert [(one.severity, one.site) for one in told] == [("error", "3")] * found
    assert all(one.evidence["saturated_fraction"] >= 0.9 for one in told)
