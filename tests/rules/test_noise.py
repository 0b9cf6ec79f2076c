"""Random numbers are told from real inputs by how the statistics of their batches stray."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd
import pytest
import torch
from torch import Tensor

from diag.rules.noise import is_noise
from tests.corpus.data import digits, large_digits, waves


def rows(batches: Iterable[Tensor]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "count": float(x.numel()),
            "mean": float(x.mean()),
            "var": float(x.var(correction=0)),
            "min": float(x.min()),
            "max": float(x.max()),
        }
        for x in batches
    )


@pytest.mark.parametrize("draw", [torch.randn, torch.rand])
@pytest.mark.parametrize("shape", [(8, 4), (32, 64), (16, 3, 32, 32)])
@pytest.mark.parametrize("batches", [1, 15])
def test_random_numbers_are_noise(draw: Callable[..., Tensor], shape: tuple[int, ...], batches: int) -> None:
    torch.manual_seed(0)
    told = [is_noise(rows(draw(shape) for _ in range(batches))) for _ in range(60)]
    assert sum(told) >= 59


def test_one_batch_again_and_again_is_one_batch() -> None:
    torch.manual_seed(0)
    for _ in range(20):
        x = torch.randn(16, 4)
        assert is_noise(rows([x] * 15))


@pytest.mark.parametrize(
    "batches",
    [digits(), digits(scale="unit"), digits(image=True), large_digits(batches=15), waves()],
    ids=["digits", "digits from 0 to 1", "images", "large images", "waves"],
)
def test_real_inputs_are_not(batches: list[tuple[Tensor, Tensor]]) -> None:
    assert not is_noise(rows(x for x, _ in batches[:15]))


@pytest.mark.parametrize(
    "change",
    [lambda x: 1.1 * x, lambda x: x + 0.1, lambda x: x.clamp(-2, 2), lambda x: x[:, :1].expand_as(x), torch.sign],
    ids=["scaled", "moved", "clipped", "repeated", "signs"],
)
def test_nor_are_numbers_of_another_law(change: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    assert not is_noise(rows(change(torch.randn(32, 64)) for _ in range(15)))


def test_without_inputs_there_is_no_noise() -> None:
    assert not is_noise(rows([]).reindex(columns=["count", "mean", "var", "min", "max"]))
