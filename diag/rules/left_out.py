"""What a loss leaves out: a class, the end of every sequence, all samples of a batch but one; and padding that it does
not leave out."""

from __future__ import annotations

from diag.rules.axes import judged_shapes
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.trace.schema import INDEXED
from diag.trace.shapes import sizes

_FEWEST, _SAMPLES = 5, 8
"""Backward passes that tell of it, and samples that are several."""
_SOME, _MOST = 0.01, 0.7
"""Shares of the samples that are one class of several, and not what nothing is known of."""
_HALF, _NEARLY_ALL = 0.5, 0.8
"""Shares of the targets that are padding."""
_PART = 0.7
"""The share of the time steps that CTC reads at most."""


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


def padding_learned(evidence: Evidence) -> Finding | None:
    """Most of the targets of a cross-entropy are padding, by an embedding's word, which it is not told to ignore."""
    known = (evidence.trace.coverage.get("terms") or {}).get("last")
    if not known or known["passes"] < _FEWEST or known["share"] < _HALF:
        return None
    # Labels of another kind, as of tags or of samples, may well begin at the same number.
    ids = {tuple(one) for _, own in evidence.of_models("padding") for one in own}
    if not any((known["label"], shape[1]) in ids for shape in judged_shapes(evidence) if len(shape) > 1):
        return None
    return Finding(
        "loss-not-decreasing",
        "error" if known["share"] >= _NEARLY_ALL else "warning",
        "loss",
        f"{known['share']:.0%} of the targets of the cross-entropy are {known['label']}, which is the padding"
        f" (padding_idx={known['label']} of an embedding): most of the loss is to tell padding, which is soon learned,"
        " and little of the rest.",
        {"step": evidence.clean[0], "of": "padding", "label": int(known["label"]), "share": float(known["share"])},
        f"Have the loss leave it out: CrossEntropyLoss(ignore_index={known['label']}).",
        "torch.nn.CrossEntropyLoss documentation, 'ignore_index'",
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


def of_one_sample(evidence: Evidence) -> Finding | None:
    """The loss is given one row, where the last layer puts out one for each of several samples."""
    rows = evidence.rows("activation", evidence.clean)
    layers = rows[rows["role"] == "layer"].sort_values("order")
    if not len(layers) or not evidence.trains:
        return None
    site = str(layers["site"].iloc[-1])
    outer = sizes(str(evidence.sites.loc[site, "shape"]))
    losses = rows[rows["role"].eq("loss") & ~rows["site"].str.endswith("]")]
    if not losses["op"].isin(INDEXED).all():  # of numbers one may be a condition at a single point
        return None
    if len(outer) != 2 or outer[0] < _SAMPLES or losses["site"].nunique() != 1:
        return None
    loss = str(losses["site"].iloc[0])
    given = sizes(str(evidence.sites.loc[loss, "shape"]))
    single = (losses["count"] == outer[1]).all() and len(losses) >= _FEWEST
    if given not in ((1, outer[1]), (outer[1],)) or not single or outer[1] >= outer[0] or given[0] == outer[0]:
        return None
    inputs = rows[rows["role"] == "input"]
    if not any(sizes(str(shape))[:1] == outer[:1] for shape in inputs["shape"].dropna().unique()):
        return None
    return Finding(
        "loss-not-decreasing",
        "error",
        loss,
        f"{loss} is given one row of {outer[1]}, where {site} puts out {outer[0]}: of each batch a single sample"
        " counts.",
        {"step": evidence.clean[0], "of": "one sample", "samples": outer[0]},
        "Give the loss the whole output, without an index such as [:1] or [0].",
        "torch.nn.CrossEntropyLoss documentation, 'Shape'",
    )
