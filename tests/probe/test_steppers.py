"""Optimizers by number, of which most may go."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

import diag
from diag.probe.steppers import Steppers


def _optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)


def test_numbers_last_and_the_first_and_last_ones_are_held() -> None:
    known = Steppers()
    kept = _optimizer()
    assert (known.add(kept), known.add(kept), known.number(_optimizer())) == (0, 0, None)
    references = []
    for number in range(1, 20):
        one = _optimizer()
        assert known.add(one) == number
        references.append(weakref.ref(one))
        del one
    gc.collect()
    assert [number for number, one in enumerate(references, 1) if one() is not None] == [1, 2, 3, 16, 17, 18, 19]
    assert len(known) == 20
    assert len(list(known)) == 8
    assert (known.get(0), known.get(10)) == (kept, None)


@pytest.mark.parametrize("momentum", [0.9])
def test_a_script_that_makes_one_for_each_step_keeps_none_of_their_states(momentum: float) -> None:
    net = nn.Linear(4, 2)
    states = []
    with diag.watch(net) as watch:
        for _ in range(30):
            optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=momentum)
            optimizer.zero_grad()
            net(torch.randn(8, 4)).sum().backward()
            optimizer.step()
            states.append(weakref.ref(optimizer.state[net.weight]["momentum_buffer"]))
        gc.collect()
        assert sum(one() is not None for one in states) <= 9
    assert watch.trace.steps["optimizer"].nunique() == 30
