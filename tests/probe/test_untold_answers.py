"""Tests in training mode and with a graph, by lines that no backward pass comes by; labels that others hold."""

from __future__ import annotations

import contextlib
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diag
from tests.probe.test_answers import TEST_X, TEST_Y, Net, X, Y, one_line, told_of


class Rows(dict[str, Any]):
    """As scikit-learn returns data."""

    asked = 0

    def __getattr__(self, name: str) -> Any:
        Rows.asked += 1
        return self[name]


class Held(NamedTuple):
    inputs: Tensor
    target: Tensor


def _of_half(net: nn.Module) -> Tensor:
    half: Tensor = net(X[:30])
    return half


def _train(net: nn.Module, steps: int = 5, begins: Callable[[int], bool] = lambda step: False) -> Iterator[int]:
    """begins: in which steps another line trains."""
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for step in range(steps):
        out = _of_half(net) if begins(step) else net(X)
        F.cross_entropy(out, Y[: len(out)]).backward()
        optimizer.step()
        optimizer.zero_grad()
        yield step


def test_a_test_in_training_mode_with_a_graph() -> None:
    """By a line that was not there in the first step, and that no backward pass comes by."""
    net, right = Net(), []
    with diag.watch(net) as watch:
        for _ in _train(net):
            right.append(one_line(net))
    told = watch.trace.coverage["answers"]["Net"]
    assert [one["step"] for one in told] == [1, 2, 3, 4, 5]
    assert [one["right"] / one["samples"] for one in told] == pytest.approx(right)


def test_a_line_that_trains_from_a_later_step_on_is_no_test() -> None:
    net = Net()
    with diag.watch(net) as watch:
        list(_train(net, begins=lambda step: step > 2))
    assert not watch.trace.coverage["answers"]


def test_what_is_trained_is_the_same_with_tests_of_that_kind() -> None:
    weights = []
    for watched in (True, False):
        torch.manual_seed(0)
        net = Net()
        with diag.watch(net) if watched else contextlib.nullcontext():
            for _ in _train(net, begins=lambda step: step > 2):
                one_line(net)
        weights.append(net.layer.weight.detach())
    assert torch.equal(*weights)


def test_labels_in_what_is_a_dictionary_or_has_fields() -> None:
    held, rows, batch = Held(TEST_X, TEST_Y), Rows(target=TEST_Y.numpy()), UserDict(target=TEST_Y)
    tests = [
        lambda net: (net(held.inputs).argmax(1) == held.target).sum(),
        lambda net: (net(TEST_X).argmax(1).numpy() == rows.target[:40]).sum(),
        lambda net: (net(TEST_X).argmax(1) == batch["target"]).sum(),
    ]
    for test in tests:
        assert [one["samples"] for one in told_of(test)] == [40] * 5
    assert Rows.asked == 5  # by the test itself
