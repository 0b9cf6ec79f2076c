"""How a training begins: from scratch, from layers of another task, or from layers that learned without labels."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from diag.recipes import kinds
from diag.recipes.autoencoder import pretrain_autoencoder
from diag.recipes.dataset import Dataset
from diag.recipes.gan import pretrain_gan
from diag.recipes.kinds import start
from diag.recipes.pretraining import blocks_of
from diag.recipes.spec import RecipeError
from diag.recipes.start_job import StartJob


@start("scratch")
def scratch(job: StartJob) -> None:
    """The initial weights as they are."""


@start("transfer", source="Yosinski et al. 2014, section 2")
def transfer(
    job: StartJob, *, layers: int = 1, source: str = "digits(classes='0-4')", steps: int = 300, frozen: bool = False
) -> None:
    """Trains the same architecture on the data `source`, and reuses its lower `layers` blocks.

    The source network is trained by the recipe, for `steps` steps and without early stopping. frozen: the reused blocks
    keep their weights, statistics and evaluation mode; else they are trained further with the rest.
    Raises: RecipeError for a network without blocks or with fewer than `layers`, or for data of another shape.
    """
    blocks = blocks_of(job.model)
    if not 0 <= layers <= len(blocks):
        raise RecipeError(f"transfer(layers={layers}): the network has {len(blocks)} blocks, so 0 to {len(blocks)}")
    if layers == 0:
        return
    task: Dataset = kinds.data.resolve(source)(job.seed)
    if task.inputs != job.dataset.inputs:
        raise RecipeError(
            f"transfer from '{source}': its samples are {list(task.inputs)}, those of '{job.recipe.data}' are "
            f"{list(job.dataset.inputs)}: take data of one shape"
        )
    # Dropout stays, so that the network is the same; stopping by another task's validation does not.
    kept = tuple(one for one in job.recipe.regularizers if kinds.regularizer.resolve(one)().patience is None)
    recipe = job.recipe.but(data=source, start="scratch", steps=steps, regularizers=kept)
    trained = blocks_of(job.train(job.build(recipe, task), recipe, task))
    for block, other in list(zip(blocks, trained, strict=True))[:layers]:
        block.load_state_dict(other.state_dict())
        if frozen:
            freeze(block)


@start("autoencoder", source="Bengio et al. 2007; Vincent et al. 2010, section 3")
def autoencoder(job: StartJob, *, steps: int = 500, lr: float = 1e-3, noise: float = 0.3) -> None:
    """The blocks learn, as an encoder, to rebuild all inputs, labeled or not, from noisy ones.

    The decoder mirrors them, with the recipe's norm and activation. noise: its standard deviation. lr: Adam's.
    Raises: RecipeError for a network without blocks, or data without unlabeled samples.
    """
    _need("autoencoder", steps >= 0 and lr >= 0 and noise >= 0, "steps, lr and noise from 0", (steps, lr, noise))
    blocks_of(job.model)
    recipe = job.recipe
    pretrain_autoencoder(
        job.model,
        all_inputs(job),
        steps=steps,
        lr=lr,
        noise=noise,
        batch_size=recipe.batch_size,
        activation=kinds.activation.resolve(recipe.activation),
        norm=kinds.norm.resolve(recipe.norm),
        seed=job.seed,
    )


@start("gan", source="Goodfellow et al. 2014; Radford et al. 2016, section 5.1")
def gan(job: StartJob, *, steps: int = 500, lr: float = 2e-4, latent: int = 16) -> None:
    """The blocks learn, as a discriminator, to tell all inputs, labeled or not, from a generator's.

    latent: the generator's random values. lr: Adam's, for both.
    Raises: RecipeError for a network without blocks, or data without unlabeled samples.
    """
    _need("gan", steps >= 0 and lr >= 0 and latent >= 1, "steps and lr from 0 and latent from 1", (steps, lr, latent))
    blocks_of(job.model)
    pretrain_gan(
        job.model,
        all_inputs(job),
        steps=steps,
        lr=lr,
        latent=latent,
        batch_size=job.recipe.batch_size,
        seed=job.seed,
    )


def freeze(module: nn.Module) -> None:
    """Keep a module as it is: no gradients, and normalization and dropout stay in evaluation mode."""
    module.requires_grad_(False)
    module.eval()
    # A training calls model.train(), which would let a frozen batch norm follow the new data.
    module.train = partial(_stay, module)  # type: ignore[method-assign]


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def all_inputs(job: StartJob) -> torch.Tensor:
    """Training inputs, with and without labels.

    Raises: RecipeError where none are without.
    """
    if job.dataset.unlabeled is None or not len(job.dataset.unlabeled):
        raise RecipeError(
            f"the start '{job.recipe.start}' learns from unlabeled samples, and '{job.recipe.data}' has none: take "
            f"data such as digits(labeled=100)"
        )
    return torch.cat([job.dataset.train[0], job.dataset.unlabeled])


def _need(name: str, met: bool, what: str, got: tuple[float, ...]) -> None:
    if not met:
        raise RecipeError(f"the start '{name}' takes {what}, got {', '.join(map(str, got))}")
