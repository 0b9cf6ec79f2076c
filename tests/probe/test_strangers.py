"""Modules in a plain list: what runs within a model and is none of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag

X, Y = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3


class Model(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        blocks = [nn.Sequential(nn.Linear(5, 5), nn.ReLU()) for _ in range(2)]
        if way == "frozen":
            for block in blocks:
                block.requires_grad_(False)
        self.blocks = nn.ModuleList(blocks) if way == "registered" else blocks
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            if self.way == "no_grad":
                with torch.no_grad():
                    h = h + block(h)
            else:
                h = block(h)
        return self.head(h)


@pytest.mark.parametrize("way", ["list", "registered", "frozen", "no_grad", "held"])
def test_modules_that_no_optimizer_holds(way: str) -> None:
    torch.manual_seed(0)
    model = Model(way)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    others = [one for block in model.blocks for one in block.parameters() if one.requires_grad]
    extra = torch.optim.SGD(others, lr=0.1) if way == "held" else None
    with diag.watch(model, optimizer) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()
            if extra is not None:
                extra.step()
    left = watch.trace.coverage["unregistered"]
    assert left == ({"Model": ["Linear(5x5)", "Linear(5x5)"]} if way == "list" else {})
    found = [one for one in watch.diagnose().findings if "are not registered" in one.message]
    assert [one.severity for one in found] == (["error"] if way == "list" else [])
