"""Faults of recurrent networks: gradients and states that vanish or explode over time."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from diag.train.workload import Workload
from tests.corpus.case import faulty
from tests.corpus.data import digits, waves
from tests.corpus.nets import adam, sgd

FADES = "vanishing-gradient collapsed-signal"
GROWS = "exploding-gradient exploding-activation diverging-loss non-finite oversized-update"


class Recall(nn.Module):
    """Reads a digit in one step, then idles; the class is asked for at the end."""

    def __init__(self, recurrent: float, idle: int, act: str, loop: bool, width: int = 32) -> None:
        super().__init__()
        self.idle, self.width = idle, width
        self.cell: nn.Module
        if loop:
            self.cell = nn.RNNCell(64, width, nonlinearity=act)
        else:
            self.cell = nn.RNN(64, width, nonlinearity=act, batch_first=True)
        weight = self.cell.get_parameter("weight_hh" if loop else "weight_hh_l0")
        nn.init.orthogonal_(weight)
        with torch.no_grad():
            weight.mul_(recurrent)
        for name, parameter in self.cell.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
        self.loop = loop
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        if not self.loop:
            inputs = torch.cat([x[:, None], x.new_zeros(len(x), self.idle, 64)], 1)
            return self.head(self.cell(inputs)[0][:, -1])
        state = self.cell(x)
        for _ in range(self.idle):
            state = self.cell(torch.zeros_like(x), state)
        return self.head(state)


def _recall(recurrent: float, idle: int = 40, act: str = "tanh", loop: bool = True) -> Workload:
    return adam(Recall(recurrent, idle, act, loop), digits(), 2e-3)


class Stepwise(nn.Module):
    """A vanilla network over a series of 40 values, read out at the end."""

    def __init__(self, scale: float, loop: bool, act: str) -> None:
        super().__init__()
        self.loop = loop
        self.cell: nn.Module = (
            nn.RNNCell(1, 32, nonlinearity=act) if loop else nn.RNN(1, 32, nonlinearity=act, batch_first=True)
        )
        weight = self.cell.weight_hh if loop else self.cell.weight_hh_l0
        nn.init.orthogonal_(weight)  # type: ignore[arg-type]
        with torch.no_grad():
            weight.mul_(scale)  # type: ignore[operator]
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        if not self.loop:
            return self.head(self.cell(x[..., None])[0][:, -1])
        state = None
        for value in x.unbind(1):
            state = self.cell(value[:, None], state)
        return self.head(state)


def _stepwise(scale: float, loop: bool, act: str = "relu", lr: float = 0.02) -> Workload:
    return sgd(Stepwise(scale, loop, act), waves(), lr)


CASES = [
    faulty("rnn-loop-vanishing", partial(_recall, 0.1), FADES, "0.1 per step over 40 steps", partial(_recall, 1.0)),
    faulty(
        "rnn-loop-vanishing-slow", partial(_recall, 0.6), FADES, "0.6 per step over 40 steps", partial(_recall, 1.0)
    ),
    faulty(
        "rnn-vanishing",
        partial(_recall, 0.1, 40, "tanh", False),
        FADES,
        "the same inside one fused module",
        partial(_recall, 1.0, 40, "tanh", False),
    ),
    faulty(
        "rnn-loop-exploding",
        partial(_recall, 2.5, 40, "relu"),
        GROWS,
        "2.5 per step over 40 steps",
        partial(_recall, 1.2, 8, "relu"),
    ),
    faulty(
        "rnn-exploding",
        partial(_recall, 2.5, 40, "relu", False),
        GROWS,
        "the same inside one fused module",
        partial(_recall, 1.2, 8, "relu", False),
    ),
    faulty(
        "rnn-loop-saturated",
        partial(_recall, 8.0, 60),
        "saturated-activation exploding-gradient",
        "tanh states at +-1: chaos",
        partial(_recall, 1.0),
    ),
    faulty(
        "rnn-series-exploding", partial(_stepwise, 4.0, True), GROWS, "4 per step over 40 steps", partial(_recall, 1.0)
    ),
    faulty(
        "rnn-series-exploding-fused",
        partial(_stepwise, 4.0, False),
        GROWS,
        "4 per step over 40 steps",
        partial(_recall, 1.0),
    ),
]
