"""What is too weak to be learned from: weights of next to nothing, and one layer that makes all samples look alike."""

from __future__ import annotations

import math

import pandas as pd

from diag.rules.biased import first_biases
from diag.rules.evidence import SIGNAL_ROLES, Evidence, Trend
from diag.rules.finding import Finding
from diag.rules.passes import by_layer, in_each_pass
from diag.rules.scales import at_the_mean, scales_of_weights

_FEWEST = 2
_NOTHING, _SHUT = 1e-4, -2.0
"""An rms that is next to nothing where about 1 is usual; a mean of biases that shuts what they belong to."""


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
        "warning" if evidence.is_half_solved and not at_the_mean(evidence) else "error",
        site,
        f"Half of the weight matrices begin with rms times sqrt(fan_in) at most {typical:.1g}, where about 1 keeps a"
        " signal's size: each layer passes on so much less of what came to it, and of the gradient.",
        {"step": evidence.clean[0], "of": "weights", "scale": typical, "matrices": len(scales)},
        "Initialize larger: he_normal for ReLU, glorot_normal for tanh, lecun_normal for SELU.",
        "Glorot & Bengio 2010, section 4.2; He et al. 2015, section 2.2",
    )


def rises_from_nothing(trend: Trend) -> bool:
    """Whether activations grow over depth to no more than 1, from next to nothing: it is the bottom that is off."""
    return bool(trend.values.max() <= 0 and trend.values.min() <= math.log10(_NOTHING))


def faint(evidence: Evidence) -> Finding | None:
    """A layer puts out next to nothing, and what stands above it more; an error where its biases shut it."""
    layers = by_layer(evidence)
    trends = [layers.trend("activation", steps, "rms") for steps in (layers.early, layers.late)]
    growth = evidence.thresholds["exploding_activation_warning"]
    rising = [one for one in trends if one is not None and 10**one.total >= growth and rises_from_nothing(one)]
    if not rising:
        return None
    trend = rising[0]
    site = trend.sites[int(trend.values.argmin())]
    shut = _shut_by(evidence, site)
    said = f": its biases are {shut:.2g} on average, which shuts its gates or units" if shut else ""
    return Finding(
        "collapsed-signal",
        "error" if shut and evidence.trains and not evidence.is_half_solved else "warning",
        site,
        f"What {site} puts out has rms {10 ** trend.values.min():.1e}, next to nothing, and what stands above it up to"
        f" {10 ** trend.values.max():.1e}{said}.",
        {"step": evidence.clean[0], "of": "faint", "rms": float(10 ** trend.values.min()), "bias": shut},
        f"Initialize the biases of {site} with 0 (of forget gates with 1)."
        if shut
        else "Look at the initialization of this layer, and at what it is given.",
        "Jozefowicz et al. 2015, section 2.2; Glorot & Bengio 2010, section 4.2",
    )


def _shut_by(evidence: Evidence, site: str) -> float:
    """The mean of a layer's biases where they are far below 0, else 0."""
    own = first_biases(evidence, site)
    mean = float(own["mean"].mean()) if len(own) else 0.0
    return mean if mean <= _SHUT else 0.0


def spreads(evidence: Evidence, steps: list[int], roles: tuple[str, ...], how: str = "median") -> pd.DataFrame:
    """Per site and call in forward order: variance over samples over mean square, the median, or what is asked for, of
    some steps. Of several passes in a step, as of an episode that always begins alike, the one with the most counts."""
    rows = evidence.rows("activation", steps, roles)
    rows = in_each_pass(evidence, rows[rows["rms"] > 0])
    rows = rows.assign(ratio=rows["sample_var"] / rows["rms"] ** 2)
    each = rows.groupby(["step", "site", "call"])[["ratio", "order"]].agg({"ratio": "max", "order": "min"})
    grouped = each["ratio"].groupby(["site", "call"]).agg(how)
    orders = each["order"].groupby(["site", "call"]).median()
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
