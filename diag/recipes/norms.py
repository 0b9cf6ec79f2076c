"""Normalizations that a network puts between a layer and its activation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from diag.recipes.kinds import norm
from diag.recipes.spec import RecipeError

_BATCH_NORMS: dict[int, Callable[..., nn.Module]] = {
    0: nn.BatchNorm1d,
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}


class FeaturesLast(nn.Module):
    """A normalization of [batch, features, length] applied to [batch, length, features]."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, length, features] to the same."""
        return self.norm(inputs.transpose(1, -1)).transpose(1, -1)


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is at most `most`."""
    return max(one for one in range(1, min(most, number) + 1) if number % one == 0)


@norm("none")
def _none(features: int, dims: int) -> nn.Module | None:
    """No normalization."""
    return None


@norm("batch", source="Ioffe & Szegedy 2015, Batch Normalization, algorithms 1 and 2")
def _batch(features: int, dims: int, *, momentum: float = 0.1, eps: float = 1e-5) -> nn.Module | None:
    """Batch normalization: per feature, over the batch and all positions.

    z = gamma (x - mu) / sqrt(var + eps) + beta, with the batch's mean and biased variance in training; at prediction
    with running means, in which each batch has the share `momentum` (of the mean and of the unbiased variance).
    """
    if dims == -1:
        return FeaturesLast(nn.BatchNorm1d(features, eps=eps, momentum=momentum))
    if dims not in _BATCH_NORMS:
        raise RecipeError(f"a normalization's dims is -1 or one of {', '.join(map(str, _BATCH_NORMS))}; got {dims!r}")
    return _BATCH_NORMS[dims](features, eps=eps, momentum=momentum)


@norm("layer", source="Ba, Kiros & Hinton 2016, Layer Normalization, section 3")
def _layer(features: int, dims: int, *, eps: float = 1e-5) -> nn.Module | None:
    """Layer normalization: per sample, over all features (and positions, for channels first).

    z = gamma (x - mu) / sqrt(var + eps) + beta. Of [batch, length, features] each position is normalized apart. gamma
    and beta are one per feature; for channels that is a group normalization with one group (Wu & He 2018, section 3.1).
    """
    return nn.LayerNorm(features, eps=eps) if dims <= 0 else nn.GroupNorm(1, features, eps=eps)


@norm("group", source="Wu & He 2018, Group Normalization, section 3.1")
def _group(features: int, dims: int, *, groups: int = 8, eps: float = 1e-5) -> nn.Module | None:
    """Group normalization: per sample, over each group of features and all positions.

    The number of groups is the largest divisor of the features that is at most `groups`.
    """
    if groups < 1:
        raise RecipeError(f"group needs groups from 1, got {groups!r}")
    module = nn.GroupNorm(largest_divisor(features, groups), features, eps=eps)
    return FeaturesLast(module) if dims == -1 else module
