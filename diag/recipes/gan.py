"""Unsupervised pretraining: the network, with another head, as the discriminator of a generative adversarial net."""

from __future__ import annotations

import math

import torch
from torch import nn

from diag.recipes.pretraining import headless, input_batches

GENERATOR_WIDTH = 128


def pretrain_gan(
    model: nn.Module, inputs: torch.Tensor, *, steps: int, lr: float, latent: int, batch_size: int, seed: int
) -> list[tuple[float, float]]:
    """Train the model's lower part in place to tell inputs from generated ones; generator and new head are dropped.

    The discriminator D minimizes -log D(x) - log(1 - D(G(z))), z ~ N(0, I) of `latent` values, the generator G the
    non-saturating -log D(G(z)); G is a ReLU layer of 128 units and a linear one; both learn by Adam with beta1 = 0.5.
    Returns each step's losses, the discriminator's (ln 4 where it cannot tell) and the generator's.
    Source: Goodfellow et al. 2014, algorithm 1 and section 3; Radford et al. 2016, section 4.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = headless(model)
        body.eval()
        with torch.no_grad():
            features = body(inputs[:2]).flatten(1).shape[1]
        body.train()
        discriminator = nn.Sequential(body, nn.Flatten(), nn.Linear(features, 1))
        generator = nn.Sequential(
            nn.Linear(latent, GENERATOR_WIDTH), nn.ReLU(), nn.Linear(GENERATOR_WIDTH, math.prod(inputs.shape[1:]))
        )
        judging, making = (
            torch.optim.Adam(one.parameters(), lr=lr, betas=(0.5, 0.999)) for one in (discriminator, generator)
        )
        batches = input_batches(inputs, batch_size)
        losses = [_round(next(batches), latent, discriminator, generator, judging, making) for _ in range(steps)]
        judging.zero_grad()
    return losses


def _round(
    real: torch.Tensor,
    latent: int,
    discriminator: nn.Module,
    generator: nn.Module,
    judging: torch.optim.Optimizer,
    making: torch.optim.Optimizer,
) -> tuple[float, float]:
    """One step of each. softplus(-s) = -log D and softplus(s) = -log(1 - D) for D = sigmoid(s)."""
    softplus = nn.functional.softplus
    made = generator(torch.randn(len(real), latent)).view_as(real)
    judging.zero_grad()
    scores = discriminator(torch.cat([real, made.detach()]))
    judged = softplus(-scores[: len(real)]).mean() + softplus(scores[len(real) :]).mean()
    judged.backward()
    judging.step()
    making.zero_grad()
    fooled = softplus(-discriminator(made)).mean()
    fooled.backward()
    making.step()
    return float(judged.detach()), float(fooled.detach())
