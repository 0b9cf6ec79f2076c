"""Recipes: what they refuse, and that they survive the way to another machine."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diag.recipes import kinds
from diag.recipes.recipe import FIELDS, Recipe
from diag.recipes.registry import Entry, Registry
from diag.recipes.spec import RecipeError


def valued(default: Any) -> st.SearchStrategy[Any]:
    """Values of an option, by its default."""
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, int):
        return st.integers(-5, 10**6)
    if isinstance(default, float):
        return st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 9)
    if isinstance(default, str):
        return st.text(max_size=8)
    if isinstance(default, tuple):
        return st.tuples(*[st.floats(0, 1)] * 2)
    return st.none() | st.integers(0, 9)


def specs(registry: Registry) -> st.SearchStrategy[str]:
    def written(entry: Entry) -> st.SearchStrategy[str]:
        options = st.fixed_dictionaries({}, optional={key: valued(value) for key, value in entry.options.items()})
        return options.map(lambda some: f"{entry.name}({', '.join(f'{key}={some[key]!r}' for key in some)})")

    return st.sampled_from(registry.entries()).flatmap(written)


SPECS = {
    "data": kinds.data,
    "network": kinds.network,
    "init": kinds.init,
    "activation": kinds.activation,
    "norm": kinds.norm,
    "optimizer": kinds.optimizer,
    "schedule": kinds.schedule,
    "clipping": kinds.clipping,
    "start": kinds.start,
    "prediction": kinds.prediction,
}
RECIPES = st.builds(
    Recipe,
    **{field: specs(registry) for field, registry in SPECS.items()},
    regularizers=st.lists(specs(kinds.regularizer), max_size=3),
    depth=st.integers(0, 50),
    width=st.integers(1, 5000),
    lr=st.floats(0, 1e6),
    batch_size=st.integers(1, 5000),
    steps=st.integers(0, 10**7),
)


@given(RECIPES)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert again.to_dict() == recipe.to_dict()


@given(RECIPES)
def test_a_recipe_survives_pickle_and_copies(recipe: Recipe) -> None:
    assert pickle.loads(pickle.dumps(recipe)) == copy.deepcopy(recipe) == recipe.but() == recipe


def test_every_field_is_stored() -> None:
    assert tuple(Recipe().to_dict()) == FIELDS
    assert set(SPECS) | {"regularizers", "depth", "width", "lr", "batch_size", "steps"} == set(FIELDS)


def test_a_recipe_is_written_in_one_way() -> None:
    one = Recipe(optimizer="adam(beta2=0.99,beta1=0)", regularizers="dropout", lr=1)
    assert one.optimizer == "adam(beta1=0.0, beta2=0.99)"
    assert one == Recipe(optimizer=" adam( beta1=0.0, beta2=0.99 )", regularizers=["dropout()"], lr=1.0)
    assert one.regularizers == ("dropout",)


def test_numbers_of_numpy_become_plain() -> None:
    recipe = Recipe(depth=np.int64(4), lr=np.float32(0.5), steps=np.uint8(7))
    assert recipe == Recipe(depth=4, lr=0.5, steps=7)
    assert (type(recipe.depth), type(recipe.lr), type(recipe.steps)) == (int, float, int)


def test_a_network_of_yours_is_left_as_it_is_written() -> None:
    assert Recipe(network="nets/mine.py:build").network == "nets/mine.py:build"


def test_but_changes_fields_and_checks_them() -> None:
    assert Recipe(depth=2).but(lr=0.5).to_dict() == {**Recipe().to_dict(), "depth": 2, "lr": 0.5}
    with pytest.raises(RecipeError, match="no activation 'rleu'"):
        Recipe().but(activation="rleu")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation": "rlu"}, "no activation 'rlu' .did you mean 'relu'"),
        ({"optimizer": "adam(beta=0.9)"}, "has no option 'beta' .did you mean 'beta"),
        ({"regularizers": ["dropuot"]}, "no regularizer 'dropuot' .did you mean 'dropout'"),
        ({"regularizers": 3}, "regularizers is a list of names, got 3"),
        ({"regularizers": [3]}, "3 is not written as"),
        ({"network": 3}, "3 is not written as"),
        ({"depth": -1}, "depth is a whole number from 0, got -1"),
        ({"depth": 1.5}, "depth is a whole number from 0, got 1.5"),
        ({"width": 0}, "width is a whole number from 1, got 0"),
        ({"batch_size": True}, "batch_size is a whole number from 1, got True"),
        ({"steps": "300"}, "steps is a whole number from 0, got '300'"),
        ({"lr": -0.1}, "lr is a finite number from 0, got -0.1"),
        ({"lr": float("nan")}, "lr is a finite number from 0, got nan"),
        ({"lr": float("inf")}, "lr is a finite number from 0, got inf"),
        ({"lr": "0.1"}, "lr is a finite number from 0, got '0.1'"),
        ({"lr": False}, "lr is a finite number from 0, got False"),
    ],
)
def test_what_cannot_be_is_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(**fields)


def test_a_field_that_is_none_is_an_error_with_the_nearest() -> None:
    with pytest.raises(
        RecipeError, match=r"a recipe has no field 'optimiser' .did you mean 'optimizer'.*; it has data"
    ):
        Recipe.from_dict({"optimiser": "sgd"})
    with pytest.raises(RecipeError, match="no field 'learning_rate'; it has"):
        Recipe().but(learning_rate=0.1)
