"""Trends by ranks: what scipy.stats has as well, whose import would be a third of a short check's time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_EXACT = 33
"""Values up to which all orders are counted."""


def theil_sen(values: NDArray[np.float64]) -> float:
    """Slope per place: the median of the slopes of all pairs; at least two values.

    Source: Sen 1968, 'Estimates of the regression coefficient based on Kendall's tau'
    """
    first, second = np.triu_indices(len(values), 1)
    return float(np.median((values[second] - values[first]) / (second - first)))


def kendall(values: NDArray[np.float64]) -> tuple[float, float]:
    """Kendall's tau-b of values with their places, and its two-sided probability where there is no trend.

    Exact where no values are alike and there are at most 33, or all but one pair agree; else by the normal law, with
    its variance under ties. (nan, 1.0) where all are alike, or one is not a number.

    Source: Kendall 1970, 'Rank Correlation Methods', chapters 1, 4 and 5
    """
    count = len(values)
    pairs = count * (count - 1) // 2
    if count < 2 or np.isnan(values).any():
        return math.nan, 1.0
    first, second = np.triu_indices(count, 1)
    rises, falls = int((values[second] > values[first]).sum()), int((values[second] < values[first]).sum())
    sizes = np.unique(values, return_counts=True)[1].astype(float)
    tied = pairs - rises - falls
    if tied == pairs:
        return math.nan, 1.0
    score = rises - falls
    tau = score / math.sqrt(pairs) / math.sqrt(pairs - tied)
    if not tied and (count <= _EXACT or min(rises, falls) <= 1):
        return tau, min(1.0, 2 * _share_of_orders(count, min(rises, falls)))
    variance = (count * (count - 1) * (2 * count + 5) - float((sizes * (sizes - 1) * (2 * sizes + 5)).sum())) / 18
    return tau, math.erfc(abs(score) / math.sqrt(2 * variance))


def _share_of_orders(count: int, inversions: int) -> float:
    """The share of all orders of so many values that have at most so many inversions."""
    orders = [1]
    for size in range(2, count + 1):
        total, longer = 0, []
        for place in range(min(len(orders) + size - 1, inversions + 1)):
            total += orders[place] if place < len(orders) else 0
            total -= orders[place - size] if place >= size else 0
            longer.append(total)
        orders = longer
    return sum(orders[: inversions + 1]) / math.factorial(count)
