"""Whether rows describe the same numbers: what one place puts out is what another is given."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

_COLUMNS = ("mean", "rms", "min", "max")


def are_alike(rows: pd.DataFrame, other: pd.Series | pd.DataFrame) -> pd.Series:
    """Which rows describe the same numbers as another, whatever their shape: equal in count, mean, rms and range.

    other: one row, or a row for each.
    """
    same = rows["count"] == other["count"]
    for column in _COLUMNS:
        same &= np.isclose(rows[column], other[column], rtol=1e-6, atol=1e-12)
    return same


def put_out_by(rows: pd.DataFrame, given: pd.Series, ops: Collection[str]) -> pd.DataFrame:
    """Rows of these operations that put out just what stands after them is given."""
    return rows[rows["op"].isin(list(ops)) & (rows["order"] < given["order"]) & are_alike(rows, given)]


def pairs_alike(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Every row beside every other of its step that has as many numbers, whose columns end in `_other`; alike: whether
    the two describe the same ones."""
    pairs = rows.merge(others, on=["step", "count"], suffixes=("", "_other"))
    second = pairs[[f"{column}_other" for column in _COLUMNS]].set_axis(list(_COLUMNS), axis=1)
    return pairs.assign(alike=are_alike(pairs, second.assign(count=pairs["count"])))
