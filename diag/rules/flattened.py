"""A normalization that takes away what tells samples apart: a single feature, or an average of what it has centered."""

from __future__ import annotations

import pandas as pd

from diag.rules.evidence import SIGNAL_ROLES, Evidence
from diag.rules.finding import Finding
from diag.trace.shapes import sizes

_NORMS = ("instance_norm", "group_norm")
_ROLES = (*SIGNAL_ROLES, "nonlinearity", "normalization", "pooling")
_DIFFER = 1e-3
"""Variance over samples over mean square of what comes to a place where samples are told apart."""


def flattened(evidence: Evidence) -> Finding | None:
    """Behind a normalization all samples are the same but for rounding, in every step, though before it they differ.

    The normalization of a single feature is its bias for every sample. So is the average over the positions by whose
    mean an instance norm has centered each channel. An error where the loss hardly falls.
    """
    if not evidence.trains:
        return None
    rows = evidence.rows("activation", evidence.clean, _ROLES)
    table = rows.groupby(["site", "call"]).agg(
        most=("sample_var", "max"), rms=("rms", "median"), var=("sample_var", "median"), op=("op", "first"),
        order=("order", "median"), shape=("shape", "first"),
    )  # fmt: skip
    table = table.dropna(subset=["most"]).sort_values("order")
    places = list(zip(table.index[:-1], table.index[1:], strict=True))
    for below, above in places:
        found = _at(evidence, str(below[0]), table.loc[below], str(above[0]), table.loc[above])
        if found is not None:
            return found
    return None


def _at(evidence: Evidence, under: str, below: pd.Series, site: str, above: pd.Series) -> Finding | None:
    """Of two places that follow one another: at the upper one samples are all the same."""
    limit = evidence.thresholds["lost_error"]
    if not below["rms"] > 0 or below["var"] < _DIFFER * below["rms"] ** 2:
        return None
    single = above["op"] == "layer_norm" and sizes(str(above["shape"]))[-1] == 1 and above["most"] == 0
    # An average of what was centered is rounding, or a bias; what the next layer makes of it has a size of its own.
    pooled = below["op"] in _NORMS and "avg_pool" in above["op"] and above["most"] < limit * below["rms"] ** 2
    averaged = below["op"] in _NORMS and above["op"] == "linear" and 0 < above["most"] < limit * above["rms"] ** 2
    if single:
        why = f"{site} normalizes a single feature: minus its own mean that is 0, and what is left is its bias"
        fix = "Normalize over several features, or take the normalization away."
    elif pooled or averaged:
        by = site if pooled else f"what leads to {site}"
        why = f"{under} ({below['op']}) makes each channel's mean over the positions 0, and {by} takes that mean"
        fix = "Put an activation between the normalization and the average, or take the normalization away."
    else:
        return None
    harm = evidence.crawls() and not evidence.is_half_solved
    return Finding(
        "collapsed-signal",
        "error" if harm else "warning",
        site,
        f"From {site} on no sample differs from another: {why}. Before it samples differ by"
        f" {(below['var'] / below['rms'] ** 2) ** 0.5:.0%} of the rms, behind it by rounding, and no gradient comes"
        " through.",
        {"step": evidence.clean[0], "of": "flattened", "before": under, "spread": float(above["most"])},
        fix,
        "Ulyanov et al. 2016, 'Instance Normalization', equation 4; Ba et al. 2016, equation 3",
    )
