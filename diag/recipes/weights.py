"""The weight matrices of a model, each with its own fans, whatever layer holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import is_parametrized

from diag.recipes.spec import RecipeError

_GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1, nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}


@dataclass(frozen=True)
class Layer:
    """A module and its weights: name -> how many matrices lie below one another in it. transposed: [in, out, ...]."""

    module: nn.Module
    weights: dict[str, int]
    biases: tuple[str, ...]
    transposed: bool = False

    def fill(self, rule: Callable[[torch.Tensor], None], device: torch.device) -> None:
        """Have the rule fill each matrix [out, in, *kernel], on `device`, and copy it into the weight."""
        for name, count in self.weights.items():
            weight = getattr(self.module, name)
            if weight is None:
                continue
            with torch.no_grad():
                drawn = [self._drawn(one, rule, device) for one in weight.chunk(count)]
                self._set(name, torch.cat(drawn).to(weight.device, weight.dtype))

    def zero_biases(self) -> None:
        """Set every bias to 0."""
        with torch.no_grad():
            for name in self.biases:
                bias = getattr(self.module, name)
                if bias is not None:
                    self._set(name, torch.zeros_like(bias))

    def scale(self, factor: float) -> None:
        """Multiply every weight by a factor."""
        with torch.no_grad():
            for name in self.weights:
                self._set(name, getattr(self.module, name) * factor)

    def _drawn(self, like: torch.Tensor, rule: Callable[[torch.Tensor], None], device: torch.device) -> torch.Tensor:
        shape = like.transpose(0, 1).shape if self.transposed else like.shape
        # At least in single precision: an orthogonal matrix cannot be had in less.
        matrix = torch.empty(shape, dtype=torch.promote_types(like.dtype, torch.float32), device=device)
        rule(matrix)
        return matrix.transpose(0, 1) if self.transposed else matrix

    def _set(self, name: str, value: torch.Tensor) -> None:
        if is_parametrized(self.module, name):
            setattr(self.module, name, value)
        else:
            getattr(self.module, name).copy_(value)


def layers_of(model: nn.Module) -> Iterator[Layer]:
    """Every linear, convolutional, recurrent and attention layer, in the order of the model's modules."""
    for module in model.modules():
        layer = layer_of(module)
        if layer is not None:
            yield layer


def layer_of(module: nn.Module) -> Layer | None:
    """The weights and biases of one module; None if it is no such layer."""
    if isinstance(module, nn.Linear):
        return Layer(module, {"weight": 1}, ("bias",))
    if isinstance(module, _ConvNd):
        return Layer(module, {"weight": module.groups}, ("bias",), isinstance(module, _ConvTransposeNd))
    if isinstance(module, nn.MultiheadAttention):
        separate = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        # `out_proj` is a Linear of its own.
        return Layer(module, {"in_proj_weight": 3, **dict.fromkeys(separate, 1)}, ("in_proj_bias", "bias_k", "bias_v"))
    if is_input_first(module):
        return Layer(module, {"weight": 1}, ("bias",), transposed=True)
    for kind, gates in _GATES.items():
        if isinstance(module, kind):
            names = [name for name, _ in module.named_parameters(recurse=False)]
            # A projection (weight_hr) is one matrix whatever the gates.
            weights = {name: 1 if "_hr" in name else gates for name in names if name.startswith("weight")}
            return Layer(module, weights, tuple(name for name in names if name.startswith("bias")))
    return None


def is_input_first(module: nn.Module) -> bool:
    """Whether it is the linear layer of transformers' GPT-2, by its name: its weight is [in, out]."""
    weight = module._parameters.get("weight")
    return type(module).__name__ == "Conv1D" and weight is not None and weight.ndim == 2


def materialize(model: nn.Module, inputs: torch.Tensor | None) -> None:
    """Give lazy layers their shapes by a pass over one batch.

    Raises: RecipeError if there are lazy layers and no batch.
    """
    if not any(isinstance(one, UninitializedParameter) for one in model.parameters()):
        return
    if inputs is None:
        raise RecipeError(f"{type(model).__name__} has lazy layers: give a batch of inputs, from which they get shapes")
    training = model.training
    with torch.no_grad():
        model.eval()(inputs)
    model.train(training)
