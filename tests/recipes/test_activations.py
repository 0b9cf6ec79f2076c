"""Activations: values and slopes against float64 formulas, the canon's facts, and what every one of them keeps."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy import special
from torch import nn

import diag
from diag.recipes import kinds
from diag.recipes.activations import Swish
from diag.recipes.recipe import Recipe
from diag.recipes.registry import Entry
from diag.recipes.spec import RecipeError

Array = np.ndarray
ENTRIES = kinds.activation.entries()
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def normal_cdf(z: Array) -> Array:
    return special.erfc(-z / np.sqrt(2)) / 2


def normal_density(z: Array) -> Array:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def elu(alpha: float) -> Callable[[Array], Array]:
    return lambda z: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def elu_slope(alpha: float) -> Callable[[Array], Array]:
    return lambda z: np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0)))


def swish(beta: float) -> Callable[[Array], Array]:
    return lambda z: z * sigmoid(beta * z)


def swish_slope(beta: float) -> Callable[[Array], Array]:
    return lambda z: sigmoid(beta * z) + beta * z * sigmoid(beta * z) * sigmoid(-beta * z)


def bent(slope: float) -> Callable[[Array], Array]:
    return lambda z: np.where(z > 0, z, slope * z)


def step(low: float, high: float = 1.0) -> Callable[[Array], Array]:
    return lambda z: np.where(z > 0, high, low)


def inside(low: float, high: float, slope: float = 1.0) -> Callable[[Array], Array]:
    return lambda z: np.where((z > low) & (z < high), slope, 0.0)


def gelu_tanh(z: Array) -> Array:
    return z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def gelu_tanh_slope(z: Array) -> Array:
    t = np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))
    return (1 + t) / 2 + z / 2 * (1 - t**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)


def mish_slope(z: Array) -> Array:
    t = np.tanh(np.log1p(np.exp(z)))
    return t + z * (1 - t**2) * sigmoid(z)


def hardswish_slope(z: Array) -> Array:
    return np.where(z <= -3, 0, np.where(z >= 3, 1, (2 * z + 3) / 6))


REFERENCES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (lambda z: z, np.ones_like),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "softsign": (lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2),
    "hardtanh": (lambda z: np.clip(z, -1, 1), inside(-1, 1)),
    "hardtanh(min_val=-0.5, max_val=2)": (lambda z: np.clip(z, -0.5, 2), inside(-0.5, 2)),
    "hardsigmoid": (lambda z: np.clip(z / 6 + 0.5, 0, 1), inside(-3, 3, 1 / 6)),
    "relu": (lambda z: np.maximum(z, 0), step(0)),
    "relu6": (lambda z: np.clip(z, 0, 6), inside(0, 6)),
    "leaky_relu": (bent(0.01), step(0.01)),
    "leaky_relu(negative_slope=0.2)": (bent(0.2), step(0.2)),
    "prelu": (bent(0.25), step(0.25)),
    "prelu(init=0.1)": (bent(0.1), step(0.1)),
    "elu": (elu(1), elu_slope(1)),
    "elu(alpha=0.5)": (elu(0.5), elu_slope(0.5)),
    "selu": (lambda z: SELU_SCALE * elu(SELU_ALPHA)(z), lambda z: SELU_SCALE * elu_slope(SELU_ALPHA)(z)),
    "gelu": (lambda z: z * normal_cdf(z), lambda z: normal_cdf(z) + z * normal_density(z)),
    "gelu(approximate='tanh')": (gelu_tanh, gelu_tanh_slope),
    "silu": (swish(1), swish_slope(1)),
    "swish": (swish(1), swish_slope(1)),
    "swish(beta=1.7)": (swish(1.7), swish_slope(1.7)),
    "swish(beta=-0.5, trainable=True)": (swish(-0.5), swish_slope(-0.5)),
    "hardswish": (lambda z: z * np.clip(z + 3, 0, 6) / 6, hardswish_slope),
    "mish": (lambda z: z * np.tanh(np.log1p(np.exp(z))), mish_slope),
    "softplus": (lambda z: np.log1p(np.exp(z)), sigmoid),
    "softplus(beta=3)": (lambda z: np.log1p(np.exp(3 * z)) / 3, lambda z: sigmoid(3 * z)),
}

GRID = np.linspace(-8, 8, 4001) + 1e-4  # off the kinks


def made(spec: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    return kinds.activation.resolve(spec)().to(dtype)


def values(spec: str, z: Array) -> Array:
    return made(spec)(torch.from_numpy(np.asarray(z))).detach().numpy()


def slopes(spec: str, z: Array) -> Array:
    x = torch.from_numpy(z.copy()).requires_grad_()
    (slope,) = torch.autograd.grad(made(spec)(x).sum(), x)
    return slope.numpy()


def test_every_activation_has_a_reference() -> None:
    assert {one.partition("(")[0] for one in REFERENCES} == set(kinds.activation.names())


@pytest.mark.parametrize("spec", REFERENCES)
def test_values_and_slopes(spec: str) -> None:
    value, slope = REFERENCES[spec]
    # float32 parameters and torch's own constants set what can be reached.
    assert np.allclose(values(spec, GRID), value(GRID), rtol=1e-7, atol=1e-8)
    assert np.allclose(slopes(spec, GRID), slope(GRID), rtol=1e-7, atol=1e-8)


def test_selu_has_the_constants_of_the_paper() -> None:
    assert values("selu", [1.0, -200.0]) == pytest.approx([SELU_SCALE, -SELU_SCALE * SELU_ALPHA], rel=1e-15)


def test_selu_keeps_mean_0_and_variance_1() -> None:
    """Klambauer et al. 2017, section 2: E and Var over z ~ N(0, 1), each side of the kink apart to be exact."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    mean = second = 0.0
    for low, high in ((-12.0, 0.0), (0.0, 12.0)):
        z = (high - low) / 2 * nodes + (high + low) / 2
        mass = (high - low) / 2 * weights * normal_density(z)
        mean += float(mass @ values("selu", z))
        second += float(mass @ values("selu", z) ** 2)
    assert mean == pytest.approx(0.0, abs=1e-12)
    assert second == pytest.approx(1.0, abs=1e-12)


