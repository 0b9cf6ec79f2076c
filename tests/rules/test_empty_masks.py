"""Masks of which no element is ever called positive."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag


class Places(nn.Module):
    """One number for each place, from that place's."""

    def __init__(self, squash: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 1, 1))
        self.squash = squash

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out.sigmoid() if self.squash else out


def told(
    seen: float = 0.5,
    share: float = 0.01,
    weight: float = 1.0,
    steps: int = 130,
    squash: bool = False,
    soft: float = 1.0,
) -> list[diag.Finding]:
    """seen: by how many deviations a positive place stands out. soft: what a positive target is."""
    torch.manual_seed(0)
    model = Places(squash)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    with diag.watch(model) as watch:
        for _ in range(steps):
            wanted = (torch.rand(8, 1, 20, 20) < share).float() * soft
            x = torch.randn(8, 1, 20, 20) + seen * (wanted > 0)
            optimizer.zero_grad()
            if squash:
                loss = F.binary_cross_entropy(model(x), wanted)
            else:
                loss = F.binary_cross_entropy_with_logits(model(x), wanted, pos_weight=torch.tensor(weight))
            loss.backward()
            optimizer.step()
    return [one for one in watch.diagnose().findings if one.evidence.get("of") == "empty"]


@pytest.mark.parametrize("squash", [False, True])
def test_rare_places_that_hardly_stand_out(squash: bool) -> None:
    (found,) = told(squash=squash)
    assert found.severity == "error"
    assert found.evidence["share"] == pytest.approx(0.01, rel=0.2)
    assert found.evidence["largest"] < (0.5 if squash else 0)


@pytest.mark.parametrize(
    "how",
    [{"seen": 8.0}, {"weight": 100.0}, {"steps": 60}, {"share": 0.2}, {"share": 0.001}, {"soft": 0.8}],
    ids=str,
)
def test_masks_that_are_not_empty_or_may_well_be(how: dict[str, float]) -> None:
    """They stand out, or count more; training has just begun; they are common, too few to be told, or no classes."""
    assert told(**how) == []  # type: ignore[arg-type]
