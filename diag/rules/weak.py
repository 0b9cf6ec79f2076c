"""What is too weak to be learned from: weights of next to nothing, and one layer that makes all samples look alike."""

from __future__ import annotations

import math

import pandas as pd

from diag.rules.evidence import SIGNAL_ROLES, Evidence
from diag.rules.finding import Finding
from diag.trace.shapes import sizes

_FEWEST = 2


def scales_of_weights(evidence: Evidence) -> pd.Series:
    """Per weight matrix: its first rms times sqrt(fan_in); 1/sqrt(3) as torch initializes, sqrt(2) as He et al. do."""
    first = evidence.parameters.dropna(subset=["norm"]).sort_values("step").groupby("site").first()
    if not len(first):
        return pd.Series(dtype=float)
    return first["norm"] / [math.sqrt(sizes(str(shape))[0]) for shape in first["shape"]]


def small_weights(evidence: Evidence) -> Finding | None:
    """Most weight matrices were initialized to a small part of what keeps a signal's size."""
    scales = scales_of_weights(evidence)
    scales = scales[scales > 0]
    typical = float(scales.median()) if len(scales) >= _FEWEST else math.inf
    if typical >= evidence.thresholds["weights_error"]:
        return None
    site = evidence.in_order(scales.index)[0]
    return Finding(
        "collapsed-signal",
        "warning" if evidence.is_half_solved else "error",
        site,
        f"Half of the weight matrices begin with rms times sqrt(fan_in) at most {typical:.1g}, where about 1 keeps a"
        " signal's size: each layer passes on so much less of what came to it, and of the gradient.",
        {"step": evidence.clean[0], "of": "weights", "scale": typical, "matrices": len(scales)},
        "Initialize larger: he_normal for ReLU, glorot_normal for tanh, lecun_normal for SELU.",
        "Glorot & Bengio 2010, section 4.2; He et al. 2015, section 2.2",
    )


def spreads(evidence: Evidence, steps: list[int], roles: tuple[str, ...], how: str = "median") -> pd.DataFrame:
    """Per site and call in forward order: variance over samples over mean square, the median, or what is asked for, of
    some steps."""
    rows = evidence.rows("activation", steps, roles)
    rows = rows[rows["rms"] > 0]
    grouped = (rows["sample_var"] / rows["rms"] ** 2).groupby([rows["site"], rows["call"]]).agg(how)
    orders = rows.groupby(["site", "call"])["order"].median()
    return pd.DataFrame({"ratio": grouped, "order": orders}).dropna().sort_values("order")


def lost_within(evidence: Evidence) -> Finding | None:
    """One layer's outputs are the same for all samples but for rounding, though what came to it was not.

    Exactly the same is another matter: so are the outputs of what is given no sample, such as a table of positions.
    """
    limit = evidence.thresholds
    most = limit["lost_crawl_error"] if evidence.stuck else limit["lost_error"]
    table = spreads(evidence, evidence.clean, (*SIGNAL_ROLES, "normalization"), "max")
    lost = table[(table["ratio"] > 0) & (table["ratio"] < most)]
    if not len(lost) or not evidence.trains:
        return None
    site, ratio = str(lost.index[0][0]), float(lost["ratio"].iloc[0])
    return Finding(
        "collapsed-signal",
        "error",
        site,
        f"All samples look alike at {site}: their variance is {ratio:.0e} of the mean square, in every step.",
        {"step": evidence.clean[0], "of": "lost", "spread": ratio},
        "Look at what stands before it: an average over the batch, a constant, or a scale that lets next to nothing"
        " through.",
        "Schoenholz et al. 2017, section 3 (correlations converge to 1)",
    )
