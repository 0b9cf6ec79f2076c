"""Which implementation measures, and how the user chooses."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

import diag.stats
from diag.errors import DiagError
from diag.stats import backend, reference, torch_path
from diag.stats.fields import WIDTH


@pytest.fixture(autouse=True)
def _forget_the_choice() -> Iterator[None]:
    backend._chosen.cache_clear()
    yield
    backend._chosen.cache_clear()


def test_torch_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIAG_BACKEND", "torch")
    assert backend.backend_name() == "torch"


@pytest.mark.parametrize("choice", ["auto", "compiled", ""])
def test_compiled_where_numba_is(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setenv("DIAG_BACKEND", choice)
    assert backend.backend_name() == "compiled"


def test_unknown_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIAG_BACKEND", "compield")
    with pytest.raises(DiagError, match=r"one of auto, compiled, torch; got 'compield'.*did you mean 'compiled'"):
        backend.measure(torch.ones(3))


def _without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compiled", "kernels"):
        monkeypatch.delitem(sys.modules, f"diag.stats.{name}", raising=False)
        monkeypatch.delattr(diag.stats, name, raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)


def test_without_numba_torch_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIAG_BACKEND", raising=False)
    _without_numba(monkeypatch)
    assert backend.backend_name() == "torch"
    assert backend.measure(torch.tensor([1.0, 3.0])).var == 1.0


def test_compiled_without_numba_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIAG_BACKEND", "compiled")
    _without_numba(monkeypatch)
    with pytest.raises(DiagError, match=r"needs numba .*pip install 'diag\[fast\]'"):
        backend.backend_name()


def test_measure_gives_the_value() -> None:
    x = torch.tensor([[0.0, 2.0], [0.0, math.inf]])
    expected, mask = reference.measure(x, saturation=(x, 0.0, 2.0), unit_dim=1, sample_dim=0)
    found = backend.measure(x, saturation=(x, 0.0, 2.0), unit_dim=1, sample_dim=0)
    assert repr(found) == repr(expected)
    row = torch.empty(WIDTH, dtype=torch.float64)
    found_mask = backend.measure_into(row, x, unit_dim=1)
    assert found_mask is not None and mask is not None and found_mask.tolist() == mask.tolist() == [True, False]


def test_what_the_kernels_do_not_take_goes_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    from diag.stats import compiled

    class Subclass(torch.Tensor):
        pass

    seen: list[torch.Tensor] = []
    monkeypatch.setattr(torch_path, "measure_into", lambda row, x, **arguments: seen.append(x))
    row = torch.empty(WIDTH, dtype=torch.float64)
    x = torch.randn(6, 4)
    for taken in (x, x.T, torch.nn.Parameter(x), x.double(), x[1:]):
        compiled.measure_into(row, taken)
    assert not seen
    others = [x[:, ::2], x.half(), x.int(), x.to_sparse(), x[:0], x.as_subclass(Subclass), x / 0, x.to("meta")]
    for other in others:
        compiled.measure_into(row, other)
    assert len(seen) == len(others)


def test_numba_is_loaded_at_first_use() -> None:
    code = "import sys, diag.stats; assert 'numba' not in sys.modules and 'scipy.optimize' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
