"""Masks and labels that do not fit the token ids."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag

PAD, WORDS, LENGTH = 0, 20, 10


def _batch(size: int = 16) -> tuple[Tensor, Tensor]:
    ids = torch.randint(1, WORDS, (size, LENGTH))
    lengths = torch.randint(3, LENGTH, (size, 1))
    lengths[0] = LENGTH - 1
    ids[torch.arange(LENGTH) >= lengths] = PAD
    return ids, ids[:, 0] % 3


class Reader(nn.Module):
    def __init__(self, mask: str) -> None:
        super().__init__()
        self.mask, self.embed = mask, nn.Embedding(WORDS, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.attention, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        if self.mask == "by position":
            return self.head(self.attention(x, x, x, ids == PAD)[0][:, 0])
        if self.mask == "none":
            return self.head(self.encoder(x)[:, 0])
        return self.head(
            self.encoder(x, src_key_padding_mask=ids != PAD if self.mask == "inverted" else ids == PAD)[:, 0]
        )


def _found(model: nn.Module, loss: object, kind: str) -> list[diag.Finding]:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with diag.watch(model) as watch:
        for _ in range(12):
            optimizer.zero_grad()
            loss(model, *_batch()).backward()  # type: ignore[operator]
            optimizer.step()
    every = [two for one in watch.diagnose().findings for two in (one, *one.consequences)]
    return [one for one in every if one.evidence.get("of") == kind]


@pytest.mark.parametrize(("mask", "count"), [("inverted", 1), ("right", 0), ("by position", 0), ("none", 0)])
def test_a_mask_that_leaves_padding_alone(mask: str, count: int) -> None:
    torch.manual_seed(0)
    found = _found(Reader(mask), lambda model, ids, labels: F.cross_entropy(model(ids), labels), "mask")
    assert len(found) == count
    if found:
        assert (found[0].rule, found[0].severity, found[0].site) == (
            "loss-not-decreasing",
            "error",
            "encoder.layers.0.self_attn",
        )


def _gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "vocab_size": WORDS}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=0))


@pytest.mark.parametrize(("moved", "count"), [(True, 1), (False, 0)])
def test_labels_that_are_shifted_twice(moved: bool, count: int) -> None:
    def loss(model: nn.Module, ids: Tensor, _: Tensor) -> Tensor:
        labels = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -100)], 1) if moved else ids
        return model(input_ids=ids, labels=labels).loss

    found = _found(_gpt2(), loss, "shift")
    assert [one.severity for one in found] == ["error"] * count


@pytest.mark.parametrize(("inverted", "count"), [(True, 1), (False, 0)])
def test_the_mask_of_a_transformers_model(inverted: bool, count: int) -> None:
    def loss(model: nn.Module, ids: Tensor, _: Tensor) -> Tensor:
        mask = (ids == PAD) if inverted else (ids != PAD)
        return model(input_ids=ids, attention_mask=mask.long(), labels=ids.masked_fill(ids == PAD, -100)).loss

    assert len(_found(_gpt2(), loss, "mask")) == count
