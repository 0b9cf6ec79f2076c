"""What the two ways of learning without labels share: the reusable part of a network, and batches of inputs."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn

from diag.recipes.spec import RecipeError


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The reusable lower part of a network, from the input upwards.

    Raises: RecipeError for a network that has no `blocks` below a `head`.
    """
    blocks = getattr(model, "blocks", None)
    if (
        not isinstance(blocks, nn.ModuleList)
        or not len(blocks)
        or not isinstance(model._modules.get("head"), nn.Module)
    ):
        raise RecipeError(
            f"{type(model).__name__} has no layers that could be reused: it needs `blocks`, an nn.ModuleList from the "
            f"input upwards that is not empty (depth 0 gives none), below a `head`"
        )
    return blocks


def headless(model: nn.Module) -> nn.Module:
    """The same modules, sharing their weights, with an identity for `head`: inputs to features."""
    body = copy.copy(model)
    body._modules = {**model._modules, "head": nn.Identity()}
    return body


def input_batches(inputs: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Endless batches of independent draws, by torch's global generator."""
    while True:
        yield inputs[torch.randint(len(inputs), (size,))]
