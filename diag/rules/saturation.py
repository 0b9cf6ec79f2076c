"""Activation functions driven to where their slope is gone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.outputs import driven_out
from diag.rules.registry import rule
from diag.rules.scales import does_well, is_open, scales_of_weights
from diag.trace.shapes import sizes

_ONE_SIDED = (
    "relu",
    "leaky_relu",
    "softplus",
    "prelu",
    "rrelu",
    "clamp",
    "threshold",
    "softmax",
    "log_softmax",
    "hardshrink",
    "softshrink",
)
"""Their flat part is what they are for: dead-units judges it."""
_RECURRENT = r"(?:^|\.)weight_hh(?:_l\d+(?:_reverse)?)?$"
"""What torch calls the weights from state to state."""
_HARD, _FEWEST_ENTRIES = 0.9, 2.5
"""What squares of probabilities add up to that are next to one-hot, and of how many entries at the least."""
_EVEN, _LONG = 0.02, 60
"""A deviation of probabilities over their mean that is next to none, and the steps after which it shows."""
_FEWEST_SIGMOIDS = 2
_LARGE_WEIGHTS = 4.0
"""rms times sqrt(fan_in) of weights that saturate what follows; sqrt(2) as He et al. initialize."""


@rule("saturated-activation")
def saturated_activation(evidence: Evidence) -> Iterator[Finding]:
    """Most elements of a hidden activation stand where its slope is at most 1 % of its largest."""
    found = _measured(evidence)
    if found is None or found.severity != "error":
        found = (
            driven_out(evidence)
            or _recurrent(evidence)
            or _one_hot(evidence)
            or _even(evidence)
            or _sigmoids(evidence)
            or found
        )
    if found is not None:
        yield found


def _recurrent(evidence: Evidence) -> Finding | None:
    """The recurrent weights are many times as large as an orthogonal matrix: what they reach is saturated."""
    rows = evidence.rows("weight", evidence.clean[:1])
    rows = rows[rows["site"].str.contains(_RECURRENT, regex=True)]
    units = rows["shape"].map(lambda shape: sizes(str(shape))[-1]).astype(float)
    scale = (rows["rms"] * units**0.5).set_axis(rows["site"])
    if not len(scale) or not scale.max() >= evidence.thresholds["recurrent_error"]:
        return None
    site = str(scale.idxmax())
    return Finding(
        "saturated-activation",
        "error" if evidence.stuck else "warning",
        site,
        f"The recurrent weight {site} has rms times sqrt(units) {scale.max():.3g}, where an orthogonal matrix has 1: it"
        " drives the gates, or the state, to where their slope is gone, and what a step changed is lost in the next.",
        {"step": evidence.clean[0], "of": "recurrent", "scale": float(scale.max())},
        "Initialize recurrent weights orthogonally, or as torch does: uniform within 1 / sqrt(units).",
        "Saxe et al. 2014, section 3; Pascanu et al. 2013, section 2.1",
    )


def _inner_softmaxes(evidence: Evidence, steps: list[int]) -> pd.DataFrame:
    """The rows of softmaxes before the last layer, over several entries: their mean is 1 over how many these are."""
    rows = evidence.rows("activation", steps, ("nonlinearity",))
    inner = rows["op"].eq("softmax") & (rows["order"] < _last_layer(evidence))
    return rows[inner & (rows["mean"] > 0) & (rows["mean"] < 1 / _FEWEST_ENTRIES)]


def _one_hot(evidence: Evidence) -> Finding | None:
    """A softmax within the network gives nearly all to one entry from the first step on: the mean of sum_i p_i^2, of K
    entries K rms^2, is 1 then, and its slope p_i (1 - p_i) next to nothing."""
    rows = _inner_softmaxes(evidence, evidence.clean[:1])
    sums = (rows["rms"] ** 2 / rows["mean"]).set_axis(rows["site"])
    if not len(sums) or not sums.max() >= _HARD or does_well(evidence) or not evidence.trains:
        return None
    site = str(sums.idxmax())
    return Finding(
        "saturated-activation",
        "error" if is_open(evidence) else "warning",
        site,
        f"{site} is next to one-hot from the first step on: the squares of its probabilities add up to"
        f" {sums.max():.2f} on average. What it is given is far too large, and next to no gradient comes through.",
        {"step": evidence.clean[0], "of": "one-hot", "squares": float(sums.max())},
        "Divide attention scores by the square root of the keys' size, or by a larger temperature.",
        "Vaswani et al. 2017, section 3.2.1: scaled dot-product attention",
    )


def _even(evidence: Evidence) -> Finding | None:
    """A softmax within the network gives every entry next to the same in every step, 1 / K with a deviation of a
    hundredth of that: what it is given says nothing, and learns next to nothing."""
    rows = _inner_softmaxes(evidence, evidence.clean)
    spread = (rows["var"] ** 0.5 / rows["mean"]).groupby(rows["site"]).max()
    if not len(spread) or not 0 < spread.min() < _EVEN or len(evidence.clean) < _LONG or not evidence.trains:
        return None
    if does_well(evidence):
        return None
    site = str(spread.idxmin())
    return Finding(
        "saturated-activation",
        "error",
        site,
        f"{site} gives every entry next to the same, in every step: its probabilities deviate by {spread.min():.1g} of"
        " their mean. What it is given is far too small, or is divided by far too large a temperature.",
        {"step": evidence.clean[0], "of": "even", "spread": float(spread.min())},
        "Divide by a temperature of about 1; let what comes to it have a deviation of about 1.",
        "Jang et al. 2017, 'Categorical reparameterization with Gumbel-softmax', section 2.2",
    )


def _sigmoids(evidence: Evidence) -> Finding | None:
    """All hidden activations are sigmoids, and the loss does not fall."""
    rows = _without_gates(evidence, evidence.rows("activation", evidence.clean[:1], ("nonlinearity",)))
    hidden = rows[(rows["order"] < _last_layer(evidence)) & ~rows["op"].isin(["softmax", "log_softmax"])]
    if len(hidden) < _FEWEST_SIGMOIDS or not hidden["op"].eq("sigmoid").all() or not evidence.stuck:
        return None
    first = hidden.sort_values("order").iloc[0]
    return Finding(
        "saturated-activation",
        "error",
        str(first["site"]),
        f"All {len(hidden)} hidden activations are sigmoids, and the loss hardly falls: each passes on a quarter"
        " of the gradient at most, and outputs around 0.5 that drown what tells samples apart.",
        {"step": evidence.clean[0], "of": "sigmoid", "op": "sigmoid", "activations": len(hidden)},
        "Use relu, gelu or tanh in hidden layers, or normalize before each sigmoid.",
        "Glorot & Bengio 2010, section 3.1; LeCun et al. 1998, section 4.4",
    )


def _without_gates(evidence: Evidence, rows: pd.DataFrame) -> pd.DataFrame:
    """Without sigmoids inside a module that puts out something else, as x * sigmoid(1.702 x): that is an activation of
    its own, and flat where a relu is."""
    inside = rows[rows["op"].eq("sigmoid") & rows["site"].str.endswith(":sigmoid")]
    if not len(inside):
        return rows
    steps = [int(step) for step in inside["step"].unique()]
    whole = evidence.rows("activation", steps).set_index(["site", "step", "call"])["rms"]
    whole = whole[~whole.index.duplicated()]
    keys = list(zip(inside["site"].str.removesuffix(":sigmoid"), inside["step"], inside["call"], strict=True))
    outside = whole.reindex(keys).to_numpy()
    gate = ~np.isnan(outside) & ~np.isclose(outside, inside["rms"].to_numpy(), rtol=1e-3)
    return rows.drop(index=inside.index[gate])


def _measured(evidence: Evidence) -> Finding | None:
    """By the share of elements."""
    rows = _without_gates(evidence, evidence.rows("activation", evidence.clean, ("nonlinearity",)))
    rows = rows[~rows["op"].isin(_ONE_SIDED)]
    hidden = rows[rows["order"] < _last_layer(evidence)]
    if not len(hidden):
        return None
    # A zero of relu6 is what a zero of relu is: only those that are not zero can be too large.
    zeros = hidden["zero_fraction"].where(hidden["op"] == "relu6", 0.0)
    share = ((hidden["saturated_fraction"] - zeros) / (1 - zeros)).clip(lower=0)
    hidden = hidden.assign(share=share)
    late = (
        hidden[hidden["step"].isin(evidence.late)]
        .groupby(["site", "call"])
        .agg(share=("share", "median"), order=("order", "min"), op=("op", "first"))
    )
    limit = evidence.thresholds
    worst = late[late["share"] >= limit["saturated_warning"]].sort_values("order")
    if not len(worst):
        return None
    grave = worst[worst["share"] >= (limit["saturated_crawl_error"] if evidence.stuck else limit["saturated_error"])]
    site, _ = (grave if len(grave) else worst).index[0]
    first = (grave if len(grave) else worst).iloc[0]
    onset = hidden[(hidden["site"] == site) & (hidden["share"] >= limit["saturated_warning"])]["step"].min()
    input_rms = evidence.input_rms()
    cause = _too_large(evidence, float(first["order"])) or (
        f" The input's rms is {input_rms:.3g}: standardize it." if input_rms > 5 else ""
    )
    return Finding(
        "saturated-activation",
        "error" if len(grave) else "warning",
        str(site),
        f"{first['share']:.0%} of the outputs of {site} ({first['op']}) are saturated, in {len(worst)} of {len(late)}"
        f" activations.{cause}",
        {
            "step": int(onset),
            "saturated_fraction": float(first["share"]),
            "op": str(first["op"]),
            "sites": [str(s) for s, _ in worst.index][:20],
            "input_rms": input_rms,
        },
        "Standardize the input, scale the weights before it down (glorot_normal, biases zero), normalize before it, or"
        " use an activation that does not saturate.",
        "Glorot & Bengio 2010, section 3; saturation: slope at most 1 % of the largest",
    )


def _too_large(evidence: Evidence, order: float) -> str:
    """What is said of the weights right before an activation, where they are many times what keeps a signal's size."""
    layers = evidence.rows("activation", evidence.clean[:1], ("layer",)).sort_values("order")
    layers = layers[layers["order"] < order]
    site = str(layers["site"].iloc[-1]) if len(layers) else ""
    scale = float(scales_of_weights(evidence).get(f"{site}.weight", 0.0))
    if scale < _LARGE_WEIGHTS:
        return ""
    return (
        f" {site}.weight begins with rms times sqrt(fan_in) {scale:.3g}, where about 1 keeps a signal's size:"
        " initialize it smaller."
    )


def _last_layer(evidence: Evidence) -> float:
    """The position of the last layer: an activation after it is the output's, and may saturate."""
    orders = evidence.rows("activation", evidence.clean, ("layer", "recurrent", "attention"))["order"]
    return float(orders.max()) if len(orders) else float("inf")
