"""Labels that tell nothing, or more than the loss can take: smoothed away, all one class, several for a sample."""

from __future__ import annotations

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.scales import guesses
from diag.trace.schema import INDEXED

_FEWEST, _SAMPLES = 5, 8
"""Batches whose targets were seen, and the samples of each."""
_NOTHING_LEFT = 0.05
"""Of a guess's cross-entropy, what is left where all targets are the same and that is learned."""
_MOST_SMOOTHED, _NOTHING_TOLD = 0.5, 0.99
"""Label smoothing that is worth a word, and that leaves nothing of the labels."""
_SOME_SAMPLES = 0.05
"""The share of the samples that have several labels, and are no mistake of the labels."""


def smoothed(evidence: Evidence) -> Finding | None:
    """Labels are smoothed until next to nothing tells the right class from the others."""
    known = evidence.trace.coverage.get("terms") or {}
    share = float(known.get("smoothing", 0.0))
    if share < _MOST_SMOOTHED:
        return None
    return Finding(
        "loss-not-decreasing",
        "error" if share >= _NOTHING_TOLD else "warning",
        "loss",
        f"Labels are smoothed by {share:.3g}: of a target that much is spread evenly over all classes, and"
        f" {max(1 - share, 0.0):.3g} tells the right one.",
        {"step": evidence.clean[0], "of": "smoothing", "smoothing": share},
        "Smooth labels by 0.1 at most: CrossEntropyLoss(label_smoothing=0.1).",
        "Szegedy et al. 2016, 'Rethinking the Inception architecture', section 7",
    )


def single_class(evidence: Evidence) -> Finding | None:
    """All targets of all batches are one class, and the loss has come to nothing: it is always right."""
    rows = evidence.rows("activation", evidence.clean, ("target",))
    known = guesses(evidence)
    if known is None or float(known[0].iloc[-(len(known[0]) // 3) :].median()) > _NOTHING_LEFT * known[1]:
        return None
    layers = evidence.sites[evidence.sites["role"] == "layer"].sort_values("order")
    for (site, _), own in rows[rows["count"] >= _SAMPLES].groupby(["site", "call"], sort=False):
        loss = str(site).removesuffix("[target]")
        if evidence.sites.loc[loss, "op"] not in INDEXED or len(own) < _FEWEST or own["min"].min() != own["max"].max():
            continue
        # Of similarities the first may be the right one in every row.
        if not len(layers) or layers["shape"].iloc[-1] != evidence.sites.loc[loss, "shape"]:
            continue
        return Finding(
            "loss-not-decreasing",
            "error",
            loss,
            f"All targets are class {own['min'].iloc[0]:g}, in all {len(own)} batches that were seen: there is nothing"
            f" to tell apart, and a loss of {known[0].iloc[-1]:.2g} says nothing.",
            {"step": evidence.clean[0], "of": "one class", "class": float(own["min"].iloc[0]), "batches": len(own)},
            "Look at how labels are made: numbers between 0 and 1 that are cut to integers are all 0; a filter or an"
            " index may leave one class alone.",
            "Karpathy 2019, 'A recipe for training neural networks', step 1: become one with the data",
        )
    return None


def several_classes(evidence: Evidence) -> Finding | None:
    """A cross-entropy is given targets that name several classes at once, each with 1."""
    known = (evidence.trace.coverage.get("terms") or {}).get("several")
    if not known or known["passes"] < _FEWEST or known["share"] < _SOME_SAMPLES:
        return None
    return Finding(
        "loss-not-decreasing",
        "error",
        "loss",
        f"The targets of a cross-entropy name several classes at once for {known['share']:.0%} of the samples, each"
        " with 1: its softmax lets probabilities add up to 1, so that classes take from each other what both are to"
        " have.",
        {"step": evidence.clean[0], "of": "several classes", "share": float(known["share"])},
        "Take binary_cross_entropy_with_logits, of which each class is a question of its own.",
        "torch.nn.CrossEntropyLoss documentation, 'target': class probabilities",
    )
