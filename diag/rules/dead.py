"""Units that are zero for every sample."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.registry import rule

_FEWEST_UNITS = 4


@rule("dead-units")
def dead_units(evidence: Evidence) -> Iterator[Finding]:
    """A layer most of whose units are zero for every sample over the window, not merely for many."""
    rows = evidence.rows("activation", evidence.clean, ("nonlinearity",))
    rows = rows[(rows["units"] >= _FEWEST_UNITS) & ~rows["op"].isin(["softmax", "log_softmax"])]
    if not len(rows):
        return
    rows = rows.assign(share=rows["dead_units"] / rows["units"])
    # A unit dead over the window is zero in each of its steps, so the smallest share bounds the dead ones where no window was completed.
    late = rows[rows["step"].isin(evidence.late)].groupby(["site", "call"]).agg(share=("share", "min"), order=("order", "min"), units=("units", "max"))
    late["share"] = _over_window(evidence).reindex(late.index).fillna(late["share"])
    limit = evidence.thresholds
    worst = late[late["share"] >= limit["dead_warning"]].sort_values("order")
    if not len(worst):
        return
    grave = worst[worst["share"] >= limit["dead_error"]]
    chosen = grave if len(grave) else worst
    site, _ = chosen.index[0]
    first = chosen.iloc[0]
    onset = rows[(rows["site"] == site) & (rows["share"] >= limit["dead_warning"])]["step"].min()
    yield Finding(
        "dead-units",
        "error" if len(grave) else "warning",
        str(site),
        f"{first['share'] * first['units']:.0f} of {first['units']:.0f} units of {site} are zero for every sample over {len(evidence.late)} steps.",
        {
            "step": int(onset) if pd.notna(onset) else evidence.late[0],
            "dead_units": float(first["share"] * first["units"]),
            "units": float(first["units"]),
            "sites": [str(s) for s, _ in worst.index][:20],
        },
        "Set the biases before it to zero, initialize with he_normal, lower the learning rate, or use leaky_relu, ELU or GELU, which keep a gradient there.",
        "Lu et al. 2019, 'Dying ReLU and Initialization'; Maas et al. 2013",
    )


def _over_window(evidence: Evidence) -> pd.Series:
    units = evidence.trace.units
    last = units[units["step"].isin(evidence.clean)]
    if len(evidence.clean) < 10 or not len(last):
        return pd.Series(dtype=float)
    last = last[last["step"] == last["step"].max()].set_index(["site", "call"])
    return last["dead"] / last["units"]
