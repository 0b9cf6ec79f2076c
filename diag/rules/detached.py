"""Modules whose output a loss is given, and that get no gradient from it: cut off between the two."""

from __future__ import annotations

from diag.rules.alike import pairs_alike
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed

_FEWEST = 3
"""Steps in which a loss is given just the numbers that a module put out."""


def judged_without_gradient(evidence: Evidence, parts: list[str], names: list[str]) -> Finding | None:
    """A loss judges what one of these modules puts out, though none of their parameters, `names`, has a gradient."""
    judged = _judged(evidence, parts) if evidence.trains else None
    if judged is None:
        return None
    site, loss = judged
    return Finding(
        "missing-gradient",
        "error",
        site,
        f"What {site} puts out is given to {loss} in every step, but no gradient comes back: {len(names)} parameters of"
        f" {listed(parts)} get none ({listed(names)}). The output was detached before that loss, or the loss was turned"
        " into a number before it was added.",
        {
            "step": evidence.clean[0],
            "of": "judged",
            "loss": loss,
            "parameters": names[:20],
            "count": len(names),
            "modules": parts[:20],
        },
        f"Look between {site} and what backward() is called on for detach(), .data, item() or no_grad().",
        "torch.autograd documentation",
    )


def _judged(evidence: Evidence, parts: list[str]) -> tuple[str, str] | None:
    """The first of these modules whose output is what a loss is given, in every step that shows both; and that loss."""
    rows = evidence.rows("activation", evidence.clean)
    losses = rows[(rows["role"] == "loss") & ~rows["site"].str.endswith("]")]
    own = rows[rows["site"].isin(parts) & (rows["rms"] > 0)]
    pairs = pairs_alike(own, losses)
    for (site, loss), alike in pairs.groupby(["site", "site_other"], sort=False)["alike"]:
        if len(alike) >= _FEWEST and alike.all():
            return str(site), str(loss)
    return None
