"""Initializations: each variance against its rule, and what every one of them has to keep."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from diag.recipes import kinds
from diag.recipes.inits import initialize
from diag.recipes.networks.build import build_network
from diag.recipes.recipe import Recipe
from diag.recipes.registry import Entry
from diag.recipes.spec import RecipeError

ENTRIES = kinds.init.entries()
DRAWN = [one for one in ENTRIES if one.name not in ("default", "constant")]


class Conv1D(nn.Module):
    """As transformers has it: a linear layer whose weight is [in, out]."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(into, out)), nn.Parameter(torch.ones(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


# A layer, and by hand: inputs of one unit, units that one input reaches.
LAYERS = {
    "linear": (lambda: nn.Linear(300, 200), 300, 200),
    "conv1d": (lambda: nn.Conv1d(24, 60, 5), 24 * 5, 60 * 5),
    "conv2d": (lambda: nn.Conv2d(16, 48, (3, 2)), 16 * 6, 48 * 6),
    "grouped": (lambda: nn.Conv2d(32, 64, 3, groups=2), 16 * 9, 32 * 9),
    "input first": (lambda: Conv1D(300, 200), 300, 200),
    "transposed": (lambda: nn.ConvTranspose1d(40, 20, 7), 40 * 7, 20 * 7),
}

