"""Layer-sequential unit-variance initialization."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from diag.recipes.spec import RecipeError
from diag.recipes.weights import Layer, layers_of


def lsuv(
    model: nn.Module,
    inputs: torch.Tensor,
    generator: torch.Generator,
    *,
    tol: float = 0.1,
    max_iterations: int = 10,
) -> None:
    """Orthogonal, then each layer scaled until its output on one batch has variance 1.

    From the first linear or convolutional layer that runs to the last: W <- W / sqrt(Var[output]), until |Var - 1| <
    tol or max_iterations are over. Biases are 0. Recurrent and attention weights stay orthogonal. A layer whose output
    does not vary is left as it is.

    Raises: RecipeError if tol or max_iterations cannot be.
    Source: Mishkin & Matas 2016, All You Need is a Good Init, algorithm 1.
    """
    if not tol > 0 or max_iterations < 1:
        raise RecipeError(f"lsuv needs tol > 0 and max_iterations from 1, got {tol!r} and {max_iterations!r}")
    scaled: list[Layer] = []
    for layer in layers_of(model):
        layer.fill(lambda weight: _orthogonal(weight, generator), generator.device)
        layer.zero_biases()
        if list(layer.weights) == ["weight"]:
            scaled.append(layer)
    with _as_at_first_step(model), torch.no_grad():
        # One pass scales all: each layer is scaled when it is called, and hands on its scaled output.
        for layer in scaled:
            layer.module.forward = _scaling(layer, tol, max_iterations)
        try:
            model(inputs)
        finally:
            for layer in scaled:
                layer.module.__dict__.pop("forward", None)


lsuv.whole_model = True  # type: ignore[attr-defined]


def _orthogonal(weight: torch.Tensor, generator: torch.Generator) -> None:
    nn.init.orthogonal_(weight, generator=generator)


def _scaling(layer: Layer, tol: float, max_iterations: int) -> Callable[..., torch.Tensor]:
    plain = layer.module.forward

    def forward(*args: Any, **kwargs: Any) -> torch.Tensor:
        layer.module.__dict__.pop("forward", None)  # at its first call only
        output: torch.Tensor = plain(*args, **kwargs)
        for _ in range(max_iterations):
            variance = float(output.var())
            if abs(variance - 1) < tol or not 0 < variance < float("inf"):
                break
            layer.scale(variance**-0.5)
            output = plain(*args, **kwargs)
        return output

    return forward


@contextmanager
def _as_at_first_step(model: nn.Module) -> Iterator[None]:
    """Without dropout, with batch normalization by the batch; afterwards modes and buffers are as they were."""
    modes = [(one, one.training) for one in model.modules()]
    buffers = [(one, one.clone()) for one in model.buffers()]
    fast = torch.backends.mha.get_fastpath_enabled()
    for one, _ in modes:
        one.training = isinstance(one, _BatchNorm)
    torch.backends.mha.set_fastpath_enabled(False)  # it would go past the layers
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for one, training in modes:
            one.training = training
        for buffer, before in buffers:
            buffer.copy_(before)
