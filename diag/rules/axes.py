"""Samples of a batch that mix: taken for the steps of one sequence, or for the classes of a softmax."""

from __future__ import annotations

from collections.abc import Iterable

from diag.rules.evidence import SIGNAL_ROLES, Evidence
from diag.rules.finding import Finding, listed
from diag.trace.schema import INDEXED
from diag.trace.shapes import shape_text, sizes

_FEWEST, _DIFFER = 3, 1e-6
"""Steps in which it is so, and the variance over samples over mean square by which samples differ."""


def judged_shapes(evidence: Evidence) -> list[tuple[int, ...]]:
    """Shapes of what losses are given."""
    losses = evidence.rows("activation", evidence.clean[:1], ("loss",))
    losses = losses[~losses["site"].str.endswith("]")]
    return [sizes(str(shape)) for shape in losses["shape"].dropna().unique()]


def over_samples(evidence: Evidence, sites: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of those sites whose first dimension is as long as a loss has samples, of several samples."""
    samples = {shape[0] for shape in judged_shapes(evidence) if len(shape) > 1} | _numbers_of_samples(evidence)
    samples -= {1}
    shapes = {site: sizes(str(evidence.sites.loc[site, "shape"])) for site in sites}
    return {site: shape for site, shape in shapes.items() if shape[0] in samples}


def _numbers_of_samples(evidence: Evidence) -> set[int]:
    """How many numbers losses of numbers are given, one for each sample of what the network is given."""
    rows = evidence.rows("activation", evidence.clean[:1], ("loss", "input")).dropna(subset=["shape"])
    rows = rows[~rows["site"].str.endswith("]") & ~rows["op"].isin(INDEXED)]
    shapes = {role: [sizes(str(shape)) for shape in own.unique()] for role, own in rows.groupby("role")["shape"]}
    given = {shape[0] for shape in shapes.get("input", []) if len(shape) > 1}
    return given & {shape[0] for shape in shapes.get("loss", []) if len(shape) == 1}


def across_samples(evidence: Evidence) -> Finding | None:
    """A module that expects (time, samples, features) is given (samples, time, features): samples mix.

    What comes out has as many entries along its time as the loss has samples, and another number along its samples.
    """
    time_first = set(evidence.trace.coverage.get("time_first") or ())
    if not time_first:
        return None
    judged = judged_shapes(evidence)
    shapes = {str(site): sizes(str(shape)) for site, shape in evidence.sites["shape"].items() if site in time_first}
    mixed = [site for site, outer in shapes.items() if any(_are_samples(outer, one) for one in judged)]
    if not mixed:
        return None
    first = evidence.in_order(mixed)[0]
    time, samples, _ = shapes[first]
    module = str(evidence.sites.loc[first, "module"])
    one, attends = len(mixed) == 1, module == "MultiheadAttention"
    it = "it" if one else "they"
    does = f"attend{'s' * one} from each sample to the others" if attends else f"run{'s' * one} from sample to sample"
    return Finding(
        "loss-not-decreasing",
        "error",
        first,
        f"{listed(mixed)} ({module}) {'has' if one else 'have'} batch_first=False, so that a batch of"
        f" {time} samples of {samples} steps counts as {time} steps of {samples} samples:"
        f" {it} {does}, and not over time.",
        {"step": evidence.clean[0], "of": "batch axis", "sites": mixed[:20], "shape": [time, samples]},
        f"Build {'it' if one else 'them'} with batch_first=True, or transpose what {it} take{'s' * one}.",
        f"torch.nn.{module} documentation, 'batch_first'",
    )


def _are_samples(outer: tuple[int, ...], judged: tuple[int, ...]) -> bool:
    """Whether a loss has one row per entry of the first dimension, and none for the second."""
    if len(outer) != 3 or outer[1] == 1 or not 1 <= len(judged) <= 2:
        return False
    return judged[0] == outer[0] != outer[1] and judged[1:] != outer[1:2]


def softmax_over_samples(evidence: Evidence) -> Finding | None:
    """A softmax runs over as many entries as the loss has samples: what a sample gets depends on the others."""
    shapes = over_samples(evidence, evidence.named("over_first"))
    mixed = [site for site, shape in shapes.items() if shape[0] not in shape[1:]]
    if not mixed or not evidence.trains:
        return None
    site = evidence.in_order(mixed)[0]
    shape = shape_text(shapes[site])
    return Finding(
        "loss-not-decreasing",
        "error",
        site,
        f"{site} runs over the first dimension of {shape}, the {shapes[site][0]} samples of a batch: they compete with"
        " one another, and a sample that comes alone gets 1 everywhere.",
        {"step": evidence.clean[0], "of": "batch axis", "sites": mixed[:20], "shape": list(shapes[site])},
        "Let it run over classes or positions: dim=-1 as a rule.",
        "torch.nn.Softmax documentation: 'dim, a dimension along which Softmax will be computed'",
    )


def odd_axis(evidence: Evidence) -> Finding | None:
    """A log_softmax before nll_loss runs over something else than the classes."""
    for loss in evidence.named("odd_axis"):
        dim, shape = evidence.trace.coverage["odd_axis"][loss]
        over = "the samples of a batch" if dim == 0 else "positions"
        return Finding(
            "loss-not-decreasing",
            "error",
            loss,
            f"The log_softmax before {loss} runs over dimension {dim} of {shape_text(shape)}, which are {over}:"
            " the classes of one prediction, in dimension 1, do not add up to 1, and predictions compete with one"
            " another.",
            {"step": evidence.clean[0], "of": "class axis", "dim": dim, "shape": list(shape)},
            "Let it run over the classes: log_softmax(logits, dim=1), or give the logits to cross_entropy.",
            "torch.nn.NLLLoss documentation, 'Shape'",
        )
    return None


def averaged(evidence: Evidence) -> Finding | None:
    """From one layer on, in every step, each sample is exactly the same, though what led there told them apart: an
    average over the batch, or one sample taken for all. Exactly, since weights and units alone leave rounding."""
    rows = evidence.rows("activation", evidence.clean, (*SIGNAL_ROLES, "nonlinearity", "normalization", "pooling"))
    table = rows.groupby(["site", "call"]).agg(
        most=("sample_var", "max"), least=("sample_var", "min"), rms=("rms", "min"), order=("order", "median"),
        shape=("shape", "first"), role=("role", "first"),
    )  # fmt: skip
    table = table.dropna(subset=["most"]).sort_values("order")
    same = table[(table["most"] == 0) & (table["rms"] > 0)]
    samples = {shape[0] for shape in judged_shapes(evidence) if shape} - {1}
    if not len(same) or not evidence.trains or len(evidence.clean) < _FEWEST or evidence.acts:
        return None
    before, after = table[table["order"] < same["order"].min()], table[table["order"] >= same["order"].min()]
    site, first = str(same.index[0][0]), same.iloc[0]
    outputs = sizes(str(first["shape"]))
    if first["role"] in ("nonlinearity", "normalization"):  # as of units that are saturated, or of a single feature
        return None
    if not len(before) or len(same) < len(after) or not outputs or outputs[0] not in samples:
        return None
    last, name = before.iloc[-1], before.index[-1][0]
    weights = evidence.rows("weight", evidence.clean[:1])
    if not last["least"] > _DIFFER * last["rms"] ** 2 or (weights.loc[weights["owner"] == site, "rms"] == 0).any():
        return None
    return Finding(
        "collapsed-signal",
        "error",
        site,
        f"From {site} on every sample of a batch is exactly the same, in all {len(evidence.clean)} steps, though at"
        f" {name} before it they differ: what stands between them averages over the batch, or takes one"
        " sample for all.",
        {"step": evidence.clean[0], "of": "averaged", "before": str(name)},
        "Look at the dim of each mean, sum, max and index there: dimension 0 is that of the samples.",
        "torch.mean documentation, 'dim'",
    )
