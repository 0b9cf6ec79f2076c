"""Logits that go through a ReLU."""

from __future__ import annotations

import pandas as pd

from diag.rules.alike import put_out_by
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding

_OF_LOGITS = ["cross_entropy", "nll_loss", "binary_cross_entropy_with_logits"]
_RELUS = ["relu", "relu6"]
_FEWEST, _PER_CLASS = 5, 2
"""Late steps, and samples for each class, in which an output is 0 that is dead."""


def clipped_logits(evidence: Evidence) -> Finding | None:
    """A loss that takes logits is given what a relu lets through: a class it takes to 0 gets no gradient, nor can it go
    lower.

    At the least such a class keeps the probability 1 / sum_c exp(x_c). An error where the loss stands still, where a
    class is 0 for every sample, and of binary losses, to which no answer is below one half then.
    """
    rows = evidence.rows("activation", evidence.clean[:1]).sort_values("order")
    takers = rows[rows["op"].isin(_OF_LOGITS) & ~rows["site"].str.endswith("]")]
    for _, loss in takers.iterrows():
        relu = _relu_before(rows, loss)
        share = 0.0 if relu is None else float(relu["zero_fraction"])
        if relu is None or share == 0:
            continue
        dead, steps = _dead_classes(evidence, relu)
        binary = loss["op"] == "binary_cross_entropy_with_logits"
        why = "no answer can be a no" if binary else "where they get no gradient"
        if dead and not binary:
            why += (
                f"; {dead} of {relu['units']:.0f} classes are 0 for every sample in each of the last {steps} steps that"
                " were measured, and are never told"
            )
        return Finding(
            "loss-not-decreasing",
            "error" if evidence.stuck or binary or dead else "warning",
            str(relu["site"]),
            f"The logits come out of {relu['site']} ({relu['op']}), which takes {100 * share:.0f} % of them to 0:"
            f" {loss['op']} pushes wrong classes below that, {why}.",
            {"step": evidence.clean[0], "of": "clipped logits", "zero_fraction": share, "dead": dead},
            f"Remove the {relu['op']} behind the last layer.",
            "torch.nn.CrossEntropyLoss documentation: 'unnormalized logits', of any sign",
        )
    return None


def _dead_classes(evidence: Evidence, relu: pd.Series) -> tuple[int, int]:
    """How many are 0 for all samples in every late step, and in how many steps with enough samples."""
    late = evidence.rows("activation", evidence.late)
    own = late[(late["site"] == relu["site"]) & (late["call"] == relu["call"]) & (late["units"] > 0)]
    many = own[own["count"] / own["units"] >= _PER_CLASS * own["units"]]
    return (int(many["dead_units"].min()), len(many)) if len(many) >= _FEWEST else (0, 0)


def _relu_before(rows: pd.DataFrame, loss: pd.Series) -> pd.Series | None:
    """The ReLU whose outputs the loss, or the log-softmax whose outputs it is given, takes as they are."""
    before = rows[rows["role"] != "input"]
    logs = put_out_by(before, loss, ["log_softmax"])
    if len(logs):
        last = before[before["order"] < logs["order"].iloc[-1]].tail(1)
        fits = last[last["op"].isin(_RELUS) & (last["count"] == logs["count"].iloc[-1])]
    else:
        fits = put_out_by(before, loss, _RELUS)
    return fits.iloc[-1] if len(fits) else None
