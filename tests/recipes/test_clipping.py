"""Clipping: the canon's numbers, and what all of them keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diag.recipes import kinds
from diag.recipes.recipe import Recipe
from diag.recipes.registry import Entry
from diag.recipes.spec import RecipeError

ENTRIES = kinds.clipping.entries()
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda one: one.name)


def with_gradient(values: list[float], **options: object) -> torch.nn.Parameter:
    theta = torch.nn.Parameter(torch.zeros(len(values), **options))  # type: ignore[arg-type]
    theta.grad = torch.tensor(values, **options)  # type: ignore[arg-type]
    return theta


def clipped(spec: str, *gradients: list[float]) -> list[list[float]]:
    parameters = [with_gradient(one, dtype=torch.float64) for one in gradients]
    kinds.clipping.resolve(spec)(iter(parameters))
    return [one.grad.tolist() for one in parameters if one.grad is not None]


def test_by_value_turns_the_direction() -> None:
    assert clipped("value", [0.9, 100.0]) == [[0.9, 1.0]]
    assert clipped("value(clip_value=0.5)", [0.9, -100.0], [-0.25]) == [[0.5, -0.5], [-0.25]]


def test_by_norm_keeps_the_direction() -> None:
    (got,) = clipped("norm", [0.9, 100.0])
    assert got == pytest.approx([0.00899964, 0.9999595], abs=5e-8)
    assert got[0] / got[1] == pytest.approx(0.9 / 100, rel=1e-12)


def test_the_norm_is_over_all_parameters_together() -> None:
    got = clipped("norm(max_norm=2.5)", [3.0], [0.0, 4.0])
    assert np.concatenate(got) == pytest.approx([1.5, 0.0, 2.0], rel=1e-6)


def test_gradients_within_the_limit_stay_as_they_are() -> None:
    assert clipped("norm(max_norm=5.1)", [3.0], [0.0, 4.0]) == [[3.0], [0.0, 4.0]]
    assert clipped("value(clip_value=4)", [3.0], [0.0, -4.0]) == [[3.0], [0.0, -4.0]]
    assert clipped("none", [3e9, -1e-30]) == [[3e9, -1e-30]]


def test_an_infinite_gradient() -> None:
    assert clipped("value", [float("inf"), -0.5]) == [[1.0, -0.5]]
    (got,) = clipped("norm", [float("inf"), -0.5])
    assert np.isnan(got[0]) and got[1] == 0


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_is_kept_and_the_same_tensor_is_changed(entry: Entry, dtype: torch.dtype) -> None:
    theta, without = with_gradient([3.0, 4.0], dtype=dtype), torch.nn.Parameter(torch.zeros(2))
    gradient = theta.grad
    assert entry.build([theta, without]) is None
    assert theta.grad is gradient and gradient is not None and gradient.dtype == dtype
    assert without.grad is None


@each
def test_device_is_kept(entry: Entry) -> None:
    theta = with_gradient([3.0, 4.0], device="meta")
    entry.build([theta])
    assert theta.grad is not None and theta.grad.device.type == "meta"


@each
def test_twice_is_once(entry: Entry) -> None:
    theta = with_gradient([3.0, -4.0, 0.1], dtype=torch.float64)
    assert theta.grad is not None
    entry.build([theta])
    once = theta.grad.clone()
    entry.build([theta])
    # torch divides by the norm plus 1e-6.
    assert torch.allclose(theta.grad, once, rtol=2e-6, atol=0)


@pytest.mark.parametrize("entry", [one for one in ENTRIES if one.options], ids=lambda one: one.name)
def test_a_recipe_names_it_and_is_stored(entry: Entry) -> None:
    option = next(iter(entry.options))
    recipe = Recipe(clipping=f"{entry.name}({option}=2)")
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(RecipeError, match=f"did you mean '{option}'"):
        Recipe(clipping=f"{entry.name}({option}s=2)")
    for wrong in ("0", "-1.0"):
        with pytest.raises(RecipeError, match=f"takes a {option} above 0"):
            kinds.clipping.resolve(f"{entry.name}({option}={wrong})")([])
