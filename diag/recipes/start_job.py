"""What a start is given: the fresh model, its data, and the means to train something else first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from diag.recipes.dataset import Dataset
from diag.recipes.recipe import Recipe


@dataclass(frozen=True)
class StartJob:
    """model: built and initialized by `recipe`, changed in place by the start. seed: for all that is random.

    build(recipe, dataset): a fresh initialized model of another recipe. train(model, recipe, dataset): trains it as a
    trial of that recipe would be, unwatched, and returns it. Both are deterministic for the seed.
    """

    model: nn.Module
    recipe: Recipe
    dataset: Dataset
    seed: int
    build: Callable[[Recipe, Dataset], nn.Module]
    train: Callable[[nn.Module, Recipe, Dataset], nn.Module]
