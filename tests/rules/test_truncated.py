"""Recurrences whose state is cut between calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag

TIME, HIDDEN = 8, 16


class Recall(nn.Module):
    """The class is what the first step shows. between: what becomes of the state from one step to the next."""

    def __init__(self, cell: nn.Module, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.cell, self.between, self.head = cell, between, nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), HIDDEN)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], self.between(h))
        return self.head(h)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.comes, self.stays = nn.Linear(3, HIDDEN), nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.comes(x) + self.stays(h))


def _found(cell: nn.Module, between: Callable[[Tensor], Tensor], time: int = TIME) -> list[diag.Finding]:
    torch.manual_seed(0)
    model = Recall(cell, between)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with diag.watch(model) as watch:
        for _ in range(20):
            labels = torch.randint(3, (32,))
            x = torch.randn(32, time, 3)
            x[:, 0] = 3.0 * F.one_hot(labels, 3)
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()
    every = [two for one in watch.diagnose().findings for two in (one, *one.consequences)]
    return [one for one in every if one.evidence.get("of") == "calls"]


@pytest.mark.parametrize(("cell", "names"), [(nn.GRUCell, ["cell"]), (Own, ["cell.comes", "cell.stays"])])
def test_a_state_that_is_cut_is_an_error(cell: type[nn.Module], names: list[str]) -> None:
    (finding,) = _found(cell() if cell is Own else cell(3, HIDDEN), Tensor.detach)
    assert (finding.rule, finding.severity, finding.evidence["sites"]) == ("missing-gradient", "error", names)
    assert finding.evidence["calls"] == TIME
    assert f"{TIME} times in each step, and only the last call gets a gradient" in finding.message


def test_a_state_that_goes_on_is_none() -> None:
    assert not _found(nn.GRUCell(3, HIDDEN), lambda h: h)


def test_few_calls_are_none() -> None:
    assert not _found(nn.GRUCell(3, HIDDEN), Tensor.detach, time=3)


def test_a_state_that_is_cut_now_and_then_is_none() -> None:
    count = iter(range(10_000))
    assert not _found(nn.GRUCell(3, HIDDEN), lambda h: h.detach() if next(count) % 4 == 0 else h)


def test_passes_of_which_one_counts_are_none() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with diag.watch(model) as watch:
        for _ in range(20):
            x = torch.randn(32, 3)
            outs = [model(x) for _ in range(5)]
            optimizer.zero_grad()
            F.cross_entropy(outs[-1], x.argmax(1)).backward()
            optimizer.step()
    assert not [one for one in watch.diagnose().findings if one.evidence.get("of") == "calls"]


def test_steps_to_a_fixed_point_without_a_graph_are_none() -> None:
    """Of a deep equilibrium model only the last step is differentiated, on purpose."""

    class Equilibrium(Recall):
        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), HIDDEN)
            with torch.no_grad():
                for _ in range(6):
                    h = self.cell(x[:, 0], h)
            return self.head(self.cell(x[:, 0], h))

    torch.manual_seed(0)
    model = Equilibrium(nn.GRUCell(3, HIDDEN), lambda h: h)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with diag.watch(model) as watch:
        for _ in range(20):
            x = torch.randn(32, 1, 3)
            optimizer.zero_grad()
            F.cross_entropy(model(x), x[:, 0].argmax(1)).backward()
            optimizer.step()
    diagnosis = watch.diagnose()
    assert "cell" in diagnosis.trace.coverage["without_graph"]
    assert not [one for one in diagnosis.findings if one.evidence.get("of") == "calls"]
