"""Activation functions driven to where their slope is gone."""

from __future__ import annotations

from collections.abc import Iterator

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.registry import rule

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


@rule("saturated-activation")
def saturated_activation(evidence: Evidence) -> Iterator[Finding]:
    """Most elements of a hidden activation stand where its slope is at most 1 % of its largest."""
    rows = evidence.rows("activation", evidence.clean, ("nonlinearity",))
    rows = rows[~rows["op"].isin(_ONE_SIDED)]
    hidden = rows[rows["order"] < _last_layer(evidence)]
    if not len(hidden):
        return
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
        return
    grave = worst[worst["share"] >= (limit["saturated_crawl_error"] if evidence.stuck else limit["saturated_error"])]
    site, _ = (grave if len(grave) else worst).index[0]
    first = (grave if len(grave) else worst).iloc[0]
    onset = hidden[(hidden["site"] == site) & (hidden["share"] >= limit["saturated_warning"])]["step"].min()
    input_rms = evidence.input_rms()
    cause = f" The input's rms is {input_rms:.3g}: standardize it." if input_rms > 5 else ""
    yield Finding(
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


def _last_layer(evidence: Evidence) -> float:
    """The position of the last layer: an activation after it is the output's, and may saturate."""
    orders = evidence.rows("activation", evidence.clean, ("layer", "recurrent", "attention"))["order"]
    return float(orders.max()) if len(orders) else float("inf")
