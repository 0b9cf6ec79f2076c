"""The multilayer perceptron."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from diag.recipes.kinds import network
from diag.recipes.networks.stack import Make, MakeDropout, MakeNorm, Stack, block


class MLP(Stack):
    """Reads every sample as one vector."""

    def prepare(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, values]."""
        return inputs.flatten(1)


@network("mlp", source="Rumelhart, Hinton & Williams 1986")
def mlp(
    inputs: tuple[int, ...],
    outputs: int,
    depth: int,
    width: int,
    activation: Make,
    norm: MakeNorm,
    dropout: MakeDropout,
) -> nn.Module:
    """Linear layers on the flattened sample; depth 0 is a linear model.

    Each block is linear, norm, activation, dropout (Ioffe & Szegedy 2015, section 3.2: the norm before the activation).
    """
    sizes = [math.prod(inputs), *[width] * depth]
    blocks = [
        block(linear=nn.Linear(before, after), norm=norm(after, 0), activation=activation(), dropout=dropout())
        for before, after in pairwise(sizes)
    ]
    return MLP(blocks, nn.Linear(sizes[-1], outputs))
