"""How measurements of parts make the measurement of the whole (Chan, Golub & LeVeque 1983)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diag.stats.fields import (
    COUNT,
    DEAD_UNITS,
    M2,
    MAX,
    MEAN,
    MIN,
    NONFINITE,
    SAMPLE_VAR,
    SATURATED,
    TWIN_UNITS,
    UNITS,
    WIDTH,
    ZEROS,
)

Rows = NDArray[np.float64]


def merge_rows(rows: Rows, groups: NDArray[np.integer], n_groups: int) -> Rows:
    """Merge all rows of a group into one: mean = sum n_i mean_i / n, m2 = sum m2_i + n_i (mean_i - mean)^2.

    Args:
        rows: measurements, shape [n, WIDTH].
        groups: the group of each row, integers in [0, n_groups), shape [n].
        n_groups: the number of groups; one without rows comes back all NaN.

    Returns:
        One row per group, shape [n_groups, WIDTH]. Where some rows of a group were measured and others only counted
        (meta tensors), the measured ones speak for the group. `saturated` is NaN when any part with elements lacks
        it, since a share of some parts is no share of the whole. `sample_var` is weighted by finite elements over
        the parts that have it. `dead_units` is the least of the parts: an upper bound, since a unit is dead in the
        whole only where every part says so; a caller that kept the masks knows the number.
    """
    rows = np.asarray(rows, dtype=np.float64).reshape(-1, WIDTH)
    groups = np.asarray(groups)
    out = np.full((n_groups, WIDTH), np.nan)
    measured = ~np.isnan(rows[:, NONFINITE])
    any_measured = np.zeros(n_groups, dtype=bool)
    any_measured[groups[measured]] = True
    keep = measured | ~any_measured[groups]
    rows, groups = rows[keep], groups[keep]

    for column in (COUNT, NONFINITE):
        out[:, column] = _sum(rows[:, column], groups, n_groups)
    for column in (MIN, DEAD_UNITS):
        np.fmin.at(out[:, column], groups, rows[:, column])
    for column in (MAX, UNITS, TWIN_UNITS):
        np.fmax.at(out[:, column], groups, rows[:, column])
    _merge_finite(rows, groups, out)
    return out


def _merge_finite(rows: Rows, groups: NDArray[np.integer], out: Rows) -> None:
    """Fill the fields that are taken over the finite elements."""
    n_groups = len(out)
    n = rows[:, COUNT] - rows[:, NONFINITE]
    full = n > 0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        total = np.bincount(groups[full], n[full], n_groups)
        weighted = rows[full, MEAN] * (n[full] / total[groups[full]])
        mean = np.where(total > 0, np.bincount(groups[full], weighted, n_groups), np.nan)
        shift = rows[full, MEAN] - mean[groups[full]]
        spread = np.bincount(groups[full], rows[full, M2] + n[full] * shift * shift, n_groups)
        out[:, MEAN] = mean
        out[:, M2] = np.where(total > 0, spread, _sum(rows[:, M2], groups, n_groups))
        for column in (ZEROS, SATURATED):
            lacking = np.bincount(groups[full], np.isnan(rows[full, column]), n_groups) > 0
            out[:, column] = np.where(lacking, np.nan, _sum(rows[:, column], groups, n_groups))
        sampled = full & ~np.isnan(rows[:, SAMPLE_VAR])
        weight = np.bincount(groups[sampled], n[sampled], n_groups)
        value = np.bincount(groups[sampled], n[sampled] * rows[sampled, SAMPLE_VAR], n_groups)
        out[:, SAMPLE_VAR] = np.where(weight > 0, value / weight, np.nan)


def _sum(values: Rows, groups: NDArray[np.integer], n_groups: int) -> Rows:
    """Sum per group of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    total = np.bincount(groups[known], values[known], n_groups)
    return np.where(np.bincount(groups[known], minlength=n_groups) > 0, total, np.nan)
