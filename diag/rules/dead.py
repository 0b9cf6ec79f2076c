"""Units that are zero for every sample."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.passes import within_passes
from diag.rules.registry import rule

_FEWEST_UNITS = 4
_FEWEST_SAMPLES = 64
"""A unit that fires for half the samples is silent for this many with probability 5e-20."""


@rule("dead-units")
def dead_units(evidence: Evidence) -> Iterator[Finding]:
    """A layer most of whose units are zero for every sample over the window, not merely for many."""
    rows = evidence.rows("activation", evidence.clean, ("nonlinearity",))
    rows = rows[(rows["units"] >= _FEWEST_UNITS) & ~rows["op"].isin(["softmax", "log_softmax"])]
    if not len(rows):
        return
    anew = within_passes(evidence, rows)
    rows = (rows if anew is None else anew).assign(
        share=rows["dead_units"] / rows["units"], samples=rows["count"] / rows["units"], met=rows["call"]
    )
    late = _shares(evidence, rows[rows["step"].isin(evidence.late)])
    limit = evidence.thresholds
    worst = late[late["share"] >= limit["dead_warning"]].sort_values("order")
    if not len(worst):
        return
    grave = worst[(worst["share"] >= limit["dead_error"]) & (worst["samples"] >= _FEWEST_SAMPLES)]
    chosen = grave if len(grave) else worst
    first = chosen.iloc[0]
    site = first["site"]
    shares = rows[rows["site"] == site].groupby(["step", "call"], as_index=False)["share"].min()
    onset = shares[shares["share"] >= limit["dead_warning"]]["step"].min()
    yield Finding(
        "dead-units",
        "error" if len(grave) else "warning",
        str(site),
        f"{first['share'] * first['units']:.0f} of {first['units']:.0f} units of {site} are zero for every sample over"
        f" {len(evidence.late)} steps.",
        {
            "step": int(onset) if pd.notna(onset) else evidence.late[0],
            "dead_units": float(first["share"] * first["units"]),
            "units": float(first["units"]),
            "sites": list(dict.fromkeys(worst["site"]))[:20],
        },
        "Set the biases before it to zero, initialize with he_normal, lower the learning rate, or use leaky_relu, ELU"
        " or GELU, which keep a gradient there.",
        "Lu et al. 2019, 'Dying ReLU and Initialization'; Maas et al. 2013",
    )


def _shares(evidence: Evidence, rows: pd.DataFrame) -> pd.DataFrame:
    """Per site and call: the share of units dead over the window, and how many samples and positions that rests on.

    Where no window was completed the smallest share of a step bounds it: a unit dead throughout is dead in each. Calls
    that saw too few samples, as in a loop over single samples, are judged together, as are those of several passes of
    a step: a unit dead throughout is dead in each of them too.
    """
    calls = rows.groupby(["site", "call"]).agg(
        share=("share", "min"), order=("order", "min"), units=("units", "max"), samples=("samples", "sum")
    )
    calls["share"] = _over_window(evidence, rows).reindex(calls.index).fillna(calls["share"])
    calls = calls.reset_index()
    few = calls["samples"] < _FEWEST_SAMPLES
    together = (
        calls[few]
        .groupby("site", as_index=False)
        .agg({"share": "min", "order": "min", "units": "max", "samples": "sum"})
    )
    return pd.concat([calls[~few], together], ignore_index=True)


def _over_window(evidence: Evidence, rows: pd.DataFrame) -> pd.Series:
    """The share of units dead over the last window, per site and call; met: of these rows, the call in the step."""
    units = evidence.trace.units
    last = units[units["step"].isin(evidence.clean)]
    if len(evidence.clean) < 10 or not len(last):
        return pd.Series(dtype=float)
    last = last[last["step"] == last["step"].max()].rename(columns={"call": "met"})
    last = last.merge(rows[["step", "site", "call", "met"]], on=["step", "site", "met"])
    return (last["dead"] / last["units"]).groupby([last["site"], last["call"]]).min()
