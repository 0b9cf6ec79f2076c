"""Residual branches are found by arithmetic, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diag.prescribe.branches import branch_ends
from diag.train.workload import Workload
from tests.corpus.healthy_attention import GPT, Encoder
from tests.corpus.nets import mlp, next_token
from tests.prescribe.cases import blobs, classify
from tests.prescribe.sick import Residual


def ends(model: nn.Module, batch: Any, loss: Any = classify) -> list[str]:
    before = {name: dict(vars(one)) for name, one in model.named_modules()}
    found = branch_ends(Workload(model, [batch], loss), batch)
    after = {name: dict(vars(one)) for name, one in model.named_modules()}
    assert all(set(after[name]) == set(before[name]) for name in before)
    return found


def test_a_plain_chain_has_none() -> None:
    torch.manual_seed(0)
    assert ends(mlp(6, inputs=64), (torch.randn(8, 64), torch.zeros(8, dtype=torch.int64))) == []
    huge = mlp(6, inputs=64)
    huge[4].weight.data.mul_(1e6)  # type: ignore[union-attr, operator]
    assert ends(huge, (torch.randn(8, 64), torch.zeros(8, dtype=torch.int64))) == []


def test_blocks_that_add() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(Residual() for _ in range(3)), nn.Linear(16, 4))
    assert ends(model, blobs(1)[0]) == ["0.second", "1.second", "2.second"]


class Beside(nn.Module):
    """Adds what a container puts out, with dropout after its last layer, and hides it behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.body = nn.LayerNorm(16), nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.drop, self.after = nn.Dropout(0.5), nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(x + self.drop(self.body(self.norm(x))))


def test_a_sum_that_goes_on_into_a_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Beside(), Beside(), nn.Linear(16, 4))
    assert ends(model, blobs(1)[0]) == ["0.body.2", "1.body.2"]


def test_transformers() -> None:
    torch.manual_seed(0)
    found = ends(GPT(depth=2), torch.randint(128, (4, 17)), next_token)
    assert found == ["layers.0.attention.out", "layers.0.mlp.2", "layers.1.attention.out", "layers.1.mlp.2"]
    found = ends(Encoder(True), (torch.randn(4, 64), torch.zeros(4, dtype=torch.int64)))
    assert "encoder.layers.0.linear2" in found


@pytest.mark.slow
def test_a_model_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2, n_positions=16)
    model = transformers.GPT2LMHeadModel(config)

    def loss(model: nn.Module, tokens: Tensor) -> Tensor:
        return model(input_ids=tokens, labels=tokens).loss

    found = ends(model, torch.randint(50, (2, 12)), loss)
    assert {"transformer.h.0.mlp.c_proj", "transformer.h.1.mlp.c_proj"} <= set(found)
