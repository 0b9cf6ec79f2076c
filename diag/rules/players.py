"""Binary cross-entropies whose targets are one number a batch, as those of the two players of a GAN."""

from __future__ import annotations

import math

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.trace.schema import BINARY

_FEWEST, _SAMPLES = 20, 8
"""Batches whose targets were seen, and the samples of each."""
_WON = 0.1
"""Of log 2, a guess's cross-entropy, what a player's loss has come down to who has won."""
_SOURCE = "Goodfellow et al. 2014, 'Generative adversarial nets', equation 1"


def players(evidence: Evidence) -> Finding | None:
    """All targets are one and the same number, in every batch; or both of two players win, as they can only where they
    want the same."""
    rows = evidence.rows("activation", evidence.clean, ("target",))
    rows = rows[rows["site"].str.removesuffix("[target]").map(evidence.sites["op"]).isin(BINARY)]
    rows = rows[rows["count"] >= _SAMPLES]
    if len(rows) < _FEWEST or (rows["min"] != rows["max"]).any():
        return None
    loss, values = str(rows["site"].iloc[0]).removesuffix("[target]"), sorted(rows["min"].unique())
    if len(values) == 1:
        return _single(evidence, loss, len(rows), float(values[0]))
    return _allied(evidence, loss) if evidence.alternates else None


def _single(evidence: Evidence, loss: str, batches: int, value: float) -> Finding:
    op = str(evidence.sites.loc[loss, "op"])
    return Finding(
        "loss-not-decreasing",
        "error",
        loss,
        f"The targets of {op} are {value:g} in all {batches} batches that were seen: a constant output suffices, and"
        " nothing is to be told apart.",
        {"step": evidence.clean[0], "of": "one target", "value": value, "batches": batches},
        "Look at the labels: in a GAN the discriminator's are 1 for what is real and 0 for what is made.",
        _SOURCE,
    )


def _allied(evidence: Evidence, loss: str) -> Finding | None:
    """The last losses of each optimizer are those of who has won."""
    steps = evidence.steps[evidence.steps["loss_known"].astype(bool) & (evidence.steps["optimizer"] >= 0)]
    ends = {
        int(str(optimizer)): float(own["loss"].iloc[-max(1, len(own) // 5) :].median())
        for optimizer, own in steps.groupby("optimizer")
    }
    starts = steps.groupby("optimizer")["loss"].first()
    won = all(0 <= end <= _WON * math.log(2) for end in ends.values())
    if len(ends) != 2 or not won or not (starts > max(ends.values())).all():
        return None
    shown = " and ".join(f"{end:.2g}" for end in ends.values())
    return Finding(
        "loss-not-decreasing",
        "error",
        loss,
        f"Both players win: the losses of the two optimizers end at {shown}, where one can only be low while the other"
        " is high. What one is trained to do is what the other wants.",
        {"step": evidence.clean[0], "of": "one side", "ends": list(ends.values())},
        "Look at the targets of each step: the generator's are those that the discriminator has for what is real.",
        _SOURCE,
    )
