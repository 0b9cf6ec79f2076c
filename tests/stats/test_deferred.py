"""The compiled path is loaded once it is worth it, and the numbers stay the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from diag.probe.recorder import ACTIVATION, Recorder
from diag.stats import backend, deferred
from diag.stats.cuda import VARIABLE
from diag.stats.deferred import Deferred
from diag.stats.fields import WIDTH


@pytest.fixture(autouse=True)
def _by_itself(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("numba")
    monkeypatch.delenv(VARIABLE, raising=False)
    backend._chosen.cache_clear()
    yield
    backend._chosen.cache_clear()


def test_torch_measures_first_and_then_the_compiled_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "_LOADING", 5.5 * deferred._EACH)
    measure = Deferred()
    row, x = torch.empty(WIDTH, dtype=torch.float64), torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    _, plan = measure(row, x, None, 1, 0)
    assert plan is not None
    first = row.clone()
    for _ in range(4):
        assert plan(row, x, None, 1, 0) is not False
    assert measure.name() == "torch"
    assert plan(row, x, None, 1, 0) is False
    assert measure.name() == "compiled"
    _, plan = measure(row, x, None, 1, 0)
    assert type(plan).__name__ == "Plan"
    np.testing.assert_allclose(row, first, rtol=1e-6, atol=1e-7)  # a mean near 0 is a sum of what cancels


def test_large_tensors_count_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "_PER_ELEMENT", deferred._LOADING / 1000)
    measure = Deferred()
    row = torch.empty(WIDTH, dtype=torch.float64)
    measure(row, torch.randn(400), None, None, 0)
    assert measure.waits
    measure(row, torch.randn(700), None, None, 0)
    assert not measure.waits


@pytest.mark.parametrize("choice", ["torch", "compiled"])
def test_what_the_user_chose_measures_from_the_start(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, choice)
    assert Deferred().name() == choice


def test_a_recorder_goes_on_across_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "_LOADING", 3.5 * deferred._EACH)
    recorders = Recorder(brief=True), Recorder()
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    for step in range(6):
        for one in recorders:
            one.measure(0, 0, 0, ACTIVATION, x + step, unit_dim=1, sample_dim=0)
            one.end_step()
    assert recorders[0].measured_by() == recorders[1].measured_by() == "compiled"
    (_, keys, values), (_, others, expected) = (one.tables() for one in recorders)
    assert keys.tolist() == others.tolist()
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_a_short_check_loads_neither_numba_nor_the_slow_parts_of_scipy() -> None:
    code = """
import sys, torch, diag
from torch import nn
model = nn.Sequential(nn.Linear(20, 32), nn.GELU(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 3))
x, y = torch.randn(64, 20), torch.randint(3, (64,))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
loss = lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1])
found = diag.check(diag.Workload(model, [(x, y)], loss, optimizer))
print([one for one in ("numba", "scipy.stats", "scipy.optimize", "scipy.interpolate") if one in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
