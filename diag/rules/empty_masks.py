"""Masks that come out empty: of few positive elements none is ever told."""

from __future__ import annotations

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.trace.shapes import sizes

_HALFWAY = {"binary_cross_entropy_with_logits": 0.0, "binary_cross_entropy": 0.5}
"""What an output lies above, by the loss that it is given to, to be called positive."""
_RARE, _POSITIVE = 0.1, 10
"""The share of positive elements at most, and how many a batch has at the least."""
_SAME = 1e-3
"""Of their mean, within which the mean square of zeros and ones is the same."""
_STEPS, _MEASURED, _DENSE = 100, 5, 3
"""Steps that are enough to tell some; looks at the end; dimensions of a mask for each sample."""


def empty_masks(evidence: Evidence) -> Finding | None:
    """An output for each place, of which a few are positive in every batch, and none comes near to one half at the end.

    As long as it is only told by how likely a positive one is, the share p of all elements, every output is below
    log(p / (1 - p)).
    """
    if not evidence.trains or not evidence.clean or evidence.clean[-1] < _STEPS:
        return None
    rows = evidence.rows("activation", evidence.late)
    targets = evidence.rows("activation", evidence.clean, ("target",))
    for site, own in targets.groupby("site", sort=False):
        loss = str(site).removesuffix("[target]")
        half = _HALFWAY.get(str(evidence.sites.loc[loss, "op"]))
        given = rows[rows["site"] == loss]
        if half is None or len(given) < _MEASURED or len(sizes(str(given["shape"].iloc[0]))) < _DENSE:
            continue
        binary = (own["min"] >= 0) & (own["max"] == 1) & ((own["rms"] ** 2 - own["mean"]).abs() <= _SAME * own["mean"])
        share, least = float(own["mean"].median()), float((own["mean"] * own["count"]).min())
        if not binary.all() or not 0 < share <= _RARE or least < _POSITIVE or given["max"].max() >= half:
            continue
        return Finding(
            "loss-not-decreasing",
            "error",
            loss,
            f"Nothing is ever called positive: {share:.2%} of the targets of {loss} are 1, and in the last"
            f" {len(given)} steps that were measured the largest output is {given['max'].max():.2g}, where"
            f" {half:g} is one half. Nearly all of the loss comes from the others.",
            {"step": int(given["step"].iloc[0]), "of": "empty", "share": share, "largest": float(given["max"].max())},
            f"Have positive elements count more: pos_weight of up to {(1 - share) / share:.0f}, or a loss of the"
            " overlap (Dice) beside it; or call positive what lies above a lower threshold.",
            "torch.nn.BCEWithLogitsLoss documentation, 'pos_weight'; Milletari et al. 2016, section 3",
        )
    return None
