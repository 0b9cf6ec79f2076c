"""Gradient clipping, between the backward pass and the optimizer's step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from diag.recipes.kinds import clipping
from diag.recipes.spec import RecipeError


@clipping("none")
def none(parameters: Iterable[torch.Tensor]) -> None:
    """Gradients as they are."""


@clipping("value", source="Mikolov 2012, section 3.3")
def value(parameters: Iterable[torch.Tensor], *, clip_value: float = 1.0) -> None:
    """Each element into [-clip_value, clip_value], which turns the direction: [0.9, 100] becomes [0.9, 1.0].

    Infinite elements become finite; NaN stays. Raises: RecipeError for a clip_value that is not above 0.
    """
    if not clip_value > 0:
        raise RecipeError(f"the clipping 'value' takes a clip_value above 0, got {clip_value!r}")
    nn.utils.clip_grad_value_(parameters, clip_value)


@clipping("norm", source="Pascanu, Mikolov & Bengio 2013, algorithm 1")
def norm(parameters: Iterable[torch.Tensor], *, max_norm: float = 1.0) -> None:
    """g <- g min(1, max_norm / |g|), |g| over all parameters together, which keeps the direction.

    [0.9, 100] becomes [0.0089996, 0.9999595]. torch adds 1e-6 to |g|. A norm that is not finite leaves zeros and NaN
    behind. Raises: RecipeError for a max_norm that is not above 0.
    """
    if not max_norm > 0:
        raise RecipeError(f"the clipping 'norm' takes a max_norm above 0, got {max_norm!r}")
    nn.utils.clip_grad_norm_(parameters, max_norm)
