"""A plain convolutional network."""

from __future__ import annotations

import torch
from torch import nn

from diag.recipes.kinds import network
from diag.recipes.networks.stack import Make, MakeDropout, MakeNorm, Stack, block, wrong_shape
from diag.recipes.spec import RecipeError


class CNN(Stack):
    """Reads a signal [length] as one channel; its features are the channels' means over all positions."""

    def prepare(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, channels, *positions]."""
        return inputs.unsqueeze(1) if inputs.ndim == 2 else inputs

    def summarize(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, channels]."""
        return hidden.flatten(2).mean(-1)


@network("cnn", source="LeCun et al. 1998; global average pooling: Lin, Chen & Yan 2014, section 3.2")
def cnn(
    inputs: tuple[int, ...],
    outputs: int,
    depth: int,
    width: int,
    activation: Make,
    norm: MakeNorm,
    dropout: MakeDropout,
    *,
    pool_every: int = 0,
) -> nn.Module:
    """Convolutions with kernel 3 and padding 1, then the mean over positions; for [L], [C, L] and [C, H, W].

    Each block is conv, norm, activation, dropout, and after every `pool_every` blocks (0: never) a max-pooling by 2, as
    long as every side is at least 2.
    """
    if not 1 <= len(inputs) <= 3:
        raise wrong_shape("cnn", "[length], [channels, length] or [channels, height, width]", inputs)
    if pool_every < 0:
        raise RecipeError(f"cnn's pool_every is 0 for never, or a number of blocks; got {pool_every!r}")
    channels, *sides = inputs if len(inputs) > 1 else (1, *inputs)
    conv, pool = (nn.Conv1d, nn.MaxPool1d) if len(sides) == 1 else (nn.Conv2d, nn.MaxPool2d)
    blocks = []
    for number in range(1, depth + 1):
        pools = pool_every > 0 and number % pool_every == 0 and min(sides) >= 2
        blocks.append(
            block(
                conv=conv(channels, width, 3, padding=1),
                norm=norm(width, len(sides)),
                activation=activation(),
                dropout=dropout(),
                pool=pool(2) if pools else None,
            )
        )
        channels = width
        sides = [one // 2 for one in sides] if pools else sides
    return CNN(blocks, nn.Linear(channels, outputs))
