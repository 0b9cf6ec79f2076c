"""Samples of a batch that mix: taken for the steps of one sequence, or for the classes of a softmax."""

from __future__ import annotations

from collections.abc import Iterable

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed
from diag.trace.shapes import sizes


def judged_shapes(evidence: Evidence) -> list[tuple[int, ...]]:
    """Shapes of what losses are given."""
    losses = evidence.rows("activation", evidence.clean[:1], ("loss",))
    losses = losses[~losses["site"].str.endswith("]")]
    return [sizes(str(shape)) for shape in losses["shape"].dropna().unique()]


def over_samples(evidence: Evidence, sites: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of those sites whose first dimension is as long as a loss has samples, of several samples."""
    samples = {shape[0] for shape in judged_shapes(evidence) if len(shape) > 1} - {1}
    shapes = {site: sizes(str(evidence.sites.loc[site, "shape"])) for site in sites}
    return {site: shape for site, shape in shapes.items() if shape[0] in samples}


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
    shape = "x".join(map(str, shapes[site]))
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
