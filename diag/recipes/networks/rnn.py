"""Recurrent networks, unrolled so that every step is seen, or fused by torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from diag.recipes.kinds import network
from diag.recipes.networks.stack import Make, MakeDropout, MakeNorm, Stack, as_sequence, block, sequence_shape
from diag.recipes.spec import RecipeError

_FUSED: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Elman(nn.Module):
    """h_t = phi(W x_t + b + U h_{t-1}), h_0 = 0, one call of the activation phi a step.

    Source: Elman 1990, Finding Structure in Time.
    """

    def __init__(self, features: int, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(features, width)
        self.recurrent = nn.Linear(width, width, bias=False)
        self.activation = activation

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, steps, features] to [batch, steps, width]."""
        state: torch.Tensor | None = None
        states = []
        for driven in self.linear(inputs).unbind(1):
            state = self.activation(driven if state is None else driven + self.recurrent(state))
            states.append(state)
        return torch.stack(states, 1)


class Unrolled(nn.Module):
    """An LSTM or GRU cell called step by step, from a state of 0."""

    def __init__(self, cell: nn.LSTMCell | nn.GRUCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, steps, features] to [batch, steps, width]."""
        state = None
        states = []
        for one in inputs.unbind(1):
            state = self.cell(one, state)
            states.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(states, 1)


class Fused(nn.Module):
    """One of torch's recurrent layers, of which only the states of all steps are handed on."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, steps, features] to [batch, steps, width]."""
        states: torch.Tensor = self.layer(inputs)[0]
        return states


class RNN(Stack):
    """Its features are the last step's state."""

    def prepare(self, inputs: torch.Tensor) -> torch.Tensor:
        """[batch, steps, features]."""
        return as_sequence(inputs)

    def summarize(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, width]."""
        return hidden[:, -1]


@network("rnn", source="Elman 1990; lstm: Hochreiter & Schmidhuber 1997; gru: Cho et al. 2014")
def rnn(
    inputs: tuple[int, ...],
    outputs: int,
    depth: int,
    width: int,
    activation: Make,
    norm: MakeNorm,
    dropout: MakeDropout,
    *,
    cell: str = "rnn",
    unrolled: bool = True,
) -> nn.Module:
    """Stacked recurrent layers, the head on the last step; [T, F] as it is, [C, H, W] row by row, [L] value by value.

    cell: rnn, whose activation is the recipe's; lstm or gru, which keep their own gates and take none. Each block is
    the recurrence, then norm and dropout on its states. unrolled: each step is a call of its own, which the probe sees;
    otherwise torch's fused layers, faster, with tanh or relu only.

    Raises: RecipeError for another cell, or a fused rnn with another activation.
    """
    _, features = sequence_shape("rnn", inputs)
    blocks = []
    for _ in range(depth):
        layer = _layer(cell, unrolled, features, width, activation)
        blocks.append(block(recurrence=layer, norm=norm(width, -1), dropout=dropout()))
        features = width
    return RNN(blocks, nn.Linear(features, outputs))


def _layer(cell: str, unrolled: bool, features: int, width: int, activation: Make) -> nn.Module:
    if cell not in _FUSED:
        raise RecipeError(f"rnn's cell is one of {', '.join(_FUSED)}; got {cell!r}")
    if unrolled:
        if cell == "rnn":
            return Elman(features, width, activation())
        return Unrolled((nn.LSTMCell if cell == "lstm" else nn.GRUCell)(features, width))
    if cell != "rnn":
        return Fused(_FUSED[cell](features, width, batch_first=True))
    name = type(activation()).__name__.lower()
    if name not in ("tanh", "relu"):
        raise RecipeError(f"rnn(unrolled=False) has torch's tanh or relu only, got {name}: leave unrolled=True")
    return Fused(nn.RNN(features, width, nonlinearity=name, batch_first=True))
