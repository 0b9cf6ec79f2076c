"""A network that is called several times in a step has as many layers as it has, unless it is unrolled in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import diag
from diag.rules.dead import dead_units
from diag.rules.evidence import Evidence
from diag.rules.gradients import exploding_gradient, vanishing_gradient
from diag.rules.passes import by_layer
from tests.rules.traces import DEFAULTS, chain, evidence


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with a ReLU between."""
    pairs = pairwise(sizes)
    return nn.Sequential(*[part for pair in pairs for part in (nn.Linear(*pair), nn.ReLU())][:-1])


def seen(model: nn.Module, loss: Callable[[], Tensor], steps: int = 3) -> Evidence:
    """What a few steps with this loss show."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with diag.watch(model, optimizer) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
    return Evidence(watch.trace, DEFAULTS)


def depth(found: Evidence) -> int:
    """Over how many layers the gradient's trend is told."""
    trend = by_layer(found).trend("gradient", found.late, "norm")
    return 0 if trend is None else len(trend.sites)


def test_calls_of_a_whole_network_are_one_batch() -> None:
    net, batch = mlp(6, 16, 8, 4), torch.randn(30, 6)
    apart = seen(net, lambda: torch.stack([(net(part) ** 2).sum() for part in batch.split(10)]).sum(), 1)
    whole = seen(net, lambda: (net(batch) ** 2).sum(), 1)
    assert (depth(apart), depth(whole)) == (3, 3)
    assert len(apart.trend("gradient", apart.late, "norm").sites) == 9  # type: ignore[union-attr]
    for column in ("norm", "rms", "count"):
        profiles = [by_layer(one).profile("gradient", one.late, column) for one in (apart, whole)]
        # Weights have moved by a thousandth since.
        pd.testing.assert_series_equal(*profiles, rtol=0.2)


def test_an_episode_of_uneven_length() -> None:
    net, lengths = mlp(2, 32, 16, 2), iter([10, 3, 17])
    found = seen(net, lambda: torch.stack([net(torch.randn(8, 2)).sum() for _ in range(next(lengths))]).mean())
    assert depth(found) == 3


class Unrolled(nn.Module):
    """A cell written by hand, unrolled in one forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, series: Tensor) -> Tensor:
        state = series.new_zeros(series.shape[1], 6)
        for one in series:
            state = torch.tanh(self.second(torch.tanh(self.first(torch.cat([one, state], 1)))))
        return self.head(state)


def test_steps_in_time_stay_a_depth() -> None:
    net = Unrolled()
    assert depth(seen(net, lambda: net(torch.randn(5, 4, 2)).sum())) == 11


def test_steps_in_time_of_a_network_that_is_called_twice() -> None:
    net = Unrolled()
    assert depth(seen(net, lambda: (net(torch.randn(5, 4, 2)) - net(torch.randn(5, 4, 2))).square().sum())) == 11


def test_a_state_that_is_handed_on_outside_of_the_network_is_time() -> None:
    net = mlp(6, 16, 6)

    def rollout() -> Tensor:
        state = torch.randn(4, 6)
        for _ in range(5):
            state = net(state)
        return state.sum()

    assert depth(seen(net, rollout)) == 10


@pytest.mark.parametrize("cell", [nn.RNNCell(2, 6), nn.Linear(8, 6)])
def test_a_cell_that_is_called_by_the_loop_is_time(cell: nn.Module) -> None:
    def unrolled() -> Tensor:
        state = torch.zeros(4, 6)
        for one in torch.randn(5, 4, 2):
            given = (one, state) if isinstance(cell, nn.RNNCell) else (torch.cat([one, state], 1),)
            state = torch.tanh(cell(*given))
        return state.sum()

    assert depth(seen(cell, unrolled)) == 5


def test_what_is_called_once_is_left_as_it_is() -> None:
    found = evidence(chain())
    assert by_layer(found) is found


def test_growth_from_call_to_call_is_no_growth_over_depth() -> None:
    net = mlp(4, 16, 8, 2)
    found = seen(net, lambda: torch.stack([10.0**-at * net(torch.randn(8, 4)).sum() for at in range(6)]).sum())
    assert not [*vanishing_gradient(found), *exploding_gradient(found)]


def test_a_unit_is_dead_where_every_pass_leaves_it_so() -> None:
    net = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 4), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(8))
    few = torch.tensor([1.0] * 2 + [-1.0] * 6)

    def both(second: Tensor) -> Evidence:
        parts = [torch.rand(80, 8) * sign for sign in (few, second)]
        return seen(net, lambda: 1e-6 * torch.stack([net(part).sum() for part in parts]).sum())

    assert not list(dead_units(both(few.abs())))
    [finding] = dead_units(both(few))
    assert finding.message.startswith("6 of 8 units of 1 are zero for every sample")
