"""Token ids that are the same for every sample."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag


class Tagger(nn.Module):
    """Places are embedded beside tokens, the same for every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places, self.out = nn.Embedding(20, 8, padding_idx=0), nn.Embedding(6, 8), nn.Linear(48, 3)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(6).expand(len(ids), 6)
        return self.out((self.tokens(ids) + self.places(places)).flatten(1))


@pytest.mark.parametrize(("ids", "errors"), [("padding", 1), ("one", 1), ("others", 0), ("one differs", 0)])
def test_ids(ids: str, errors: int) -> None:
    torch.manual_seed(0)
    given = {
        "padding": torch.zeros(16, 6, dtype=torch.long),
        "one": torch.full((16, 6), 7),
        "others": torch.randint(20, (16, 6)),
        "one differs": torch.full((16, 6), 7).index_fill(0, torch.tensor([3]), 5),
    }[ids]
    model = Tagger()
    workload = diag.Workload(
        model,
        [(given, torch.arange(16) % 3)],
        lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
        torch.optim.Adam(model.parameters(), 1e-2),
    )
    found = [one for one in diag.check(workload, steps=12).findings if one.evidence.get("of") == "input"]
    assert [(one.rule, one.severity) for one in found] == [("collapsed-signal", "error")] * errors
    assert all("for its ids" in one.message for one in found)