# Variance by fan_in and fan_out.
NORMAL = {
    "glorot_normal": lambda into, out: 2 / (into + out),
    "lecun_normal": lambda into, out: 1 / into,
    "he_normal": lambda into, out: 2 / into,
    "he_normal(negative_slope=0.5)": lambda into, out: 2 / (1.25 * into),
    "normal": lambda into, out: 1e-4,
    "normal(std=0.3)": lambda into, out: 0.09,
}
UNIFORM = {
    "legacy_uniform": lambda into, out: 1 / (3 * into),
    "glorot_uniform": lambda into, out: 2 / (into + out),
    "lecun_uniform": lambda into, out: 1 / into,
    "he_uniform": lambda into, out: 2 / into,
    "he_uniform(negative_slope=0.5)": lambda into, out: 2 / (1.25 * into),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(spec: str, layer: nn.Module, seed: int = 0) -> torch.Tensor:
    initialize(layer, spec, seeded(seed))
    return layer.weight.detach().double().flatten()


def test_every_rule_is_tested_here() -> None:
    tested = {name.partition("(")[0] for name in [*NORMAL, *UNIFORM]}
    assert tested | {"default", "orthogonal", "constant", "lsuv"} == set(kinds.init.names())


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("spec", NORMAL)
def test_normal_ones_have_their_variance(spec: str, kind: str) -> None:
    make, into, out = LAYERS[kind]
    weight = drawn(spec, make())
    variance = NORMAL[spec](into, out)
    chi2 = stats.chi2(len(weight))
    found = float(weight.square().sum() / variance)
    assert 1e-4 < chi2.cdf(found) < 1 - 1e-4
    assert stats.kstest(weight / math.sqrt(variance), "norm").pvalue > 1e-4


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("spec", UNIFORM)
def test_uniform_ones_have_their_bounds_and_are_uniform(spec: str, kind: str) -> None:
    make, into, out = LAYERS[kind]
    weight = drawn(spec, make())
    bound = math.sqrt(3 * UNIFORM[spec](into, out))
    assert 0.998 * bound < weight.abs().max() <= bound * (1 + 1e-6)
    assert stats.kstest(weight, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-4


def test_the_chi_square_test_tells_near_rules_apart() -> None:
    """fan_in instead of fan_avg at 300 x 200, a fifth of the variance, is far outside of what chance allows."""
    weight = drawn("lecun_normal", nn.Linear(300, 200))
    assert stats.chi2(len(weight)).cdf(float(weight.square().sum() * (300 + 200) / 2)) < 1e-12


@pytest.mark.parametrize(("into", "out"), [(30, 50), (50, 30), (40, 40)])
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_orthogonal(into: int, out: int, gain: float) -> None:
    weight = drawn(f"orthogonal(gain={gain})", nn.Linear(into, out)).view(out, into)
    product = weight.T @ weight if out > into else weight @ weight.T
    assert torch.allclose(product, gain**2 * torch.eye(len(product), dtype=torch.float64), atol=1e-5)


def test_orthogonal_of_a_convolution_is_over_its_whole_field() -> None:
    weight = drawn("orthogonal", nn.Conv2d(4, 6, 3)).view(6, 36)
    assert torch.allclose(weight @ weight.T, torch.eye(6, dtype=torch.float64), atol=1e-6)


def test_constant() -> None:
    assert drawn("constant", nn.Linear(3, 2)).tolist() == pytest.approx([0.01] * 6)
    assert drawn("constant(value=0)", nn.Linear(3, 2)).tolist() == [0.0] * 6


def test_default_leaves_what_torch_drew_and_its_biases() -> None:
    layer = nn.Linear(400, 100)
    before = copy.deepcopy(layer.state_dict())
    initialize(layer, "default", seeded())
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert layer.bias.abs().max() > 0
    # What its summary claims of torch.
    assert stats.kstest(layer.weight.detach().flatten(), stats.uniform(-0.05, 0.1).cdf).pvalue > 1e-4


@pytest.mark.parametrize("depth", [1, 4, 10])
def test_glorot_falls_behind_he_by_the_root_of_two_a_layer(depth: int) -> None:
    """He et al. 2015, section 2.2: after L rectifier layers the standard deviation is 2^(-L/2) of He's."""
    inputs = torch.randn(64, 128, generator=seeded(1))
    spread = {}
    for spec in ("he_normal", "glorot_normal"):
        model = build_network(
            "mlp",
            inputs=(128,),
            outputs=10,
            depth=depth,
            width=128,
            activation=nn.ReLU,
            norm=lambda features, dims: None,
            dropout=lambda: None,
        )
        initialize(model, spec, seeded(2))
        spread[spec] = float(model.features(inputs).detach().std())
    assert spread["glorot_normal"] / spread["he_normal"] == pytest.approx(2 ** (-depth / 2), rel=1e-4)


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 12)
        self.norm = nn.LayerNorm(12)
        self.conv = nn.Conv1d(12, 12, 3, padding=1)
        self.lstm = nn.LSTM(12, 10, batch_first=True, proj_size=6, bidirectional=True)
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True, add_bias_kv=True)
        self.free = nn.Parameter(torch.ones(3, 12))
        self.head = nn.Linear(12, 5, bias=False)


def test_every_gate_and_projection_is_a_matrix_of_its_own() -> None:
    model = Mixed()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    initialize(model, "orthogonal", seeded())
    blocks = [
        *model.lstm.weight_ih_l0.chunk(4),
        *model.lstm.weight_hh_l0_reverse.chunk(4),
        model.lstm.weight_hr_l0,
        *model.attention.in_proj_weight.chunk(3),
        model.attention.out_proj.weight,
        model.head.weight,
        model.conv.weight,
    ]
    for weight in blocks:
        matrix = weight.detach().flatten(1)
        small = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
        assert torch.allclose(small, torch.eye(len(small)), atol=1e-5)
    for name, value in model.state_dict().items():
        if name.startswith(("embedding", "norm", "free")):
            assert torch.equal(value, kept[name]), name
        elif "bias" in name:
            assert not value.any(), name
        else:
            assert not torch.equal(value, kept[name]), name


@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_the_fans_of_a_gate(cell: type[nn.Module]) -> None:
    layer = cell(90, 150)
    initialize(layer, "glorot_uniform", seeded())
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[cell.__name__.removesuffix("Cell")]
    for name, into in (("weight_ih", 90), ("weight_hh", 150)):
        weight = getattr(layer, name, None)
        weight = getattr(layer, f"{name}_l0") if weight is None else weight
        assert weight.shape == (gates * 150, into)
        bound = math.sqrt(6 / (into + 150))
        assert 0.995 * bound < weight.abs().max() <= bound


