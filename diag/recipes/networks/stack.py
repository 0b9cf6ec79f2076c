"""What every network here is: blocks, which can be reused, below a head, which cannot."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn import functional as F

from diag.recipes.spec import RecipeError

Make = Callable[[], nn.Module]
"""A new activation."""

MakeNorm = Callable[[int, int], "nn.Module | None"]
"""A new normalization of so many features with so many dimensions after them, as in `diag.recipes.kinds.norm`."""

MakeDropout = Callable[[], "nn.Module | None"]


class Stack(nn.Module):
    """head(features(inputs)), and features(inputs) = summarize(block(... block(prepare(inputs)))).

    blocks: the reusable lower part, from the input upwards. head: a linear layer to the outputs.
    """

    def __init__(self, blocks: Iterable[nn.Module], head: nn.Linear) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.head = head

    def prepare(self, inputs: torch.Tensor) -> torch.Tensor:
        """The inputs in the layout that the blocks take."""
        return inputs

    def summarize(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the last block gave, as [batch, features]."""
        return hidden

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the head is given, [batch, features]."""
        hidden = self.prepare(inputs)
        for block in self.blocks:
            hidden = block(hidden)
        return self.summarize(hidden)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, outputs]."""
        return self.head(self.features(inputs))


def block(**parts: nn.Module | None) -> nn.Sequential:
    """The parts that there are, one after another, under their names: `blocks.0.linear`, `blocks.0.activation`."""
    return nn.Sequential(OrderedDict((name, part) for name, part in parts.items() if part is not None))


def sequence_shape(name: str, inputs: tuple[int, ...], patch: int = 1) -> tuple[int, int]:
    """Steps and features of a sample read as a sequence: see `as_sequence`.

    Raises: RecipeError for a shape of none or more than three dimensions.
    """
    if len(inputs) == 1:
        return math.ceil(inputs[0] / patch), patch
    if len(inputs) == 2:
        return inputs[0], inputs[1]
    if len(inputs) == 3:
        return inputs[1], inputs[0] * inputs[2]
    raise wrong_shape(name, "[length], [steps, features] or [channels, height, width]", inputs)


def as_sequence(inputs: torch.Tensor, patch: int = 1) -> torch.Tensor:
    """[batch, steps, features] of sequences as they are, of images row by row, and of signals in patches.

    [batch, length] is cut into patches of so many values, the last one filled with zeros.
    """
    if inputs.ndim == 2:
        return F.pad(inputs, (0, -inputs.shape[1] % patch)).unflatten(1, (-1, patch))
    return inputs.transpose(1, 2).flatten(2) if inputs.ndim == 4 else inputs


def wrong_shape(name: str, expected: str, inputs: tuple[int, ...]) -> RecipeError:
    """What is raised where a network cannot read samples of a shape."""
    return RecipeError(f"the network '{name}' reads samples of shape {expected}, got {list(inputs)}")
