"""Pairs of samples that a loss draws together although they differ, and pushes apart although they are alike."""

from __future__ import annotations

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding

_FEWEST, _FAR = 5, 8.0
"""Passes that were looked at; standard errors beyond every healthy training that was seen, all of which had less than
0."""


def swapped_pairs(evidence: Evidence) -> Finding | None:
    """Inputs of pairs that are drawn together lie farther from each other than those of pairs that are pushed apart:
    the labels of a contrastive loss are taken the other way round."""
    known = evidence.trace.coverage.get("pairs")
    if not known or not evidence.trains or known["passes"] < _FEWEST or known["z"] < _FAR:
        return None
    return Finding(
        "loss-not-decreasing",
        "error",
        "loss",
        f"The loss draws pairs together whose inputs differ, and pushes those apart whose inputs are alike: by"
        f" {known['z']:.3g} standard errors over {known['passes']} passes, where chance gives 0. It looks as if the"
        " label that says which pairs are of one kind were taken the other way round.",
        {"step": evidence.clean[0], "of": "pairs", "z": float(known["z"]), "passes": int(known["passes"])},
        "Look at which label the loss takes for a pair of one kind: (1 - label) * d**2 + label * relu(margin - d)**2"
        " has 0 for it, label * d**2 + (1 - label) * relu(margin - d)**2 has 1.",
        "Hadsell, Chopra & LeCun 2006, 'Dimensionality reduction by learning an invariant mapping', equation 4",
    )
