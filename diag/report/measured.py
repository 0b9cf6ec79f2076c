"""The trace as matrices, a row per site in forward order and a column per step: what tables and figures draw from."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pandas as pd

from diag.trace import Trace
from diag.trace.operations import RELU_LIKE
from diag.trace.schema import BESIDE


def matrix(trace: Trace, kind: str, column: str) -> pd.DataFrame:
    """`column` of `kind` per site and step; calls of a shared site are merged, weighted by their finite elements.

    rms merges as the root of the mean square, counts (`nonfinite`) as sums; of dead units there are no more than in
    the call that has the fewest. Missing stays missing. Of several models each stands by itself, and losses come last.
    """
    rows = trace.frame[trace.frame["kind"] == kind]
    if rows.empty:
        return pd.DataFrame()
    values = rows[column].astype("float64")
    keys = [rows["site"].astype(str), rows["step"]]
    with np.errstate(over="ignore", invalid="ignore"):
        if column == "nonfinite":
            merged = values.groupby(keys, sort=True).sum(min_count=1)
        elif column == "dead_units":
            merged = values.groupby(keys, sort=True).min()
        else:
            merged = _weighted(values**2 if column == "rms" else values, rows, keys)
            merged = merged**0.5 if column == "rms" else merged
    order = rows.groupby(keys[0])["order"].min().sort_values(kind="stable")
    if trace.sites["model"].nunique() > 1:
        # A loss is no layer of the model that it is told with.
        own = trace.sites[["site", "role", "model"]].to_numpy()
        place = {str(site): (role == "loss" or role in BESIDE, str(model)) for site, role, model in own}
        order = order.loc[sorted(order.index, key=place.__getitem__)]
    return merged.unstack().reindex(order.index)


def _weighted(values: pd.Series, rows: pd.DataFrame, keys: list[pd.Series]) -> pd.Series:
    weight = (rows["count"] - rows["nonfinite"].fillna(0)).clip(lower=0).fillna(1.0).where(values.notna())
    total = weight.groupby(keys, sort=True).sum(min_count=1)
    return (values * weight).groupby(keys, sort=True).sum(min_count=1) / total.where(total > 0)


def roles(trace: Trace) -> dict[str, str]:
    """The role of every site that is an output: layer, nonlinearity, ..."""
    return _column(trace, "role")


def ops(trace: Trace) -> dict[str, str]:
    """The operation of every site that is an output: linear, relu, ..."""
    return _column(trace, "op")


def display(site: str, op: str) -> str:
    """A site's name for people: a number alone tells nothing, so its operation joins it (`net.16 linear`)."""
    return f"{site} {op}" if op and site.rsplit(".", 1)[-1].isdigit() else site


def displays(trace: Trace) -> dict[str, str]:
    """`display` of every site that is an output."""
    return {site: display(site, op) for site, op in ops(trace).items()}


def kinds(sites: list[str]) -> list[str]:
    """To which repeated site of a block each belongs: its name without numbers (`layer.#.query`).

    All belong to one kind unless at least two kinds repeat three times and most sites repeat: only then do blocks show.
    """
    patterns = [re.sub(r"\d+", "#", site) for site in sites]
    counts = Counter(patterns)
    repeated = sum(count for count in counts.values() if count > 1)
    blocks = sum(count >= 3 for count in counts.values()) >= 2 and repeated >= 0.6 * len(sites)
    return patterns if blocks else ["all"] * len(sites)


def owners(trace: Trace) -> dict[str, str]:
    """The module path that owns each site, parameters included."""
    return {str(site): str(owner) for site, owner in zip(trace.sites["site"], trace.sites["owner"], strict=True)}


def _column(trace: Trace, column: str) -> dict[str, str]:
    rows = trace.sites[trace.sites["kind"] == "output"]
    return {str(site): str(item) for site, item in zip(rows["site"], rows[column], strict=True)}


def saturation(trace: Trace) -> pd.DataFrame:
    """Share of saturated elements of every nonlinearity that can saturate, per site and step."""
    table = matrix(trace, "activation", "saturated_fraction")
    role, op = roles(trace), ops(trace)
    keep = [s for s in table.index if role.get(s) == "nonlinearity" and op.get(s) not in RELU_LIKE]
    return table.loc[keep].dropna(axis=0, how="all") if len(table) else table


def zeros(trace: Trace) -> pd.DataFrame:
    """Share of exact zeros in the output of every nonlinearity, per site and step."""
    table = matrix(trace, "activation", "zero_fraction")
    role = roles(trace)
    return (
        table.loc[[s for s in table.index if role.get(s) == "nonlinearity"]].dropna(how="all") if len(table) else table
    )


def dead(trace: Trace) -> pd.DataFrame:
    """Share of dead units, per site and step: dead over the window where it was tracked, else in the step itself.

    Of several calls that of the one with the fewest: a unit is dead where all leave it so.
    """
    order = matrix(trace, "activation", "rms").index
    units = trace.units
    if not units.empty:
        each = units["dead"] / units["units"].where(units["units"] > 0)
        share = each.groupby([units["site"].astype(str), units["step"]]).min().unstack()
        share = share.reindex([s for s in order if s in share.index])
    else:
        counts = matrix(trace, "activation", "dead_units"), matrix(trace, "activation", "units")
        share = counts[0] / counts[1].where(counts[1] > 0) if len(order) else pd.DataFrame()
    role = roles(trace)
    keep = [s for s in share.index if role.get(s) == "nonlinearity" or (share.loc[s] > 0).any()]
    return share.loc[keep].dropna(how="all") if len(share) else share


def last(table: pd.DataFrame) -> pd.Series:
    """Each row's value at its last measured step."""
    return table.ffill(axis=1).iloc[:, -1] if table.shape[1] else pd.Series(dtype="float64")


def when(table: pd.DataFrame) -> str:
    """Which step `last` speaks of, in words: rows may have ended before the last step."""
    return f"at step {table.columns[-1]}" if table.iloc[:, -1].notna().all() else "at the last step with a finite value"
