"""Networks: shapes, what the probe sees of them, and what every one of them keeps."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import diag
from diag.recipes import kinds
from diag.recipes.inits import initialize
from diag.recipes.networks.build import build_network
from diag.recipes.networks.stack import Stack
from diag.recipes.recipe import Recipe
from diag.recipes.registry import Entry
from diag.recipes.spec import RecipeError

ENTRIES = kinds.network.entries()
SHAPES = [(12,), (7, 3), (2, 6, 5)]
VARIANTS = [
    "mlp",
    "cnn",
    "cnn(pool_every=1)",
    "rnn",
    "rnn(cell='lstm')",
    "rnn(cell='gru')",
    "rnn(unrolled=False)",
    "rnn(cell='lstm', unrolled=False)",
    "rnn(cell='gru', unrolled=False)",
    "transformer",
    "transformer(heads=1, patch=5)",
]


def network(name: str, shape: tuple[int, ...] = (7, 3), **changes: Any) -> nn.Module:
    """A small network, its weights drawn from a seed."""
    arguments = {
        "inputs": shape,
        "outputs": 4,
        "depth": 2,
        "width": 10,
        "activation": kinds.activation.resolve("tanh"),
        "norm": kinds.norm.resolve("none"),
        "dropout": lambda: None,
        **changes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network(name, **arguments)


def batch(shape: tuple[int, ...], count: int = 6) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def sites(model: nn.Module, shape: tuple[int, ...], kind: str = "activation") -> list[str]:
    """The sites of one kind that a watched step meets, in order, each once."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with diag.watch(model, optimizer) as watch:
        model(batch(shape)).square().mean().backward()
        optimizer.step()
    frame = watch.trace.frame
    return list(dict.fromkeys(frame[frame["kind"] == kind].sort_values("order")["site"]))


def test_every_network_has_variants_here() -> None:
    assert {one.partition("(")[0] for one in VARIANTS} == set(kinds.network.names())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_shape_at_every_depth(name: str, depth: int, shape: tuple[int, ...]) -> None:
    model = network(name, shape, depth=depth)
    assert model(batch(shape)).shape == (6, 4)
    assert isinstance(model, Stack)
    assert len(model.blocks) == depth
    assert model.features(batch(shape)).shape == (6, model.head.in_features)


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "group"])
@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_reach_every_parameter(name: str, norm: str) -> None:
    model = network(name, norm=kinds.norm.resolve(norm), dropout=lambda: nn.Dropout(0.2))
    model(batch((7, 3))).square().mean().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        # Batch normalization takes out what the bias before it adds: its gradient is 0 up to rounding.
        assert parameter.grad.abs().max() > 1e-8 or (norm == "batch" and path.endswith("bias")), path


@pytest.mark.parametrize(
    ("name", "changes", "parts"),
    [
        ("mlp", {}, ["linear", "activation"]),
        ("mlp", {"norm": kinds.norm.resolve("batch")}, ["linear", "norm", "activation"]),
        ("cnn", {"norm": kinds.norm.resolve("layer")}, ["conv", "norm", "activation"]),
        ("mlp", {"dropout": lambda: nn.Dropout(0.5)}, ["linear", "activation", "dropout"]),
        ("cnn(pool_every=1)", {"dropout": lambda: nn.Dropout(0.5)}, ["conv", "activation", "dropout", "pool"]),
        ("rnn", {}, ["recurrence.linear", "recurrence.activation", "recurrence.recurrent"]),
        ("rnn(cell='gru')", {"norm": kinds.norm.resolve("layer")}, ["recurrence.cell", "norm"]),
        ("rnn(cell='lstm', unrolled=False)", {}, ["recurrence.layer"]),
    ],
)
def test_the_probe_names_each_part_of_each_block(name: str, changes: dict[str, Any], parts: list[str]) -> None:
    model = network(name, (2, 8, 8) if name.startswith("cnn") else (7, 3), **changes)
    expected = [f"blocks.{number}.{part}" for number in (0, 1) for part in parts]
    found = sites(model, (2, 8, 8) if name.startswith("cnn") else (7, 3))
    # An LSTM gives its states and its cells.
    assert [one for one in found if one.startswith("blocks.") and "[" not in one] == expected
    assert found[-1] == "head"


