"""The GAN: its losses against an independent computation, and what is learned."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diag.recipes.gan import pretrain_gan
from diag.recipes.pretraining import headless
from diag.recipes.recipe import Recipe
from diag.recipes.starts import all_inputs
from tests.recipes.start_jobs import FEW, NETWORKS, job_of

OPTIONS: dict[str, Any] = {"steps": 60, "lr": 0.002, "latent": 8, "batch_size": 32, "seed": 0}


def pretrained(recipe: Recipe, **options: Any) -> list[tuple[float, float]]:
    job = job_of(recipe.but(data=FEW))
    return pretrain_gan(job.model, all_inputs(job), **{**OPTIONS, **options})


def test_the_first_round_by_hand() -> None:
    """Both losses as binary cross-entropies, with the same draws in the same order, at a rate of 0."""
    recipe = NETWORKS["mlp"]
    (got,) = pretrained(recipe, steps=1, lr=0.0)
    job = job_of(recipe.but(data=FEW))
    inputs = all_inputs(job)
    torch.manual_seed(0)
    head = nn.Linear(16, 1)
    first, second = nn.Linear(8, 128), nn.Linear(128, 64)
    real = inputs[torch.randint(len(inputs), (32,))]
    made = second(first(torch.randn(32, 8)).relu())
    body = job.model.blocks
    on_real, on_made = (head(body[2](body[1](body[0](x.flatten(1))))) for x in (real, made))
    ones, zeros = torch.ones(32, 1), torch.zeros(32, 1)
    judged = F.binary_cross_entropy_with_logits(on_real, ones) + F.binary_cross_entropy_with_logits(on_made, zeros)
    fooled = F.binary_cross_entropy_with_logits(on_made, ones)
    assert got == pytest.approx((judged.item(), fooled.item()), rel=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_discriminator_learns_to_tell(name: str) -> None:
    losses = [one[0] for one in pretrained(NETWORKS[name], lr=0.01)]
    assert len(losses) == 60 and np.isfinite(losses).all()
    assert np.mean(losses[-20:]) < math.log(4) - 0.1


def test_the_generator_answers() -> None:
    """Once the generator has learned too, the discriminator is worse off than after its first rounds."""
    losses = np.array(pretrained(NETWORKS["mlp"], steps=600))
    best = losses[:100, 0].min()
    assert losses[-100:, 0].mean() > best + 0.1
    assert losses[-100:, 1].mean() < losses[:, 1].max() - 0.1


def test_the_body_shares_its_weights_and_leaves_the_head() -> None:
    model = job_of(NETWORKS["mlp"]).model
    body = headless(model)
    assert body.blocks is model.blocks and isinstance(body.head, nn.Identity) and isinstance(model.head, nn.Linear)
    inputs = torch.randn(3, 1, 8, 8)
    assert torch.equal(model.head(body(inputs)), model(inputs))
