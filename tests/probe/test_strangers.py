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


class Anew(nn.Module):
    """Makes its head in each pass: at random, as a norm, held by an optimizer, or without a gradient."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.stem, self.way, self.last = nn.Linear(4, 5), way, nn.Identity()
        self.kept = [nn.Linear(5, 3)]

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        if self.way == "norm":
            return nn.LayerNorm([5])(h)[:, :3]
        if self.way == "kept":
            return self.kept[0](h)
        head = nn.Linear(5, 3)
        if self.way == "frozen":
            head.requires_grad_(False)
        return head(h)


def trained(model: nn.Module, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()


@pytest.mark.parametrize(("way", "told"), [("new", 12), ("norm", 0), ("kept", 0), ("frozen", 0)])
def test_layers_that_each_pass_makes_anew(way: str, told: int) -> None:
    torch.manual_seed(0)
    model = Anew(way)
    with diag.watch(model) as watch:
        trained(model, 12)
    counts = watch.trace.coverage["made_anew"]
    assert counts == ({"Anew": {"Linear(3x5)": told}} if told else {})
    found = [one for one in watch.diagnose().findings if "use it and drop it" in one.message]
    assert [(one.severity, one.evidence["count"]) for one in found] == ([("error", told)] if told else [])
