"""What each network computes, against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diag.recipes import kinds
from diag.recipes.networks.stack import as_sequence
from tests.recipes.networks.test_networks import batch, network


def test_mlp_is_affine_maps_and_activations() -> None:
    model = network("mlp", (2, 3, 2)).double()
    hidden = batch((2, 3, 2)).double().reshape(6, 12)
    for block in model.blocks:
        hidden = torch.tanh(hidden @ block.linear.weight.T + block.linear.bias)
    expected = hidden @ model.head.weight.T + model.head.bias
    assert torch.allclose(model(batch((2, 3, 2)).double()), expected, atol=1e-12)


def test_mlp_of_depth_0_is_linear() -> None:
    model = network("mlp", (5,), depth=0).double()
    x, y = batch((5,)).double(), batch((5,), 6).double() + 1
    bias = model.head.bias
    assert torch.allclose(model(2 * x - 3 * y) - bias, 2 * (model(x) - bias) - 3 * (model(y) - bias), atol=1e-12)


def test_cnn_is_the_mean_over_positions() -> None:
    model = network("cnn", (2, 9, 6)).double()
    hidden = batch((2, 9, 6)).double()
    for block in model.blocks:
        hidden = torch.tanh(F.conv2d(hidden, block.conv.weight, block.conv.bias, padding=1))
        assert hidden.shape[2:] == (9, 6)
    assert torch.allclose(model(batch((2, 9, 6)).double()), model.head(hidden.mean((2, 3))), atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "every", "depth", "pools"),
    [
        ((1, 8, 8), 1, 6, [0, 1, 2]),  # 8 -> 4 -> 2 -> 1
        ((1, 8, 8), 2, 6, [1, 3, 5]),
        ((1, 8, 2), 1, 3, [0]),
        ((40,), 1, 7, [0, 1, 2, 3, 4]),  # 40 -> 20 -> 10 -> 5 -> 2 -> 1
        ((3, 40), 0, 4, []),
    ],
)
def test_cnn_pools_while_there_is_something_to_pool(
    shape: tuple[int, ...], every: int, depth: int, pools: list[int]
) -> None:
    model = network(f"cnn(pool_every={every})", shape, depth=depth)
    assert [number for number, block in enumerate(model.blocks) if hasattr(block, "pool")] == pools
    assert model(batch(shape)).shape == (6, 4)


@pytest.mark.parametrize("activation", ["tanh", "relu", "softsign"])
def test_the_recurrence_by_hand(activation: str) -> None:
    make = kinds.activation.resolve(activation)
    model = network("rnn", activation=make).double()
    states = list(batch((7, 3)).double().unbind(1))
    for block in model.blocks:
        part = block.recurrence
        h = torch.zeros(6, 10, dtype=torch.float64)
        after = []
        for x in states:
            h = make()(x @ part.linear.weight.T + part.linear.bias + h @ part.recurrent.weight.T)
            after.append(h)
        states = after
    assert torch.allclose(model(batch((7, 3)).double()), model.head(states[-1]), atol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_unrolled_is_torchs_fused_recurrence(activation: str) -> None:
    make = kinds.activation.resolve(activation)
    unrolled, fused = network("rnn", activation=make), network("rnn(unrolled=False)", activation=make)
    with torch.no_grad():
        for ours, theirs in zip(unrolled.blocks, fused.blocks, strict=True):
            layer = theirs.recurrence.layer
            layer.weight_ih_l0.copy_(ours.recurrence.linear.weight)
            layer.weight_hh_l0.copy_(ours.recurrence.recurrent.weight)
            layer.bias_ih_l0.copy_(ours.recurrence.linear.bias)
            layer.bias_hh_l0.zero_()
        fused.head.load_state_dict(unrolled.head.state_dict())
    assert torch.allclose(unrolled(batch((7, 3))), fused(batch((7, 3))), atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_unrolled_cells_are_torchs_fused_layers(cell: str) -> None:
    unrolled, fused = network(f"rnn(cell='{cell}')"), network(f"rnn(cell='{cell}', unrolled=False)")
    with torch.no_grad():
        for ours, theirs in zip(unrolled.blocks, fused.blocks, strict=True):
            for name, value in ours.recurrence.cell.named_parameters():
                getattr(theirs.recurrence.layer, f"{name}_l0").copy_(value)
        fused.head.load_state_dict(unrolled.head.state_dict())
    assert torch.allclose(unrolled(batch((7, 3))), fused(batch((7, 3))), atol=1e-6)


def test_images_are_read_row_by_row_and_signals_in_patches() -> None:
    image = torch.arange(2 * 3 * 4.0).view(1, 2, 3, 4)
    rows = as_sequence(image)
    assert rows.shape == (1, 3, 8)
    assert rows[0, 1].tolist() == [4, 5, 6, 7, 16, 17, 18, 19]  # the second row of both channels
    signal = torch.arange(1.0, 8.0).view(1, 7)
    assert as_sequence(signal, 3).tolist() == [[[1, 2, 3], [4, 5, 6], [7, 0, 0]]]
    assert as_sequence(signal).shape == (1, 7, 1)
    assert as_sequence(rows) is rows


def attended(layer: nn.MultiheadAttention, x: torch.Tensor) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d)) V for each head, by hand."""
    q, k, v = (x @ layer.in_proj_weight.T + layer.in_proj_bias).chunk(3, -1)
    heads = []
    for query, key, value in zip(*(one.chunk(layer.num_heads, -1) for one in (q, k, v)), strict=True):
        scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
        heads.append(scores.softmax(-1) @ value)
    return torch.cat(heads, -1) @ layer.out_proj.weight.T + layer.out_proj.bias


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_the_transformer_by_hand(norm: str) -> None:
    model = network("transformer(heads=5)", norm=kinds.norm.resolve(norm)).double()
    normed = (lambda x: F.layer_norm(x, (10,))) if norm == "layer" else (lambda x: x)
    x = batch((7, 3)).double()
    embed = model.blocks[0].embed
    x = x @ embed.linear.weight.T + embed.linear.bias + embed.positions
    for block in model.blocks:
        assert block.attention.num_heads == 5
        x = x + attended(block.attention, normed(x))
        hidden = torch.tanh(block.linear(normed(x)))
        assert hidden.shape[-1] == 40
        x = x + block.output(hidden)
    assert torch.allclose(model(batch((7, 3)).double()), model.head(normed(x).mean(1)), atol=1e-12)


@pytest.mark.parametrize(("width", "heads", "used"), [(10, 4, 2), (12, 4, 4), (7, 4, 1), (64, 8, 8), (9, 100, 9)])
def test_heads_divide_the_width(width: int, heads: int, used: int) -> None:
    model = network(f"transformer(heads={heads})", width=width)
    assert {block.attention.num_heads for block in model.blocks} == {used}


def test_positions_tell_the_transformer_the_order() -> None:
    model = network("transformer").double().eval()
    inputs = batch((7, 3)).double()
    turned = inputs.flip(1)
    assert not torch.allclose(model(inputs), model(turned), atol=1e-6)
    nn.init.zeros_(model.blocks[0].embed.positions)
    assert torch.allclose(model(inputs), model(turned), atol=1e-12)


@pytest.mark.parametrize("name", ["mlp", "cnn", "rnn", "transformer"])
def test_dropout_acts_in_training_only(name: str) -> None:
    model = network(name, dropout=lambda: nn.Dropout(0.5))
    inputs = batch((7, 3))
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))