def test_the_slope_of_elu_is_continuous_at_0_only_for_alpha_1() -> None:
    beside = np.array([-1e-9, 1e-9])
    for alpha in (1.0, 0.5, 2.0):
        below, above = slopes(f"elu(alpha={alpha})", beside)
        assert (below, above) == pytest.approx((alpha, 1.0), abs=1e-8)


def test_swish_between_linear_and_relu() -> None:
    """Ramachandran et al. 2017, section 4: z / 2 for beta = 0, ReLU as beta grows."""
    assert np.allclose(values("swish(beta=0)", GRID), GRID / 2, atol=1e-15)
    assert np.allclose(values("swish(beta=1000)", GRID), np.maximum(GRID, 0), atol=1e-3)
    assert np.allclose(values("swish", GRID), values("silu", GRID), atol=1e-15)


def test_gelu_is_the_mean_of_a_random_gate() -> None:
    """Hendrycks & Gimpel 2016, section 2: z P(Z <= z), by quadrature over an independent Z."""
    nodes, weights = hermegauss(150)
    smooth = 0.5  # Z is split in two; one half is integrated in closed form, so that no jump is left for the quadrature
    z = np.array([-2.0, -0.5, 0.3, 1.7])
    gate = weights / weights.sum() @ normal_cdf((z[None] - np.sqrt(1 - smooth**2) * nodes[:, None]) / smooth)
    assert np.allclose(values("gelu", z), z * gate, atol=1e-10)
    assert values("gelu", [1.0])[0] == pytest.approx(0.8413447460685429, abs=1e-15)


def test_a_trainable_beta_learns_and_prelu_too() -> None:
    for spec, expected in (("swish(beta=0.7, trainable=True)", "beta"), ("prelu", "weight")):
        module = made(spec)
        assert [name for name, _ in module.named_parameters()] == [expected]
        module(torch.tensor([-1.0, 2.0, 0.5], dtype=torch.float64)).sum().backward()
        (parameter,) = module.parameters()
        assert parameter.grad.abs().sum() > 0
    # d/dbeta z sigmoid(beta z) = z^2 s (1 - s).
    z = np.array([-1.0, 2.0, 0.5])
    module = made("swish(beta=0.7, trainable=True)")
    module(torch.from_numpy(z)).sum().backward()
    s = sigmoid(float(np.float32(0.7)) * z)
    assert float(module.beta.grad) == pytest.approx(float((z**2 * s * (1 - s)).sum()), rel=1e-12)
    assert not list(made("swish").parameters())


