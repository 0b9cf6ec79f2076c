"""A bias so large that it, and not the input, makes up what a layer puts out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding

_SHARE = 0.9
"""Of the output's rms that the bias alone makes up."""
_LARGE = 2.0
"""The rms of a bias that is not what any law draws."""
_SQUASHED = ("sigmoid", "tanh", "hardsigmoid", "hardtanh", "softsign", "binary_cross_entropy_with_logits")
_OF_CLASSES = ("softmax", "log_softmax", "cross_entropy")


def biased(evidence: Evidence) -> Finding | None:
    """A layer whose output is its bias in the first and in the last steps, with something behind that it saturates.

    rms(bias) >= 8 and >= 0.9 rms(output): a sigmoid has a slope below 4e-4 there; of a softmax, to which a shift of all
    logits is nothing, the standard deviation. The bias of a regression's last layer may be the targets' mean.
    """
    if not evidence.clean or not evidence.trains:
        return None
    begin, end = (_shares(evidence, steps) for steps in (evidence.clean[:1], evidence.clean[-1:]))
    both = begin[begin.index.isin(end.index)].sort_values("order")
    both = both[[_behind(evidence, str(site)) in (*_SQUASHED, *_OF_CLASSES) for site in both.index]]
    if not len(both):
        return None
    site, one = str(both.index[0]), both.iloc[0]
    return Finding(
        "exploding-activation",
        "error",
        site,
        f"The bias of {site} has rms {one['bias']:.3g}, and its output {one['rms']:.3g}: whatever the layer is given,"
        " it puts out next to the same, far from where what follows it has a slope.",
        {"step": evidence.clean[0], "of": "bias", "bias": float(one["bias"]), "rms": float(one["rms"])},
        f"Initialize the bias of {site} with 0 (or with the logarithm of what is expected, such as log(p / (1 - p))).",
        "Glorot & Bengio 2010, section 3; Karpathy 2019, 'init well'",
    )


def _shares(evidence: Evidence, steps: list[int]) -> pd.DataFrame:
    """Layers whose output is nearly all bias: rms of both, and the order."""
    rows = evidence.rows("weight", steps)
    limit = evidence.thresholds["bias_error"]
    rows = rows[(rows["op"] == "bias") & (rows["rms"] >= limit)]  # a deviation is no larger
    shifts = np.array([_behind(evidence, str(owner)) in _OF_CLASSES for owner in rows["owner"]], dtype=bool)
    size = (rows["var"] ** 0.5).where(shifts, rows["rms"])
    rows = rows.assign(size=size)[size >= limit]
    bias = rows.groupby("owner")["size"].max()
    layers = evidence.rows("activation", steps, ("layer",))
    layers = layers[layers["site"].isin(bias.index)].groupby("site")[["rms", "order"]].first()
    layers["bias"] = bias.reindex(layers.index)
    return layers[layers["bias"] >= _SHARE * layers["rms"]]


def made_by_bias(evidence: Evidence, site: str) -> float:
    """The rms of a layer's bias where it is no small one and makes up what the layer puts out at first; or 0."""
    bias = first_biases(evidence, site)["rms"].max()
    layers = evidence.rows("activation", evidence.clean[:1], ("layer",))
    out = layers.loc[layers["site"] == site, "rms"].max()
    return float(bias) if bias >= _LARGE and bias >= _SHARE * out else 0.0


def first_biases(evidence: Evidence, site: str) -> pd.DataFrame:
    """The rows of a layer's biases in the first step; of a recurrent module, for each of its outputs."""
    rows = evidence.rows("weight", evidence.clean[:1])
    rows = rows[rows["op"] == "bias"]
    own = [site == one or site.startswith(f"{one}[") for one in rows["owner"].astype(str)]
    return rows[np.array(own, dtype=bool)]


def _behind(evidence: Evidence, site: str) -> str:
    """The operation right behind a layer."""
    rows = evidence.rows("activation", evidence.clean[:1]).sort_values("order")
    order = rows.loc[rows["site"] == site, "order"].max()
    behind = rows[(rows["order"] > order) & ~rows["role"].isin(["dropout", "pooling", "other"])]
    return str(behind["op"].iloc[0]) if len(behind) else ""
