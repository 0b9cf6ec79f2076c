"""Recurrences of torch that forget from step to step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diag
from diag.rules.finding import Finding

TIME = 24


class First(nn.Module):
    """To tell the first token of a sequence at its end."""

    def __init__(self, recurrence: nn.Module) -> None:
        super().__init__()
        self.embed, self.recurrence, self.head = nn.Embedding(4, 12), recurrence, nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.recurrence(self.embed(x))[0][:, -1])
        return out


def _found(recurrence: nn.Module, time: int = TIME, steps: int = 40) -> list[tuple[str, str]]:
    return [(one.severity, one.site) for one in _findings(recurrence, time, steps)]


def _lengths(recurrence: nn.Module, time: int = TIME) -> list[int]:
    return [one.evidence["length"] for one in _findings(recurrence, time, 40)]


def _findings(recurrence: nn.Module, time: int, steps: int) -> list[Finding]:
    model = First(recurrence)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with diag.watch(model) as watch:
        for _ in range(steps):
            x = torch.randint(0, 4, (32, time))
            optimizer.zero_grad()
            F.cross_entropy(model(x), x[:, 0]).backward()
            optimizer.step()
    return [one for one in watch.diagnose().findings if one.evidence.get("of") == "recurrence"]


def rnn(factor: float) -> nn.Module:
    torch.manual_seed(0)
    found = nn.RNN(12, 24, batch_first=True)
    nn.init.orthogonal_(found.weight_hh_l0, gain=factor)
    return found


def lstm(bias: float) -> nn.Module:
    torch.manual_seed(0)
    found = nn.LSTM(12, 24, batch_first=True)
    with torch.no_grad():
        found.bias_ih_l0[24:48] = bias
        found.bias_hh_l0[24:48] = 0.0
    return found


class Looped(nn.Module):
    """A cell, called once for each time step, as a recurrence over sequences."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        state: Any = None
        for one in x.unbind(1):
            state = self.cell(one, state)
        return (state[0] if isinstance(state, tuple) else state)[:, None], None


class OneByOne(nn.Module):
    """A sequence module that is given one sample after another."""

    def __init__(self, recurrence: nn.Module) -> None:
        super().__init__()
        self.inner = recurrence

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return torch.stack([self.inner(one)[0] for one in x]), None


def lstm_cell(bias: float) -> nn.Module:
    torch.manual_seed(0)
    found = nn.LSTMCell(12, 24)
    with torch.no_grad():
        found.bias_ih[24:48] = bias
        found.bias_hh[24:48] = 0.0
    return Looped(found)


def rnn_cell(factor: float) -> nn.Module:
    torch.manual_seed(0)
    found = nn.RNNCell(12, 24)
    nn.init.orthogonal_(found.weight_hh, gain=factor)
    return Looped(found)


@pytest.mark.parametrize(("factor", "told"), [(0.2, True), (1.0, False)])
def test_a_recurrent_weight_that_is_small(factor: float, told: bool) -> None:
    assert _found(rnn(factor)) == ([("error", "recurrence")] if told else [])


@pytest.mark.parametrize(("bias", "told"), [(-3.0, True), (0.0, False)])
def test_a_forget_gate_that_is_shut(bias: float, told: bool) -> None:
    assert _found(lstm(bias)) == ([("error", "recurrence")] if told else [])


def test_where_little_has_to_be_kept_or_it_is_learned_nothing_is_said() -> None:
    assert _found(rnn(0.2), time=5) == [] and _found(lstm(-3.0), time=1, steps=60) == []


@pytest.mark.parametrize(
    ("cell", "told"), [(lstm_cell(-3.0), True), (lstm_cell(0.0), False), (rnn_cell(0.2), True), (rnn_cell(1.0), False)]
)
def test_cells_that_are_called_once_for_each_time_step(cell: nn.Module, told: bool) -> None:
    assert _found(cell) == ([("error", "recurrence.cell")] if told else [])


def test_the_calls_of_a_cell_in_a_pass_are_its_length() -> None:
    assert _lengths(lstm_cell(-3.0)) == [TIME] and _lengths(lstm_cell(-3.0), time=5) == []
    # Samples one by one, each without a dimension for them: calls of a module are no time steps.
    alone = lstm(-3.0)
    assert _lengths(OneByOne(alone)) == []
