"""Rows of a weight that equal another row."""

from __future__ import annotations

import math

import pytest
import torch

from diag.stats import twins
from diag.stats.twins import twin_rows


def weight(rows: int = 40, columns: int = 30) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64], ids=str)
def test_counts_every_row_of_a_pair_and_of_a_triple(dtype: torch.dtype) -> None:
    w = weight().to(dtype)
    assert float(twin_rows(w)) == 0
    w[7] = w[3]
    w[20] = w[39] = w[11]
    count = twin_rows(w)
    assert float(count) == 5 and count.dtype == torch.float64 and count.ndim == 0


def test_convolution_and_constant() -> None:
    assert float(twin_rows(torch.full((8, 3, 3, 3), 0.5))) == 8
    assert float(twin_rows(weight(16, 27).view(16, 3, 3, 3))) == 0


def test_one_digit_makes_a_difference() -> None:
    w = weight(4, 2000)
    w[1] = w[0]
    assert float(twin_rows(w)) == 2
    w[1, 1234] = torch.nextafter(w[1, 1234], torch.tensor(9.0))
    assert float(twin_rows(w)) == 0


def test_rows_with_the_same_elements_elsewhere() -> None:
    """One-hot, mirrored and shifted rows have equal sums and norms, and are no twins."""
    assert float(twin_rows(torch.eye(64))) == 0
    line = torch.arange(50.0)
    assert float(twin_rows(torch.stack([line.roll(i) for i in range(50)]))) == 0


def test_nan_equals_nothing() -> None:
    w = torch.ones(4, 3)
    w[0, 1] = w[1, 1] = math.nan
    assert float(twin_rows(w)) == 2


@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (3, 0)])
def test_not_measured(shape: tuple[int, ...]) -> None:
    assert math.isnan(float(twin_rows(torch.zeros(shape))))
    assert math.isnan(float(twin_rows(torch.empty(4, 4, device="meta"))))


def test_single_row() -> None:
    assert float(twin_rows(torch.ones(1, 5))) == 0


def test_huge_weights_are_judged_by_their_first_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "TWIN_LIMIT", 80)
    w = weight(8, 50)
    w[2, :10] = w[5, :10]
    assert float(twin_rows(w)) == 2


def test_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    twin_rows(weight().requires_grad_())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128], ids=str)
def test_the_weight_stays_as_it_is(dtype: torch.dtype) -> None:
    w = weight().to(dtype)
    w[0, 0], w[1, 1] = math.nan, math.inf
    before = w.clone()
    twin_rows(w)
    assert torch.equal(w.nan_to_num(7.0), before.nan_to_num(7.0))
