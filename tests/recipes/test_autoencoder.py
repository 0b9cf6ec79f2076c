"""The autoencoder: its mirror image, the best that a linear one can do, and what is learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diag.recipes import kinds
from diag.recipes.autoencoder import mirror, pretrain_autoencoder
from diag.recipes.recipe import Recipe
from diag.recipes.spec import RecipeError
from diag.recipes.starts import all_inputs
from tests.recipes.start_jobs import FEW, NETWORKS, job_of


def pretrained(recipe: Recipe, inputs: torch.Tensor | None = None, **options: Any) -> list[float]:
    job = job_of(recipe)
    given = {"steps": 100, "lr": 0.003, "noise": 0.3, "batch_size": 64, "seed": 0, **options}
    return pretrain_autoencoder(
        job.model,
        all_inputs(job) if inputs is None else inputs,
        activation=kinds.activation.resolve(recipe.activation),
        norm=kinds.norm.resolve(recipe.norm),
        **given,
    )


def layers(recipe: Recipe) -> list[tuple[str, ...]]:
    job = job_of(recipe)
    decoder = mirror(
        job.model,
        job.dataset.test[0],
        kinds.activation.resolve(recipe.activation),
        kinds.norm.resolve(recipe.norm),
    )
    return [tuple(str(part) for part in one) for one in decoder]  # type: ignore[attr-defined]


def test_the_mirror_image_of_a_perceptron() -> None:
    assert layers(Recipe(depth=2, width=16, activation="tanh", norm="batch")) == [
        (
            "Linear(in_features=16, out_features=16, bias=True)",
            "BatchNorm1d(16, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)",
            "Tanh()",
        ),
        ("Linear(in_features=16, out_features=64, bias=True)",),
    ]


def test_the_mirror_image_of_convolutions_grows_where_they_shrank() -> None:
    assert layers(Recipe(network="cnn(pool_every=2)", depth=3, width=6)) == [
        ("Conv2d(6, 6, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))", "ReLU()"),
        (
            "Upsample(size=(8, 8), mode='nearest')",
            "Conv2d(6, 6, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))",
            "ReLU()",
        ),
        ("Conv2d(6, 1, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))",),
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_learns_to_rebuild_its_inputs(name: str) -> None:
    losses = pretrained(NETWORKS[name].but(data=FEW))
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:5])


def test_the_dry_run_leaves_the_model_as_it_was() -> None:
    job = job_of(NETWORKS["cnn"])
    job.model.train()
    job.model.blocks[0].eval()
    before = {key: value.clone() for key, value in job.model.state_dict().items()}
    mirror(job.model, job.dataset.test[0], nn.ReLU, lambda features, dims: None)
    assert not job.model.blocks[0].training and job.model.blocks[1].training
    assert all(torch.equal(value, before[key]) for key, value in job.model.state_dict().items())


def test_a_linear_one_comes_to_the_principal_components() -> None:
    """Baldi & Hornik 1989: what a linear code of 4 values misses is the variance beyond 4 components."""
    scales = torch.linspace(3, 0.3, 12)
    inputs = torch.randn(2000, 12, generator=torch.Generator().manual_seed(0)) * scales
    spectrum = np.linalg.eigvalsh(np.cov(inputs.numpy().T, bias=True))
    best = spectrum[:-4].sum() / 12
    job = job_of(Recipe(data="gaussian(features=12, samples=50)", depth=1, width=4, activation="identity"))
    losses = pretrain_autoencoder(
        job.model, inputs, steps=1500, lr=0.005, noise=0.0, batch_size=200, seed=0,
        activation=nn.Identity, norm=lambda features, dims: None,
    )  # fmt: skip
    assert np.mean(losses[-200:]) == pytest.approx(best, rel=0.02)
    assert losses[0] > 2 * best


def test_noise_is_added_to_the_inputs_only() -> None:
    """With a rate of 0 and a model and decoder that are zero, the loss is the mean square of the clean inputs."""
    recipe = Recipe(data=FEW, depth=1, width=8)
    job = job_of(recipe)
    inputs = torch.ones(40, 1, 8, 8) * 2
    (quiet,), (noisy,) = (pretrained(recipe, inputs, steps=1, lr=0.0, noise=noise) for noise in (0.0, 5.0))
    assert quiet != noisy
    with torch.no_grad():
        for one in job.model.parameters():
            one.zero_()
    none = {"activation": nn.ReLU, "norm": lambda features, dims: None}
    (blind,) = pretrain_autoencoder(job.model, inputs, steps=1, lr=0.0, noise=5.0, batch_size=8, seed=0, **none)
    (blind_and_quiet,) = pretrain_autoencoder(
        job.model, inputs, steps=1, lr=0.0, noise=0.0, batch_size=8, seed=0, **none
    )
    # An encoder that sees nothing cannot tell the noise: so it is not in what is to be rebuilt.
    assert blind == blind_and_quiet


def test_blocks_that_do_not_follow_one_another() -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(64, 3), nn.Linear(64, 3)])
            self.head = nn.Linear(3, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(sum(one(x.flatten(1)) for one in self.blocks))

    class Strange(Parallel):
        def prepare(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)

    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.head = nn.ModuleList([nn.Flatten()]), nn.Linear(64, 10)

    for model, message in (
        (Parallel(), "one after another; this fails .*give the network a `prepare"),
        (Strange(), "one after another; this fails .*shapes cannot be multiplied"),
        (Cut(), r"cannot mirror a block from shape \(1, 8, 8\) to \(64,\)"),
    ):
        job = job_of(Recipe(data=FEW, start="autoencoder"), model=model)
        with pytest.raises(RecipeError, match=message):
            kinds.start.resolve("autoencoder")(job)
        assert all(one.training for one in model.modules())