def test_attention_with_other_sizes_of_keys() -> None:
    layer = nn.MultiheadAttention(12, 3, kdim=20, vdim=8)
    initialize(layer, "constant(value=2.0)", seeded())
    assert {
        float(one.detach().unique()) for one in (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
    } == {2.0}


def test_a_parametrized_weight_is_set_through_its_parametrization() -> None:
    layer = weight_norm(nn.Linear(6, 4))
    plain = nn.Linear(6, 4)
    initialize(layer, "he_normal", seeded())
    initialize(plain, "he_normal", seeded())
    assert torch.allclose(layer.weight, plain.weight, atol=1e-6)


def test_lazy_layers_get_their_shapes_from_the_batch() -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))

    with pytest.raises(RecipeError, match="lazy layers"):
        initialize(model(), "he_normal", seeded())
    lazy = model()
    initialize(lazy, "constant(value=1)", seeded(), torch.randn(4, 5))
    assert lazy[0].weight.shape == (8, 5)
    assert lazy.training and float(lazy[2].weight.detach().unique()) == 1.0


# What every initialization keeps.


def network(dtype: torch.dtype = torch.float32, device: str = "cpu") -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 6, 3, dtype=dtype, device=device),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(36, 10, dtype=dtype, device=device),
    )


BATCH = torch.randn(16, 2, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_dtype_is_kept_and_the_numbers_are_those_of_single_precision(entry: Entry, dtype: torch.dtype) -> None:
    model, single = network(dtype), network()
    single.load_state_dict(model.state_dict())
    initialize(model, entry.name, seeded(), BATCH.to(dtype))
    initialize(single, entry.name, seeded(), BATCH)
    for found, expected in zip(model.parameters(), single.parameters(), strict=True):
        assert found.dtype == dtype and found.requires_grad and found.isfinite().all()
        if dtype.itemsize < 4:
            assert torch.allclose(found.float(), expected, atol=0.02 * float(expected.detach().abs().max()))


@pytest.mark.parametrize("entry", [one for one in ENTRIES if one.name != "lsuv"], ids=lambda entry: entry.name)
def test_device_is_kept(entry: Entry) -> None:
    model = network(device="meta")
    initialize(model, entry.name, seeded(), BATCH)
    assert {one.device.type for one in model.parameters()} == {"meta"}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_generator_alone_decides(entry: Entry) -> None:
    first = network()
    second = copy.deepcopy(first)
    initialize(first, entry.name, seeded(4), BATCH)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    initialize(second, entry.name, seeded(4), BATCH)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("entry", DRAWN, ids=lambda entry: entry.name)
def test_another_seed_and_another_call_draw_other_weights(entry: Entry) -> None:
    model = network()
    generator = seeded(4)
    seen = []
    for using in (generator, generator, seeded(5)):
        initialize(model, entry.name, using, BATCH)
        seen.append(model[3].weight.detach().clone())
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_in_a_recipe_it_serializes_and_a_mistyped_option_is_named(entry: Entry) -> None:
    options = ", ".join(f"{name}={value!r}" for name, value in entry.options.items())
    recipe = Recipe(init=f"{entry.name}({options})" if options else entry.name)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    for option in entry.options:
        with pytest.raises(RecipeError, match=f"did you mean '{option}'"):
            kinds.init.check(f"{entry.name}({option}x=1)")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("he_norml", "did you mean 'he_normal'"),
        ("normal(std=-1)", "std from 0"),
        ("normal(std='a')", "such as"),
        ("lsuv", "give it a batch"),
    ],
)
def test_what_cannot_be_is_one_line(spec: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        initialize(network(), spec, seeded())
    assert "\n" not in str(caught.value)