def test_the_probe_names_each_part_of_a_transformer() -> None:
    model = network("transformer", norm=kinds.norm.resolve("layer"), dropout=lambda: nn.Dropout(0.1))
    parts = "attention_norm attention attention_dropout norm linear activation output dropout".split()
    blocks = [f"blocks.{number}.{part}" for number in (0, 1) for part in parts]
    found = sites(model, (7, 3))
    assert found == ["Transformer:input", "blocks.0.embed.linear", *blocks, "norm", "head"]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_is_drawn_by_an_initialization(name: str) -> None:
    """Nothing with a fan is left as torch made it, and there is nothing but positions that has none."""
    model = network(name)
    initialize(model, "constant(value=0.123)", torch.Generator())
    for path, parameter in model.named_parameters():
        if parameter.ndim >= 2 and not path.endswith("positions"):
            assert float(parameter.detach().unique()) == pytest.approx(0.123), path


# What every network keeps.


@pytest.mark.parametrize("name", VARIANTS)
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    first, second = network(name), network(name)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(first(batch((7, 3))), second(batch((7, 3))))


@pytest.mark.parametrize("name", VARIANTS)
def test_state_is_stored_and_restored(name: str) -> None:
    model = network(name, norm=kinds.norm.resolve("batch"))
    model(batch((7, 3)))
    fresh = network(name, norm=kinds.norm.resolve("batch"))
    for parameter in fresh.parameters():
        nn.init.zeros_(parameter)
    fresh.load_state_dict(model.state_dict())
    expected = model.eval()(batch((7, 3)))
    for same in (fresh, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(same.eval()(batch((7, 3))), expected)


@pytest.mark.parametrize("name", VARIANTS)
def test_dtype_and_device_are_kept(name: str) -> None:
    model = network(name).double()
    assert model(batch((7, 3)).double()).dtype == torch.float64
    output = model.to("meta")(torch.empty(6, 7, 3, device="meta", dtype=torch.float64))
    assert output.device.type == "meta" and output.shape == (6, 4)


@pytest.mark.parametrize("name", VARIANTS)
def test_samples_do_not_mix_without_batch_normalization(name: str) -> None:
    model = network(name, norm=kinds.norm.resolve("layer")).double()
    inputs = batch((7, 3)).double()
    alone = torch.cat([model(one.unsqueeze(0)) for one in inputs])
    assert torch.allclose(model(inputs), alone, atol=1e-12)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_in_a_recipe_it_serializes_and_a_mistyped_option_is_named(entry: Entry) -> None:
    options = ", ".join(f"{name}={value!r}" for name, value in entry.options.items())
    recipe = Recipe(network=f"{entry.name}({options})" if options else entry.name)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    for option in entry.options:
        with pytest.raises(RecipeError, match=f"did you mean '{option}'"):
            kinds.network.check(f"{entry.name}({option}x=1)")


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("cnn", (1, 2, 3, 4), r"the network 'cnn' reads .* got \[1, 2, 3, 4\]"),
        ("cnn", (), r"the network 'cnn' reads .* got \[\]"),
        ("rnn", (1, 2, 3, 4), "the network 'rnn' reads"),
        ("transformer", (1, 2, 3, 4), "the network 'transformer' reads"),
        ("cnn(pool_every=-1)", (4,), "pool_every is 0 for never"),
        ("rnn(cell='elman')", (4,), "cell is one of rnn, lstm, gru"),
        ("rnn(unrolled=False)", (4,), "tanh or relu only, got selu"),
        ("transformer(heads=0)", (4,), "heads and patch are whole numbers from 1"),
        ("transformer(patch=0)", (4,), "heads and patch are whole numbers from 1"),
        ("mpl", (4,), "did you mean 'mlp'"),
    ],
)
def test_what_cannot_be_is_one_line(name: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        network(name, shape, activation=kinds.activation.resolve("selu"))
    assert "\n" not in str(caught.value)
