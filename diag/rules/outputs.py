"""An output whose activation is driven to its ends, where no target is."""

from __future__ import annotations

import pandas as pd

from diag.rules.alike import put_out_by
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding

_ENDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "softsign": (-1.0, 1.0)}
_INSIDE = 0.05
"""Of the distance between the ends, how far from both of them all targets lie."""
_NEARLY_ALL, _FEWEST = 0.9, 5
"""The share of outputs that are saturated, in the early and in the late steps; steps with targets."""


def driven_out(evidence: Evidence) -> Finding | None:
    """What a loss is given comes out of a tanh or sigmoid that is saturated from the start, and stays so, while all
    targets lie where it has a slope: it gets no gradient to come back by."""
    if not evidence.trains:
        return None
    rows = evidence.rows("activation", evidence.clean)
    targets = rows[rows["role"] == "target"]
    for site, own in targets.groupby("site", sort=False):
        given = rows[rows["site"] == str(site).removesuffix("[target]")]
        last = _last_activation(rows, given)
        if last is None or own["step"].nunique() < _FEWEST:
            continue
        op, name = str(last["op"].iloc[0]), str(last["site"].iloc[0])
        low, high = _ENDS[op]
        margin = _INSIDE * (high - low)
        least, most = float(own["min"].min()), float(own["max"].max())
        share = last.groupby("step")["saturated_fraction"].median()
        early, late = (float(share.reindex(steps).median()) for steps in (evidence.early, evidence.late))
        if not (min(early, late) >= _NEARLY_ALL and low + margin <= least and most <= high - margin):
            continue
        return Finding(
            "saturated-activation",
            "error",
            name,
            f"{early:.0%} of the outputs of {name} ({op}) are at its ends from the start, and {late:.0%} in the last"
            f" steps, while all targets lie between {least:.3g} and {most:.3g}: there it has next to no slope, so that"
            " hardly any gradient comes back. What it is given is far too large.",
            {"step": evidence.clean[0], "of": "driven out", "saturated_fraction": early, "op": op},
            f"Scale down what {name} is given, so that it begins between about -1 and 1: a smaller last layer, or no"
            " factor in front of it.",
            "Glorot & Bengio 2010, section 3; saturation: slope at most 1 % of the largest",
        )
    return None


def _last_activation(rows: pd.DataFrame, given: pd.DataFrame) -> pd.DataFrame | None:
    """The rows of the activation that puts out just what a loss is given."""
    if not len(given):
        return None
    first = given.iloc[0]
    fits = put_out_by(rows[rows["step"] == first["step"]], first, _ENDS)
    if not len(fits):
        return None
    return rows[(rows["site"] == fits["site"].iloc[-1]) & (rows["call"] == fits["call"].iloc[-1])]
