"""Initializations: the rules by which the weights of a network are drawn, and how they are applied to a model.

fan_in is the number of inputs of one unit, fan_out the number of units that one input reaches, both times the size of
the receptive field for a convolution; fan_avg is their mean.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from diag.recipes.kinds import init
from diag.recipes.lsuv import lsuv
from diag.recipes.spec import RecipeError, parse_spec
from diag.recipes.weights import layers_of, materialize


def initialize(model: nn.Module, spec: str, generator: torch.Generator, inputs: torch.Tensor | None = None) -> None:
    """Draw the weights of every linear, convolutional, recurrent and attention layer anew, and set their biases to 0.

    Each gate of a recurrent layer, each of an attention's three projections and each group of a convolution is a
    matrix of its own, with its own fans. Embeddings, normalizations and a user's own parameters are left alone. The
    numbers depend on the generator alone, not on the model's device. `default` leaves all as it is.

    inputs: one batch, for the initializations that look at data.

    Raises: RecipeError for a name, option or number that cannot be, or where a batch is needed and none is given.
    """
    fill = init.resolve(spec)
    materialize(model, inputs)
    name = parse_spec(spec).name
    if name == "default":
        return
    entry = init.entry(name)
    if getattr(entry.build, "whole_model", False):
        if inputs is None:
            raise RecipeError(f"the initialization '{name}' looks at data: give it a batch of inputs")
        fill(model, inputs, generator)
        return
    for layer in layers_of(model):
        layer.fill(lambda weight: fill(weight, generator), generator.device)
        layer.zero_biases()


def fans(weight: torch.Tensor) -> tuple[int, int]:
    """fan_in and fan_out of a weight [out, in, *kernel]."""
    field = math.prod(weight.shape[2:])
    return weight.shape[1] * field, weight.shape[0] * field


@init("default")
def _default(weight: torch.Tensor, generator: torch.Generator) -> None:
    """What torch's layers draw by themselves: for linear and convolutional ones U[-1/sqrt(fan_in), 1/sqrt(fan_in)]."""


@init("legacy_uniform", source="Glorot & Bengio 2010, equation 1")
def _legacy_uniform(weight: torch.Tensor, generator: torch.Generator) -> None:
    """U[-1/sqrt(fan_in), 1/sqrt(fan_in)], variance 1 / (3 fan_in): the standard initialization of 2010."""
    bound = 1 / math.sqrt(fans(weight)[0])
    nn.init.uniform_(weight, -bound, bound, generator=generator)


@init("glorot_uniform", source="Glorot & Bengio 2010, equation 16")
def _glorot_uniform(weight: torch.Tensor, generator: torch.Generator) -> None:
    """U[-r, r] with r = sqrt(3 / fan_avg), variance 1 / fan_avg."""
    nn.init.xavier_uniform_(weight, generator=generator)


@init("glorot_normal", source="Glorot & Bengio 2010, equation 12")
def _glorot_normal(weight: torch.Tensor, generator: torch.Generator) -> None:
    """N(0, 1 / fan_avg)."""
    nn.init.xavier_normal_(weight, generator=generator)


@init("lecun_normal", source="LeCun et al. 1998, Efficient BackProp, section 4.6")
def _lecun_normal(weight: torch.Tensor, generator: torch.Generator) -> None:
    """N(0, 1 / fan_in)."""
    nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=generator)


@init("lecun_uniform", source="LeCun et al. 1998, Efficient BackProp, section 4.6")
def _lecun_uniform(weight: torch.Tensor, generator: torch.Generator) -> None:
    """U[-r, r] with r = sqrt(3 / fan_in), variance 1 / fan_in."""
    nn.init.kaiming_uniform_(weight, nonlinearity="linear", generator=generator)


@init("he_normal", source="He et al. 2015, Delving Deep into Rectifiers, equations 10 and 15")
def _he_normal(weight: torch.Tensor, generator: torch.Generator, *, negative_slope: float = 0.0) -> None:
    """N(0, 2 / ((1 + a^2) fan_in)), a = negative_slope of the rectifier."""
    nn.init.kaiming_normal_(weight, a=negative_slope, nonlinearity="leaky_relu", generator=generator)


@init("he_uniform", source="He et al. 2015, Delving Deep into Rectifiers, equations 10 and 15")
def _he_uniform(weight: torch.Tensor, generator: torch.Generator, *, negative_slope: float = 0.0) -> None:
    """U[-r, r] with r = sqrt(6 / ((1 + a^2) fan_in)), variance 2 / ((1 + a^2) fan_in)."""
    nn.init.kaiming_uniform_(weight, a=negative_slope, nonlinearity="leaky_relu", generator=generator)


@init("orthogonal", source="Saxe, McClelland & Ganguli 2014, section 3")
def _orthogonal(weight: torch.Tensor, generator: torch.Generator, *, gain: float = 1.0) -> None:
    """gain Q, where the rows or the columns of Q [out, in x kernel] are orthonormal, whichever are fewer."""
    nn.init.orthogonal_(weight, gain, generator=generator)


@init("normal")
def _normal(weight: torch.Tensor, generator: torch.Generator, *, std: float = 0.01) -> None:
    """N(0, std^2), whatever the fans."""
    if std < 0:
        raise RecipeError(f"normal needs std from 0, got {std!r}")
    nn.init.normal_(weight, 0.0, std, generator=generator)


@init("constant")
def _constant(weight: torch.Tensor, generator: torch.Generator, *, value: float = 0.01) -> None:
    """Every weight the same: all units of a layer stay alike, a fault to study."""
    nn.init.constant_(weight, value)


init("lsuv", source="Mishkin & Matas 2016, All You Need is a Good Init, algorithm 1")(lsuv)
