"""Losses of pairs whose targets are 1 and -1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import diag


def _found(loss: nn.Module, low: float, share: float = 0.5) -> list[diag.Finding]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with diag.watch(model) as watch:
        for _ in range(10):
            a, b = model(torch.randn(32, 6)), model(torch.randn(32, 6))
            sign = torch.where(torch.rand(32) < share, 1.0, low)
            given: tuple[Tensor, ...] = (a, b, sign)
            if isinstance(loss, nn.MarginRankingLoss):
                given = (a[:, 0], b[:, 0], sign)
            elif isinstance(loss, (nn.SoftMarginLoss, nn.HingeEmbeddingLoss)):
                given = ((a - b).norm(dim=1), sign)
            optimizer.zero_grad()
            loss(*given).backward()
            optimizer.step()
    return [one for one in watch.diagnose().findings if one.evidence.get("of") == "signs"]


LOSSES = (nn.CosineEmbeddingLoss, nn.MarginRankingLoss, nn.SoftMarginLoss, nn.HingeEmbeddingLoss)


@pytest.mark.parametrize("loss", LOSSES)
def test_zeros_where_there_should_be_minus_one(loss: type[nn.Module]) -> None:
    [found] = _found(loss(), 0.0)
    assert (found.rule, found.severity) == ("loss-not-decreasing", "error")
    assert found.evidence["zero_fraction"] == pytest.approx(0.5, abs=0.15)
    assert "2 * target - 1" in found.remedy


@pytest.mark.parametrize("loss", LOSSES)
def test_signs_and_pairs_that_are_all_alike(loss: type[nn.Module]) -> None:
    assert not _found(loss(), -1.0) + _found(loss(), 0.0, share=1.1)
