"""A watch beside other threads that train."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import optimizer as global_hooks

import diag
from diag.probe.probe import Probe
from diag.trace import Trace

Y = torch.arange(16) % 5


class Training:
    """A network of its own, and its steps."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
        for p in self.net.parameters():
            nn.init.normal_(p, std=0.2, generator=self.generator)
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.01)
        self.criterion = nn.CrossEntropyLoss()

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.criterion(self.net(torch.randn(16, 20, generator=self.generator)), Y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.net(torch.zeros(2, 20))
        return loss.item()


@contextmanager
def beside(work: Callable[[], Any]) -> Iterator[list[BaseException]]:
    """Another thread does this, again and again."""
    stop, errors = threading.Event(), []

    def run() -> None:
        while not stop.is_set():
            try:
                work()
            except BaseException as error:
                errors.append(error)
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield errors
    finally:
        stop.set()
        thread.join()


def watched(steps: int = 60) -> tuple[Trace, list[float]]:
    training = Training()
    with diag.watch(training.net, training.optimizer) as watch:
        losses = [training.step() for _ in range(steps)]
    return watch.trace, losses


def test_what_another_thread_trains_changes_nothing() -> None:
    alone, losses = watched()
    with beside(Training(7).step) as errors:
        found, same = watched()
    watched(1)  # the hooks of optimizers wait until no thread may be in the middle of them
    assert not errors
    assert same == losses
    pd.testing.assert_frame_equal(found.frame, alone.frame)
    pd.testing.assert_frame_equal(found.steps, alone.steps)
    counted = ("training_passes", "evaluation_passes", "clips", "idle_steps", "uncleared_steps", "steps_elsewhere")
    assert {one: found.coverage.get(one) for one in counted} == {one: alone.coverage.get(one) for one in counted}


def test_two_threads_that_each_watch_their_own() -> None:
    alone, losses = watched(20)
    traces: list[tuple[Trace, list[float]]] = []

    def again() -> None:
        for _ in range(6):
            traces.append(watched(20))

    threads = [threading.Thread(target=again) for _ in range(2)]
    with beside(Training(7).step) as errors:
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert not errors
    assert len(traces) == 12
    for trace, same in traces:
        assert same == losses
        pd.testing.assert_frame_equal(trace.frame, alone.frame)
    watched(1)
    assert not global_hooks._global_optimizer_pre_hooks


def test_a_training_in_another_thread_than_the_watch() -> None:
    alone, _ = watched(10)
    training = Training()
    with diag.watch(training.net, training.optimizer) as watch:
        thread = threading.Thread(target=lambda: [training.step() for _ in range(10)])
        thread.start()
        thread.join()
    pd.testing.assert_frame_equal(watch.trace.frame, alone.frame)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_of_all_models_those_of_one_thread_are_watched(where: str) -> None:
    first = Training()
    probe = Probe(discover=True)
    probe.start()
    if where == "here":
        first.step()
        with beside(Training(7).step) as errors:
            for _ in range(9):
                first.step()
    else:
        thread = threading.Thread(target=lambda: [first.step() for _ in range(10)])
        thread.start()
        thread.join()
        errors = []
    probe.stop()
    watched(1)
    trace = probe.trace()
    assert not errors
    assert trace.coverage["models"] == ["Sequential"]
    assert trace.coverage["training_passes"] == 10
    assert trace.steps["loss_known"].sum() == 10


def test_evaluations_of_another_thread_are_not_those_of_the_training() -> None:
    training = Training()

    def evaluate() -> None:
        with torch.no_grad():
            F.softmax(training.net(torch.zeros(3, 20)), 1)

    with diag.watch(training.net, training.optimizer) as watch, beside(evaluate) as errors:
        for _ in range(40):
            training.step()
    watched(1)
    assert not errors
    assert watch.trace.coverage["training_passes"] == 40
    assert watch.trace.coverage["evaluation_passes"] == 40
    assert len(watch.trace.frame.query("kind == 'activation' and site == '0'")) == 40
