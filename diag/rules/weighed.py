"""Classes that a loss ignores, or counts far too much."""

from __future__ import annotations

from diag.rules.axes import judged_shapes
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.trace.shapes import sizes

_FEWEST = 5
_SOME, _MOST = 0.01, 0.7
"""Shares of the samples that are one class of several, and not what nothing is known of."""
_EXCESS, _FAR = 10.0, 30.0
"""Times what evens positive samples out: worth a word, and an error."""


def ignored_class(evidence: Evidence) -> Finding | None:
    """A class of a classification, a label for each sample, is the one that the loss ignores."""
    known = (evidence.trace.coverage.get("terms") or {}).get("ignored")
    if not known or known["passes"] < _FEWEST or not _SOME <= known["share"] <= _MOST:
        return None
    inputs = evidence.rows("activation", evidence.clean[:1], ("input",))
    samples = {sizes(str(shape))[0] for shape in inputs["shape"] if sizes(str(shape))}
    classes = [shape[1] for shape in judged_shapes(evidence) if len(shape) == 2 and shape[0] == known["predictions"]]
    label = int(known["label"])
    # Of positions that were put into one row, 0 is the padding.
    if known["predictions"] not in samples or not classes or not 0 <= label < classes[0]:
        return None
    return Finding(
        "loss-not-decreasing",
        "error",
        "loss",
        f"The cross-entropy ignores label {label} (ignore_index={label}), which is one of the {classes[0]} classes that"
        f" it is given logits for, and that of {known['share']:.1%} of the samples: nothing is learned of it.",
        {"step": evidence.clean[0], "of": "ignored", "label": label, "share": float(known["share"])},
        "Leave ignore_index out, or number the classes without the label that is to be ignored.",
        "torch.nn.CrossEntropyLoss documentation, 'ignore_index'",
    )


def weighed_class(evidence: Evidence) -> Finding | None:
    """Positive samples count so much more than all others that everything is called positive; or so much less."""
    known = (evidence.trace.coverage.get("terms") or {}).get("pos_weight")
    if not known or known["passes"] < _FEWEST:
        return None
    excess = float(known["excess"])
    beyond = max(excess, 1 / excess) if excess > 0 else float("inf")
    if beyond < _EXCESS:
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
