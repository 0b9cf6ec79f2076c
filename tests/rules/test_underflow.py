"""Gradients that float16 has no numbers for."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag


@pytest.mark.parametrize(
    ("dtype", "scale", "errors"),
    [
        (torch.float16, 1e-5, ["underflow"]),
        (torch.float16, 1.0, []),
        (torch.float32, 1e-5, []),
        (torch.bfloat16, 1e-5, []),
    ],
    ids=str,
)
def test_a_scale_that_half_precision_does_not_bear(dtype: torch.dtype, scale: float, errors: list[str]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    x = torch.randn(64, 20)
    y = x[:, :5].argmax(1)
    with diag.watch(model) as watch:
        for _ in range(20):
            optimizer.zero_grad()
            (F.cross_entropy(model(x.to(dtype)).float(), y) * scale).backward()
            for parameter in model.parameters():
                parameter.grad /= scale  # type: ignore[operator]
            optimizer.step()
    roots = [one for one in watch.diagnose().findings if one.severity == "error"]
    told = [one for one in roots if one.evidence.get("of") == "underflow"]
    assert [one.evidence["of"] for one in told] == errors
    assert not told or roots == told
    assert all(0 < one.evidence["largest"] <= 64 * 2**-24 for one in told)