def test_swish_prints_its_beta() -> None:
    assert repr(Swish(1.5)) == "Swish(beta=1.5)"
    assert repr(Swish(2, trainable=True)) == "Swish(beta trainable)"


def watched(activation: nn.Module) -> diag.trace.Trace:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 50), activation, nn.Linear(50, 1))
    with diag.watch(model) as watch:
        loss = model(torch.randn(64, 20) * 8).square().mean()
        loss.backward()
        watch.step(loss)
    return watch.trace


def test_the_probe_sees_swish_as_one_nonlinearity() -> None:
    frame = watched(Swish(2.0)).frame
    rows = frame[(frame["kind"] == "activation") & (frame["step"] == 0)]
    assert list(rows["op"]) == ["input", "linear", "swish", "linear"]
    assert list(rows["site"])[2] == "1"


def test_the_probe_counts_swish_saturated_where_its_slope_is_gone() -> None:
    frame = watched(Swish(2.0)).frame
    row = frame[(frame["kind"] == "activation") & (frame["op"] == "swish")].iloc[0]
    torch.manual_seed(0)
    linear = nn.Linear(20, 50)
    nn.Linear(50, 1)
    z = linear(torch.randn(64, 20) * 8).detach().double().numpy()
    dense = np.linspace(-40, 40, 800_001)
    slope = swish_slope(2.0)(dense)
    edge = dense[np.abs(slope) > 0.01 * np.abs(slope).max()].min()  # the tail below the last slope that counts
    assert 0.05 < row["saturated_fraction"] == pytest.approx(float((z <= edge).mean()), abs=1e-3)


def test_a_users_swish_is_known_by_its_beta_alone() -> None:
    def define(**attributes: float) -> nn.Module:
        forward = lambda self, z: z * torch.sigmoid(attributes.get("beta", 1.3) * z)  # noqa: E731
        return type("Swish", (nn.Module,), {"forward": forward, **attributes})()

    def seen(module: nn.Module) -> list[str]:
        frame = watched(module).frame
        return list(frame[(frame["kind"] == "activation") & (frame["step"] == 0)]["op"])

    assert seen(define(beta=2.0)) == ["input", "linear", "swish", "linear"]
    assert seen(define()) == ["input", "linear", "sigmoid", "Swish", "linear"]


def test_a_learned_beta_leaves_saturation_unmeasured() -> None:
    frame = watched(Swish(2.0, trainable=True)).frame
    row = frame[(frame["kind"] == "activation") & (frame["op"] == "swish")].iloc[0]
    assert np.isnan(row["saturated_fraction"])


# What every activation keeps.


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_shape_dtype_and_device_are_kept(entry: Entry) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        output = made(entry.name, dtype)(torch.linspace(-3, 3, 12, dtype=dtype).view(2, 3, 2))
        assert output.dtype == dtype and output.shape == (2, 3, 2) and output.isfinite().all()
    output = made(entry.name).to("meta")(torch.empty(4, 3, device="meta", dtype=torch.float64))
    assert output.device.type == "meta" and output.shape == (4, 3)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_each_call_gives_a_new_module_that_is_stored_and_restored(entry: Entry) -> None:
    module, other = made(entry.name), made(entry.name)
    assert module is not other
    for parameter in module.parameters():
        nn.init.constant_(parameter, 0.37)
    z = torch.linspace(-3, 3, 11, dtype=torch.float64)
    expected = module(z)
    other.load_state_dict(module.state_dict())
    for same in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module)), module):
        assert torch.equal(same(z), expected)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_in_a_recipe_it_serializes_and_a_mistyped_option_is_named(entry: Entry) -> None:
    options = ", ".join(f"{name}={value!r}" for name, value in entry.options.items())
    recipe = Recipe(activation=f"{entry.name}({options})" if options else entry.name)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    for option in entry.options:
        with pytest.raises(RecipeError, match=f"did you mean '{option}'"):
            kinds.activation.check(f"{entry.name}({option}x=1)")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("gelu(approximate='erf')", "approximate is 'none' or 'tanh'"),
        ("hardtanh(min_val=2.0)", "min_val < max_val"),
        ("softplus(beta=0)", "beta > 0"),
        ("swish(beta='a')", "such as"),
        ("sillu", "did you mean 'silu'"),
    ],
)
def test_what_cannot_be_is_one_line(spec: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        made(spec)
