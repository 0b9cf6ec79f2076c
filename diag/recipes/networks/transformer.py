"""A transformer encoder: residual blocks of attention and perceptron, each behind its normalization."""

from __future__ import annotations

import torch
from torch import nn

from diag.recipes.kinds import network
from diag.recipes.networks.stack import Make, MakeDropout, MakeNorm, Stack, as_sequence, sequence_shape
from diag.recipes.norms import largest_divisor
from diag.recipes.spec import RecipeError


class Embed(nn.Module):
    """A linear map of each step, plus a learned vector for each position."""

    def __init__(self, steps: int, features: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, width)
        self.positions = nn.Parameter(torch.randn(steps, width) * 0.02)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, steps, features] to [batch, steps, width]."""
        return self.linear(inputs) + self.positions


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + output(activation(linear(norm(x)))): pre-norm, on [batch, steps, width].

    embed: what the lowest block does first, so that whoever reuses that block reuses it too.
    """

    def __init__(
        self, width: int, heads: int, activation: Make, norm: MakeNorm, dropout: MakeDropout, embed: Embed | None
    ) -> None:
        super().__init__()
        self.embed = embed
        self.attention_norm = norm(width, -1)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.attention_dropout = dropout()
        self.norm = norm(width, -1)
        self.linear = nn.Linear(width, 4 * width)
        self.activation = activation()
        self.output = nn.Linear(4 * width, width)
        self.dropout = dropout()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, steps, width] to the same; the block with `embed` takes [batch, steps, features]."""
        hidden = _maybe(self.embed, inputs)
        normed = _maybe(self.attention_norm, hidden)
        attended, _ = self.attention(normed, normed, normed, need_weights=False)
        hidden = hidden + _maybe(self.attention_dropout, attended)
        bent = self.activation(self.linear(_maybe(self.norm, hidden)))
        return hidden + _maybe(self.dropout, self.output(bent))


class Transformer(Stack):
    """Its features are the means over all steps of the last block's output, normalized."""

    def __init__(self, blocks: list[TransformerBlock], head: nn.Linear, norm: nn.Module | None, patch: int) -> None:
        super().__init__(blocks, head)
        self.norm = norm
        self.patch = patch

    def prepare(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, steps, features]."""
        return as_sequence(inputs, self.patch)

    def summarize(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, width]."""
        return _maybe(self.norm, hidden).mean(1)


@network("transformer", source="Vaswani et al. 2017; pre-norm: Xiong et al. 2020, section 3")
def transformer(
    inputs: tuple[int, ...],
    outputs: int,
    depth: int,
    width: int,
    activation: Make,
    norm: MakeNorm,
    dropout: MakeDropout,
    *,
    heads: int = 4,
    patch: int = 8,
) -> nn.Module:
    """Pre-norm blocks of attention and a perceptron; [T, F] as it is, [C, H, W] row by row, [L] in patches.

    The perceptron has one hidden layer of 4 x width. The norm is the recipe's: "layer" is the usual one, and "none"
    means none. The number of heads is the largest divisor of width that is at most `heads`. The lowest block embeds: a
    linear map and learned positions. The head reads the mean over all steps.

    Raises: RecipeError for numbers of heads or a patch below 1.
    """
    if heads < 1 or patch < 1:
        raise RecipeError(f"transformer's heads and patch are whole numbers from 1, got {heads!r} and {patch!r}")
    steps, features = sequence_shape("transformer", inputs, patch)
    blocks = []
    for number in range(depth):
        embed = Embed(steps, features, width) if number == 0 else None
        blocks.append(TransformerBlock(width, largest_divisor(width, heads), activation, norm, dropout, embed))
    last = width if depth else features
    return Transformer(blocks, nn.Linear(last, outputs), norm(last, -1) if depth else None, patch)


def _maybe(module: nn.Module | None, inputs: torch.Tensor) -> torch.Tensor:
    return inputs if module is None else module(inputs)
