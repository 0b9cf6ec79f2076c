"""A network that is called several times in a step: its layers, whose calls are no depth of their own."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd

from diag.rules.evidence import SIGNAL_ROLES, Evidence
from diag.rules.remembered import remembered
from diag.trace.schema import BESIDE

_SAME = 1e-4
"""Of the rms of one tensor measured twice, in whatever order it was added up."""


@remembered
def by_layer(evidence: Evidence) -> Evidence:
    """The same evidence where the passes of a step, as of a triplet or an episode, count as one batch.

    Calls of a site within a pass, as of an unrolled cell, stay apart. So do all calls where passes may follow from one
    another: there time is depth. Of merged rows rms, norm, counts and order are right, the rest is the first one's.
    """
    frame = evidence.frame
    carries = frame["role"].isin(SIGNAL_ROLES) & frame["kind"].isin(["activation", "gradient"])
    rows = within_passes(evidence, frame[carries])
    if rows is None:
        return evidence
    merged = copy.copy(evidence)
    merged.__dict__.pop("_by_kind", None)
    merged.memo = {}
    merged.frame = pd.concat([frame[~carries], _merged(rows)], ignore_index=True)
    return merged


def within_passes(evidence: Evidence, rows: pd.DataFrame) -> pd.DataFrame | None:
    """These activations and gradients with calls that are counted anew in every pass.

    None where there is one pass in a step, or where passes may follow from one another.
    """
    frame = evidence.frame
    inputs = frame[(frame["role"] == "input") & (frame["kind"] == "activation")]
    if not (inputs["call"] > 0).any() or not (rows["call"] > 0).any():
        return None
    early = frame[frame["step"].isin(evidence.early) & (frame["kind"] == "activation")]
    layers = early[early["role"].isin(SIGNAL_ROLES)]
    if _may_be_recurrent(layers.assign(entry=_entries(inputs, layers))) or _feeds_itself(early):
        return None
    return in_each_pass(evidence, rows)


def in_each_pass(evidence: Evidence, rows: pd.DataFrame) -> pd.DataFrame:
    """These rows with calls that are counted anew in every pass, whether or not passes follow from one another."""
    frame = evidence.frame
    inputs = frame[(frame["role"] == "input") & (frame["kind"] == "activation")]
    if not len(inputs) or not len(rows):
        return rows
    rows = rows.assign(entry=_entries(inputs, rows))
    rows["call"] -= rows.groupby(["step", "site", "entry"])["call"].transform("min")
    return rows.drop(columns="entry")


def _entries(inputs: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """In which pass each row stands: the number of the input that was the last one before it."""
    # An order is below the step's number of rows, so that a step and a place in it make one number.
    size = int(max(rows["order"].max(), inputs["order"].max())) + 1 if len(rows) else 1
    starts = np.unique(inputs["step"].to_numpy() * size + inputs["order"].to_numpy())
    return np.searchsorted(starts, rows["step"].to_numpy() * size + rows["order"].to_numpy(), side="right")


def _may_be_recurrent(rows: pd.DataFrame) -> bool:
    """Whether there is a cell among the sites, or a pass that is repeated is a single layer: a cell written by hand."""
    if (rows["role"] == "recurrent").any():
        return True
    layers = rows.groupby(["step", "entry"])["site"].nunique().to_numpy()
    passes = rows.groupby(["step", "site"])["entry"].nunique()
    repeated = set(passes[passes > 1].index)
    single = rows.groupby(["step", "entry"])["site"].first().reset_index()[layers < 2]
    return any(pair in repeated for pair in zip(single["step"], single["site"], strict=True))


def _feeds_itself(frame: pd.DataFrame) -> bool:
    """Whether the input of a later pass is what the model has put out before: the same numbers."""
    frame = frame[frame["rms"] > 0]
    later = frame[(frame["role"] == "input") & (frame["call"] > 0)]
    outputs = frame[(frame["role"] != "input") & ~frame["op"].isin(BESIDE)]
    pairs = later.merge(outputs, on=["step", "count", "min", "max"], suffixes=("", "_out"))
    same = (pairs["rms"] - pairs["rms_out"]).abs() <= _SAME * pairs["rms"]
    return bool((same & (pairs["order_out"] < pairs["order"])).any())


def _merged(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each call of a site within a pass, over all passes of the step."""
    rows = rows.sort_values(["step", "order"], kind="stable")
    finite = rows["count"] - rows["nonfinite"].fillna(0)
    rows["square"], rows["finite"] = (rows["rms"] ** 2 * finite).where(finite > 0), finite
    grouped = rows.groupby(["step", "kind", "site", "call"], sort=False)
    merged = grouped.head(1).drop(columns=["square", "finite"]).set_index(["step", "kind", "site", "call"])
    sums = grouped[["count", "nonfinite", "square", "finite"]].sum(min_count=1).loc[merged.index]
    merged["count"], merged["nonfinite"] = sums["count"], sums["nonfinite"]
    merged["norm"] = np.sqrt(sums["square"])
    merged["rms"] = merged["norm"] / np.sqrt(sums["finite"].where(sums["finite"] > 0))
    return merged.reset_index()
