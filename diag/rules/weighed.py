"""Classes that a loss counts far too much, or far too little."""

from __future__ import annotations

import numpy as np

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.ranks import kendall

_FEWEST = 5
_APART, _UNEVEN, _TOGETHER = 2.0, 1.5, 0.8
"""Times, of weights and of what classes occur, that they are apart; Kendall's tau of both."""
_EXCESS, _FAR = 10.0, 30.0
"""Times what evens positive samples out: worth a word, and an error."""


def weighed_class(evidence: Evidence) -> Finding | None:
    """Positive samples count so much more than all others that everything is called positive; or so much less."""
    known = (evidence.trace.coverage.get("terms") or {}).get("pos_weight")
    if not known or known["passes"] < _FEWEST:
        return None
    excess = float(known["excess"])
    beyond = max(excess, 1 / excess) if excess > 0 else float("inf")
    if beyond < _EXCESS or (excess < 1 <= known["weight"]):  # of rare ones any weight above 1 is better than none
        return None
    much, other = ("more", "positive") if excess > 1 else ("less", "negative")
    return Finding(
        "loss-not-decreasing",
        "error" if beyond >= _FAR else "warning",
        "loss",
        f"pos_weight is {known['weight']:.3g}, with which all positive samples together count {beyond:.3g} times"
        f" {much} than all negative ones: nearly everything will be called {other}.",
        {"step": evidence.clean[0], "of": "pos_weight", "weight": float(known["weight"]), "excess": excess},
        "Give it at most the number of negative samples over that of positive ones.",
        "torch.nn.BCEWithLogitsLoss documentation, 'pos_weight'",
    )


def inverted_weights(evidence: Evidence) -> Finding | None:
    """Classes count the more the more often they occur."""
    known = (evidence.trace.coverage.get("terms") or {}).get("class_weights")
    if not known:
        return None
    pairs = [(weight, count) for weight, count in zip(known["weights"], known["counts"], strict=True) if count > 0]
    weights, counts = zip(*pairs, strict=True) if pairs else ((), ())
    if (
        len(pairs) < 2
        or min(weights) <= 0
        or max(weights) < _APART * min(weights)
        or max(counts) < _UNEVEN * min(counts)
    ):
        return None
    tau, _ = kendall(np.array([weight for _, weight in sorted((count, weight) for weight, count in pairs)]))
    if tau < _TOGETHER:
        return None
    return Finding(
        "loss-not-decreasing",
        "error",
        "loss",
        f"Classes count the more the more often they occur: weights of {min(weights):.3g} to {max(weights):.3g} beside"
        f" {min(counts)} to {max(counts)} samples that were seen of a class. Rare ones, which they are to help, count"
        " for next to nothing.",
        {"step": evidence.clean[0], "of": "class weights", "tau": tau},
        "Take the inverse: weight = counts.sum() / (len(counts) * counts).",
        "King & Zeng 2001, section 4; torch.nn.CrossEntropyLoss documentation, 'weight'",
    )
