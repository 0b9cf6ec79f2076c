"""Where normalizations are put: in chains, in module trees, and nowhere else."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.prescribe.cases import blobs, mlp, proposals, sgd
from tests.prescribe.sick import Recurrent
from tests.prescribe.test_remedies import pasted


class Tree(nn.Module):
    """Convolutions in a list and in a block, with nonlinearities that are functions and modules; a squashed output."""

    def __init__(self, gain: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(nn.Conv2d(one, 8, 3, padding=1) for one in (1, 8, 8))
        self.up = nn.ConvTranspose2d(8, 6, 3, padding=1)
        self.norm, self.act, self.head = nn.Identity(), nn.ReLU(), nn.Linear(216, 4)
        for layer in [*self.convs, self.up]:
            nn.init.normal_(layer.weight, std=gain)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        x = self.act(self.norm(self.up(x)))
        return torch.tanh(self.head(x.flatten(1))) * 3


def tree(gain: float = 0.05) -> Workload:
    return sgd(Tree(gain), 0.01, blobs(size=16, shape=(1, 6, 6)))


@pytest.mark.parametrize("name", ["batch normalization", "layer normalization"])
def test_layers_of_a_tree_are_wrapped_before_what_they_go_straight_into(name: str) -> None:
    found, remedies, _ = proposals(tree())
    remedy = remedies[name]
    trial = found.bench.try_(remedy)
    assert trial.helped and trial.effect is not None, (trial.effect, trial.why)
    assert trial.effect.remedy < 0.8 * trial.effect.control
    mine = tree()
    names = {id(one) for one in mine.model.parameters()}
    changed = pasted(remedy, mine)
    kind: Any = nn.BatchNorm2d if name.startswith("batch") else nn.GroupNorm
    wrapped = {path: one for path, one in changed.model.named_modules() if isinstance(one, nn.Sequential)}
    assert list(wrapped) == ["convs.0", "convs.1", "convs.2", "up"]  # not the head: what follows it is the output
    assert all(isinstance(one[1], kind) for one in wrapped.values())
    assert wrapped["up"][1].weight.shape == (6,)  # type: ignore[union-attr]
    assert changed.optimizer is not None
    held = {id(one) for group in changed.optimizer.param_groups for one in group["params"]}
    assert len(held - names) == 8 and held == {id(one) for one in changed.model.parameters()}


def test_a_layer_whose_weight_is_used_otherwise() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.inner, self.head = nn.Linear(16, 16), nn.Linear(16, 4)
            nn.init.normal_(self.inner.weight, std=1e-4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.linear(F.relu(self.inner(x)), self.inner.weight.T))

    found, remedies, _ = proposals(sgd(Tied()))
    trial = found.bench.try_(remedies["batch normalization"])
    assert trial.verdict == "could not be tried"
    assert trial.why == "AttributeError: 'Sequential' object has no attribute 'weight'"


def test_a_layer_that_a_chain_has_twice_gets_one_for_each_place() -> None:
    layer = nn.Linear(32, 32)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(32, 4))
    nn.init.normal_(layer.weight, std=1e-3)
    _, remedies, _ = proposals(sgd(model))
    changed = pasted(remedies["batch normalization"], sgd(model)).model
    pairs = [one for one in changed.children() if isinstance(one, nn.Sequential)]
    assert [isinstance(one[1], nn.BatchNorm1d) for one in pairs] == [True] * 3
    assert all(one[1] is not other[1] for one, other in pairwise(pairs)) and pairs[1][0] is pairs[2][0] is layer


def test_where_there_is_no_place_it_is_told() -> None:
    _, remedies, advice = proposals(sgd(Recurrent(0.05), 0.3))
    assert not any("normalization" in name for name in remedies)
    assert advice["normalization"].why.startswith("no layer was seen to go straight into a nonlinearity")
    _, remedies, advice = proposals(sgd(nn.Sequential(mlp(4, gain=0.1), nn.BatchNorm1d(4))))
    assert not any("normalization" in name for name in (*remedies, *advice))
