"""Activation checkpointing: what is run again in backward is neither counted twice nor lost."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import diag

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
BOTH = pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "hooks"])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.drop, self.b = nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + F.relu(self.b(self.drop(self.act(self.a(x)))))


class Net(nn.Module):
    """`call` runs a segment: plainly, or through a checkpoint. The stem is shared by all segments."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(6, 2)
        self.mode = "plain"
        self.reentrant = True

    def call(self, function: Any, x: torch.Tensor) -> torch.Tensor:
        return function(x) if self.mode == "plain" else checkpoint(function, x, use_reentrant=self.reentrant)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        if self.mode == "nested":
            x = self.call(lambda y: self.call(self.blocks[1], self.call(self.blocks[0], y)), x)
            x = self.call(lambda y: self.stem(self.blocks[2](self.stem(y))), x)
        else:
            x = self.call(lambda y: self.blocks[1](self.blocks[0](y)), x)
            x = self.call(lambda y: self.stem(self.blocks[2](self.stem(y))), x)
        return self.head(x)


def frame(model: nn.Module, run: Any, steps: int = 2) -> pd.DataFrame:
    torch.manual_seed(3)
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, optimizer) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            run(model).square().sum().backward()
            optimizer.step()
    assert watch.trace.coverage["training_passes"] == steps
    assert watch.trace.coverage["evaluation_passes"] == 0
    return watch.trace.frame


def assert_same(checkpointed: pd.DataFrame, plain: pd.DataFrame, ordered: bool = True) -> None:
    keys = ["step", "kind", "site", "call"]
    drop = [] if ordered else ["order"]
    left, right = (one.sort_values(keys).reset_index(drop=True).drop(columns=drop) for one in (checkpointed, plain))
    pd.testing.assert_frame_equal(left, right, rtol=1e-6)


@BOTH
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of the inner checkpoint, within the outer
@pytest.mark.parametrize("mode", ["segments", "nested"])
def test_segments_with_shared_and_nested_modules_give_the_same_trace(mode: str, reentrant: bool) -> None:
    model = Net()
    plain = frame(model, lambda m: m(X))
    model.mode, model.reentrant = mode, reentrant
    assert (plain["kind"] == "gradient").sum() > 30
    assert_same(frame(model, lambda m: m(X)), plain)


@BOTH
def test_a_whole_model_in_one_checkpoint(reentrant: bool) -> None:
    model = Net()
    x = X.clone().requires_grad_()
    plain = frame(model, lambda m: m(x))
    assert_same(frame(model, lambda m: checkpoint(m, x, use_reentrant=reentrant)), plain)


@BOTH
def test_checkpoint_sequential(reentrant: bool) -> None:
    model = nn.Sequential(*(Block() for _ in range(4)))
    x = X.clone().requires_grad_()
    plain = frame(model, lambda m: m(x))

    class Checkpointed(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint_sequential(list(self), 2, x, use_reentrant=reentrant)

    model.__class__ = Checkpointed
    result = frame(model, lambda m: m(x))
    result["site"] = result["site"].str.replace("Checkpointed", "Sequential")
    assert_same(result, plain)


@BOTH
def test_accumulation_over_checkpointed_micro_batches(reentrant: bool) -> None:
    model = Net()

    def accumulated(m: nn.Module) -> torch.Tensor:
        m(X[:3]).square().sum().backward()
        return m(X[3:])

    torch.manual_seed(0)

    def run() -> pd.DataFrame:
        torch.manual_seed(3)
        one = copy.deepcopy(model)
        with diag.watch(one) as watch:
            accumulated(one).square().sum().backward()
            watch.step()
        return watch.trace.frame

    plain = run()
    model.mode, model.reentrant = "segments", reentrant
    assert_same(run(), plain)
    rows = plain[(plain["site"] == "blocks.0.a") & plain["kind"].isin(["activation", "gradient"])]
    assert np.array_equal(rows["count"], [48, 48])
