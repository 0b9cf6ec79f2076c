"""Normalizations by hand, in every layout, and what every one of them keeps."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from diag.recipes import kinds
from diag.recipes.recipe import Recipe
from diag.recipes.registry import Entry
from diag.recipes.spec import RecipeError

ENTRIES = kinds.norm.entries()
SHAPES = {0: (7, 6), 1: (7, 6, 5), 2: (7, 6, 4, 3), -1: (7, 5, 6)}
"""dims -> a batch of 7 samples with 6 features."""


def made(spec: str, dims: int, features: int = 6, dtype: torch.dtype = torch.float64) -> nn.Module:
    module = kinds.norm.resolve(spec)(features, dims)
    assert module is not None
    return module.to(dtype)


def batch(dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(3.0, 2.0, SHAPES[dims])


def with_affine(module: nn.Module) -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """The module with a gamma and beta other than 1 and 0."""
    gamma, beta = np.linspace(0.5, 2, 6), np.linspace(-1, 1, 6)
    for name, parameter in module.named_parameters():
        parameter.data.copy_(torch.from_numpy(gamma if name.endswith("weight") else beta))
    return module, gamma, beta


def along_features(values: np.ndarray, dims: int) -> np.ndarray:
    """One number a feature, shaped to multiply a batch."""
    return values if dims <= 0 else values.reshape(-1, *[1] * dims)


def feature_axis(dims: int) -> int:
    return 1 if dims >= 0 else 2


def by_hand(x: np.ndarray, axes: tuple[int, ...], eps: float) -> np.ndarray:
    """(x - mean) / sqrt(biased variance + eps) over the axes."""
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + eps)


def others(dims: int) -> tuple[int, ...]:
    """Every axis but that of the features."""
    return tuple(axis for axis in range(len(SHAPES[dims])) if axis != feature_axis(dims))


@pytest.mark.parametrize("dims", SHAPES)
def test_batch_normalization_in_training(dims: int) -> None:
    module, gamma, beta = with_affine(made("batch(eps=0.01)", dims))
    x = batch(dims)
    expected = by_hand(x, others(dims), 0.01) * along_features(gamma, dims) + along_features(beta, dims)
    assert np.allclose(module(torch.from_numpy(x)).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("dims", SHAPES)
def test_batch_normalization_at_prediction(dims: int) -> None:
    """Running statistics: mean and *unbiased* variance, from 0 and 1, each batch with the share of momentum."""
    module, gamma, beta = with_affine(made("batch(momentum=0.3)", dims))
    mean, variance = np.zeros(6), np.ones(6)
    for seed in range(3):
        x = batch(dims, seed)
        module(torch.from_numpy(x))
        mean = 0.7 * mean + 0.3 * x.mean(others(dims))
        variance = 0.7 * variance + 0.3 * x.var(others(dims), ddof=1)
    x = batch(dims, 9)
    scaled = (x - along_features(mean, dims)) / np.sqrt(along_features(variance, dims) + 1e-5)
    expected = scaled * along_features(gamma, dims) + along_features(beta, dims)
    found = module.eval()(torch.from_numpy(x)).detach().numpy()
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-6)  # the buffers began in single precision


@pytest.mark.parametrize("dims", SHAPES)
def test_layer_normalization(dims: int) -> None:
    module, gamma, beta = with_affine(made("layer", dims))
    x = batch(dims)
    axes = (2,) if dims == -1 else tuple(range(1, x.ndim))
    expected = by_hand(x, axes, 1e-5) * along_features(gamma, dims) + along_features(beta, dims)
    assert np.allclose(module(torch.from_numpy(x)).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("dims", SHAPES)
def test_group_normalization(dims: int) -> None:
    module, gamma, beta = with_affine(made("group(groups=3)", dims))
    x = batch(dims)
    first = np.moveaxis(x, feature_axis(dims), 1)
    grouped = first.reshape(7, 3, -1)
    expected = np.moveaxis(by_hand(grouped, (2,), 1e-5).reshape(first.shape), 1, feature_axis(dims))
    expected = expected * along_features(gamma, dims) + along_features(beta, dims)
    assert np.allclose(module(torch.from_numpy(x)).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("features", "groups", "used"), [(6, 8, 6), (7, 4, 1), (64, 8, 8), (30, 8, 6), (12, 5, 4), (1, 8, 1)]
)
def test_groups_divide_any_number_of_features(features: int, groups: int, used: int) -> None:
    module = made(f"group(groups={groups})", 1, features)
    assert isinstance(module, nn.GroupNorm) and module.num_groups == used


def test_none_is_no_module() -> None:
    assert kinds.norm.resolve("none")(6, 0) is None


# What every normalization keeps.

SOME = [one for one in ENTRIES if one.name != "none"]


@pytest.mark.parametrize("dims", SHAPES)
@pytest.mark.parametrize("entry", SOME, ids=lambda entry: entry.name)
def test_shape_dtype_and_device_are_kept(entry: Entry, dims: int) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        output = made(entry.name, dims, dtype=dtype)(torch.from_numpy(batch(dims)).to(dtype))
        assert output.dtype == dtype and tuple(output.shape) == SHAPES[dims]
    output = made(entry.name, dims).to("meta")(torch.empty(SHAPES[dims], device="meta", dtype=torch.float64))
    assert output.device.type == "meta" and tuple(output.shape) == SHAPES[dims]


@pytest.mark.parametrize("entry", SOME, ids=lambda entry: entry.name)
def test_what_it_has_seen_is_stored_and_restored(entry: Entry) -> None:
    module, fresh = made(entry.name, 1), made(entry.name, 1)
    x = torch.from_numpy(batch(1))
    with_affine(module)[0](x)
    copied, pickled = copy.deepcopy(module), pickle.loads(pickle.dumps(module))
    fresh.load_state_dict(module.state_dict())
    expected = module.eval()(x)
    for same in (copied, pickled, fresh):
        assert torch.equal(same.eval()(x), expected)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_in_a_recipe_it_serializes_and_a_mistyped_option_is_named(entry: Entry) -> None:
    options = ", ".join(f"{name}={value!r}" for name, value in entry.options.items())
    recipe = Recipe(norm=f"{entry.name}({options})" if options else entry.name)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    for option in entry.options:
        with pytest.raises(RecipeError, match=f"did you mean '{option}'"):
            kinds.norm.check(f"{entry.name}({option}x=1)")


@pytest.mark.parametrize(
    ("spec", "dims", "words"), [("group(groups=0)", 0, "groups from 1"), ("batch", 4, "dims is -1")]
)
def test_what_cannot_be_is_one_line(spec: str, dims: int, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        made(spec, dims)
