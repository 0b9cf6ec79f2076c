"""Regularizers: noise in the network, penalties on the weights, limits to them, and stopping in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from diag.recipes.kinds import regularizer
from diag.recipes.regularizer import Regularizer
from diag.recipes.spec import RecipeError

ROWS_ARE_UNITS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
"""Modules in whose weights the first index is the unit that the rest of the row goes into."""


def penalized(model: nn.Module) -> Iterator[torch.Tensor]:
    """The trainable weights of two or more dimensions: not biases, gains, or what is frozen."""
    return (one for one in model.parameters() if one.requires_grad and one.ndim >= 2)


@regularizer("dropout", source="Srivastava et al. 2014; inverted")
def dropout(*, p: float = 0.5) -> Regularizer:
    """Each hidden activation is zeroed with probability p in training and else divided by 1 - p: the mean is kept."""
    _probability("dropout", p)
    return Regularizer(dropout=lambda: nn.Dropout(p))


@regularizer("alpha_dropout", source="Klambauer et al. 2017, section 3 (new dropout technique)")
def alpha_dropout(*, p: float = 0.1) -> Regularizer:
    """Dropout to SELU's lower limit instead of 0, scaled and shifted so that mean 0 and variance 1 are kept."""
    _probability("alpha_dropout", p)
    return Regularizer(dropout=lambda: nn.AlphaDropout(p))


@regularizer("l1", source="Tibshirani 1996")
def l1(*, strength: float = 1e-4) -> Regularizer:
    """Adds strength * sum |w| over the weights (not biases) to the loss."""
    _strength("l1", strength)
    return Regularizer(penalty=lambda model: strength * _total(one.abs().sum() for one in penalized(model)))


@regularizer("l2", source="Hoerl & Kennard 1970")
def l2(*, strength: float = 1e-4) -> Regularizer:
    """Adds strength * sum w^2 over the weights (not biases) to the loss; its gradient is 2 strength w."""
    _strength("l2", strength)
    return Regularizer(penalty=lambda model: strength * _total(one.square().sum() for one in penalized(model)))


@regularizer("weight_decay", source="Loshchilov & Hutter 2019, equation 1")
def weight_decay(*, strength: float = 1e-2) -> Regularizer:
    """Decoupled: after each step w <- w - eta strength w, for the weights (not biases), under any optimizer."""
    _strength("weight_decay", strength)

    @torch.no_grad()
    def decay(model: nn.Module, lr: float) -> None:
        for one in penalized(model):
            one.mul_(1 - lr * strength)

    return Regularizer(after_step=decay)


@regularizer("max_norm", source="Srebro & Shraibman 2005; Srivastava et al. 2014, section 5.1")
def max_norm(*, c: float = 3.0) -> Regularizer:
    """After each step every unit's incoming weights are scaled back to norm c where theirs is larger: ||w||_2 <= c.

    A unit is a row of a linear layer, a filter of a convolution, a row of a recurrent layer's input or recurrent
    weights, of each gate, or of an attention's projections; the output layer's are limited too.
    """
    if not c > 0:
        raise RecipeError(f"the regularizer 'max_norm' takes c above 0, got {c!r}")

    @torch.no_grad()
    def limit(model: nn.Module, lr: float) -> None:
        for module in model.modules():
            if isinstance(module, ROWS_ARE_UNITS):
                for weight in module.parameters(recurse=False):
                    if weight.requires_grad and weight.ndim >= 2:
                        weight.copy_(torch.renorm(weight, p=2, dim=0, maxnorm=c))

    return Regularizer(after_step=limit)


@regularizer("early_stopping", source="Prechelt 1998")
def early_stopping(*, patience: int = 5) -> Regularizer:
    """Ends after `patience` validations without a new best validation loss, and restores the best weights."""
    if patience < 1:
        raise RecipeError(f"the regularizer 'early_stopping' takes a patience from 1, got {patience!r}")
    return Regularizer(patience=patience)


def _total(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    return sum(terms, start=torch.zeros(()))


def _probability(name: str, p: float) -> None:
    if not 0 <= p < 1:
        raise RecipeError(f"the regularizer '{name}' takes p from 0 and below 1, got {p!r}")


def _strength(name: str, strength: float) -> None:
    if not strength >= 0:
        raise RecipeError(f"the regularizer '{name}' takes a strength from 0, got {strength!r}")
