"""Targets of 0 and 1 for a loss that tells like pairs from unlike ones by 1 and -1."""

from __future__ import annotations

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, shown

_DOES = {
    "cosine_embedding_loss": "pairs of 0 count for nothing, so that unlike ones are not pushed apart",
    "hinge_embedding_loss": "pairs of 0 count for nothing, so that unlike ones are not pushed apart",
    "margin_ranking_loss": "pairs of 0 have the margin for their loss, whatever their scores",
    "soft_margin_loss": "samples of 0 have log 2 for their loss, whatever is put out",
}


def unsigned(evidence: Evidence) -> Finding | None:
    """None of the targets is -1, and some are 0."""
    rows = evidence.rows("activation", evidence.clean, ("signs",))
    for site, own in rows.groupby("site", sort=False):
        loss = str(site).removesuffix("[signs]")
        op = str(evidence.sites.loc[loss, "op"])
        zero = float(own["zero_fraction"].mean())
        if own["min"].min() != 0 or own["max"].max() != 1 or zero == 0:
            continue
        return Finding(
            "loss-not-decreasing",
            "error",
            loss,
            f"{op} takes targets of 1 and -1, and is given 1 and 0, {shown(zero)} of them 0: {_DOES[op]}.",
            {"step": int(own["step"].iloc[0]), "of": "signs", "zero_fraction": zero},
            "Give it 2 * target - 1.",
            f"torch.nn.functional.{op} documentation: targets are 1 or -1",
        )
    return None
