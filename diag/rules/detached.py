"""What a loss is made of and gives no gradient: modules whose output it judges, and terms that are mere numbers."""

from __future__ import annotations

from diag.rules.alike import pairs_alike
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed

_FEWEST = 3
"""Steps in which a loss is given just the numbers that a module put out; backward passes that were read."""
_NEARLY_ALL, _MOVES = 0.9, 1e-3
"""Share of these passes; by how much what is no constant changes, of its largest."""


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


def severed(evidence: Evidence, name: str) -> tuple[int, int, float, float] | None:
    """In how many of the backward passes that were read most (name `count`) or some (`partly`) of the loss has no
    graph, and is no constant; of how many; and from where to where it goes. None where that is seldom so."""
    known = evidence.trace.coverage.get("terms") or {}
    found = known.get("severed")
    if not found or not evidence.trains or evidence.alternates or evidence.acts:
        return None
    count, least, most = int(found.get(name, 0)), float(found["least"]), float(found["most"])
    moves = most - least > _MOVES * max(abs(least), abs(most))
    looked = int(known["looked"])
    return (count, looked, least, most) if count >= max(_FEWEST, _NEARLY_ALL * looked) and moves else None


def severed_terms(evidence: Evidence) -> Finding | None:
    """Most of the loss has no graph, and is no constant: its terms were made numbers before they were added."""
    found = severed(evidence, "count")
    if found is None:
        return None
    count, looked, least, most = found
    return Finding(
        "missing-gradient",
        "error",
        "loss",
        f"More than half of the loss has no graph in {count} of {looked} backward passes that were read: terms"
        f" of {least:.3g} to {most:.3g} together were added as numbers, so that nothing is learned of them.",
        {"step": evidence.clean[0], "of": "severed", "least": least, "most": most, "passes": count},
        "Add terms as tensors: without .item(), float(), .detach() or .data; a derivative that is part of the loss"
        " needs create_graph=True.",
        "torch.autograd documentation",
    )
