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


@pytest.mark.parametrize(("dtype", "errors"), [(torch.float16, ["underflow"]), (torch.float32, [])], ids=str)
def test_a_loss_of_which_nothing_comes_back_at_all(dtype: torch.dtype, errors: list[str]) -> None:
    """Weights in float32 are stepped, and copied into a network in half precision that has no optimizer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5)).to(dtype)
    masters = [one.detach().float().requires_grad_() for one in model.parameters()]
    optimizer = torch.optim.Adam(masters, 1e-3)
    x = torch.randn(64, 20)
    y = x[:, :5].argmax(1)
    with diag.watch(model) as watch:
        for _ in range(6):
            model.zero_grad()
            (F.cross_entropy(model(x.to(dtype)), y) * 2e-7).backward()
            for master, own in zip(masters, model.parameters(), strict=True):
                master.grad = own.grad.float() / 2e-7  # type: ignore[union-attr]
            optimizer.step()
            with torch.no_grad():
                for master, own in zip(masters, model.parameters(), strict=True):
                    own.copy_(master)
    told = [one for one in watch.diagnose().findings if one.evidence.get("of") == "underflow"]
    assert [(one.severity, one.site) for one in told] == [("error", "4")] * len(errors)


def test_what_is_left_of_differences_in_float32_is_no_underflow() -> None:
    """A norm of a single feature puts out its bias, and what comes back through it is rounding, in units of 2^-24."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(1, 1, 64, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(10, 1))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    with diag.watch(model) as watch:
        for _ in range(40):
            x = torch.rand(32, 11).cumsum(1)
            optimizer.zero_grad()
            F.mse_loss(model(x[:, :10, None]), x[:, 10:]).backward()
            optimizer.step()
    assert not [one for one in watch.diagnose().findings if one.evidence.get("of") == "underflow"]
