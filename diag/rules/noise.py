"""Inputs that are themselves random numbers, as in a smoke test: nothing can be learned from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_CHANCE = 1e-4
"""With which numbers of a law are taken for others."""


@dataclass(frozen=True)
class Law:
    """mean, var: of one number. of_var: the variance of one number's squared deviation. below: the probability of
    smaller numbers; the law is symmetric."""

    mean: float
    var: float
    of_var: float
    below: Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _below_normal(x: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy import special

    found: NDArray[np.float64] = special.ndtr(x)
    return found


LAWS = (Law(0.0, 1.0, 2.0, _below_normal), Law(0.5, 1 / 12, 1 / 80 - 1 / 144, lambda x: np.clip(x, 0.0, 1.0)))
"""Of torch.randn and torch.rand."""


def is_noise(rows: pd.DataFrame) -> bool:
    """Whether every batch's input looks like `torch.randn` or `torch.rand`: its mean and variance stray from the law's
    by as much as independent numbers do, not less and not more, and its extremes are those of so many numbers.

    Numbers of real inputs depend on each other, so that the means of batches stray more, or hardly at all. A few
    standardized features in small batches cannot be told from noise.
    """
    known = rows[["count", "mean", "var", "min", "max"]].drop_duplicates()
    return bool(len(known)) and any(_follows(known, law) for law in LAWS)


def _follows(known: pd.DataFrame, law: Law) -> bool:
    count = known["count"].to_numpy(dtype=float)
    low = law.below(known["min"].to_numpy(dtype=float)) * count
    high = law.below(2 * law.mean - known["max"].to_numpy(dtype=float)) * count
    # Of n numbers, n times the probability beyond the extreme is exponential with mean 1.
    if not _is_exponential(low) or not _is_exponential(high):
        return False
    off = (known["mean"].to_numpy(dtype=float) - law.mean) / np.sqrt(law.var / count)
    spread = (known["var"].to_numpy(dtype=float) * count / (count - 1) - law.var) / np.sqrt(law.of_var / count)
    return _is_unit(off) and _is_unit(spread)


def _is_exponential(values: Iterable[float]) -> bool:
    found = np.asarray(values)
    limit = _CHANCE / len(found) / 2
    return bool((found > limit).all() and (found < -math.log(limit)).all())


def _is_unit(scores: np.ndarray) -> bool:
    """Whether the sum of squares is one of as many standard normal numbers."""
    from scipy import special

    total = float((scores**2).sum())
    return bool(special.chdtri(len(scores), 1 - _CHANCE / 2) < total < special.chdtri(len(scores), _CHANCE / 2))
