"""A start's job as a trial gives it, with few steps."""

from __future__ import annotations

from torch import nn

from diag.recipes import kinds
from diag.recipes.dataset import Dataset
from diag.recipes.recipe import Recipe
from diag.recipes.start_job import StartJob
from diag.train.build import build_model, load_dataset
from diag.train.fit import fit

NETWORKS = {
    "mlp": Recipe(depth=3, width=16),
    "mlp with norms": Recipe(depth=2, width=16, norm="batch", regularizers=("dropout(p=0.2)",)),
    "cnn": Recipe(network="cnn(pool_every=1)", depth=2, width=8, norm="batch"),
    "rnn": Recipe(network="rnn", depth=2, width=16, activation="tanh", norm="layer"),
    "lstm": Recipe(network="rnn(cell='lstm', unrolled=False)", depth=1, width=16),
    "transformer": Recipe(network="transformer", depth=2, width=16, norm="layer"),
}
"""Every kind of network that has blocks."""

FEW = "digits(labeled=100)"


def job_of(recipe: Recipe, seed: int = 0, model: nn.Module | None = None) -> StartJob:
    """The recipe's fresh model and data."""
    dataset = load_dataset(recipe.data, 0)

    def train(module: nn.Module, other: Recipe, data: Dataset) -> nn.Module:
        fit(module, other, data, seed + 2, validations=1)
        return module

    return StartJob(
        model=build_model(recipe, dataset, seed) if model is None else model,
        recipe=recipe,
        dataset=dataset,
        seed=seed,
        build=lambda other, data: build_model(other, data, seed + 1),
        train=train,
    )


def begun(recipe: Recipe, seed: int = 0) -> nn.Module:
    """The model after the recipe's start."""
    job = job_of(recipe, seed)
    kinds.start.resolve(recipe.start)(job)
    return job.model
