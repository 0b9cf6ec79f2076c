"""Classes that a loss ignores, or counts far too much."""

from __future__ import annotations

import numpy as np

from diag.rules.axes import judged_shapes
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.ranks import kendall
from diag.trace.shapes import sizes

_FEWEST = 5
_SOME, _MOST = 0.01, 0.7
"""Shares of the samples that are one class of several, and not what nothing is known of."""
_APART, _UNEVEN, _TOGETHER = 2.0, 1.5, 0.8
"""Times, of weights and of what classes occur, that they are apart; Kendall's tau of both."""
_SOME_SAMPLES, _PART = 0.05, 0.7
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


def partly_read(evidence: Evidence) -> Finding | None:
    """CTC is told to read only the beginning of every sequence."""
    known = (evidence.trace.coverage.get("terms") or {}).get("read")
    if not known or known["passes"] < _FEWEST or known["share"] > _PART:
        return None
    return Finding(
        "loss-not-decreasing",
        "error",
        "loss",
        f"ctc_loss reads at most {known['share']:.0%} of the time steps that it is given, in every batch, by its"
        " input_lengths: what comes after that is never asked for.",
        {"step": evidence.clean[0], "of": "lengths", "share": float(known["share"])},
        "input_lengths are the lengths of the network's output, after its strides: the largest is log_probs.size(0).",
        "torch.nn.CTCLoss documentation, 'Input_lengths'",
    )
