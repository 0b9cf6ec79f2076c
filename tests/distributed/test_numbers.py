"""Which of a rank's watches the first rank waits for, whatever the moment at which it asks. No processes."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
import torch
from torch import nn

import diag
from diag.probe.distributed import Ranks

distributed = pytest.importorskip("torch.distributed")


class Store:
    """What one rank sees of the store that all share; its process pauses behind one key."""

    def __init__(self, shared: Any) -> None:
        self._shared = shared
        self.pauses_behind = ""
        self.paused, self.goes_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shared, name)

    def set(self, key: str, value: Any) -> None:
        self._shared.set(key, value)
        if key == self.pauses_behind:
            self.paused.set()
            self.goes_on.wait(30)


class Rank:
    """One rank of two as `Ranks` sees it, with a model of its own."""

    def __init__(self, rank: int, shared: Any) -> None:
        self.rank, self.store = rank, Store(shared)
        self.distributed_c10d = self
        self.model = nn.Linear(4, 3)
        self._numbers = itertools.count()

    def _get_default_store(self) -> Store:
        return self.store

    def get_rank(self) -> int:
        return self.rank

    def get_world_size(self) -> int:
        return 2

    def begin(self, patch: pytest.MonkeyPatch) -> Ranks:
        """A watch of one step, about to end."""
        watch = diag.watch(self.model)
        watch._probe.sites.data_ranks = (0, 1)
        patch.setattr("diag.probe.distributed._numbers", self._numbers)  # each process has its own
        ranks = Ranks(watch._probe, self)
        with watch:
            self.model(torch.ones(8, 4)).square().mean().backward()
            watch.step()
        return ranks


def test_a_rank_that_is_slow_to_go_on_is_not_waited_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has posted what it saw, the first rank has read that and watches again, and only then does it go on."""
    shared = distributed.HashStore()
    first, second = Rank(0, shared), Rank(1, shared)
    ours, theirs = first.begin(monkeypatch), second.begin(monkeypatch)
    number = theirs._number
    second.store.pauses_behind = f"diag/1/{number}"
    slow = threading.Thread(target=theirs.end)
    slow.start()
    assert second.store.paused.wait(30)
    ours.end()
    assert ours._probe.trace().frame["count"].iloc[0] == 64
    assert first.begin(monkeypatch)._awaited[1] == number + 1
    second.store.goes_on.set()
    slow.join(30)
