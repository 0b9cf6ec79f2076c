"""What was reshaped where it should have been transposed: predictions, and signals within a model."""

from __future__ import annotations

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.scales import does_well
from diag.trace.shapes import shape_text

_FEWEST = 3
"""Passes in which it is so."""


def scrambled(evidence: Evidence) -> Finding | None:
    """Classes were in one dimension, and are read off another: the numbers of a sample belong to several pixels."""
    for loss in evidence.named("scrambled"):
        before, after = evidence.trace.coverage["scrambled"][loss]
        was, now = map(shape_text, (before, after))
        flat = len(after) == 2
        return Finding(
            "loss-not-decreasing",
            "error",
            str(loss),
            f"Predictions of shape {was} were reshaped to {now} for {loss}: that keeps the order of the numbers, so"
            " that what counts as the classes of one place are numbers of several.",
            {"step": evidence.clean[0], "of": "scrambled", "before": list(before), "after": list(after)},
            "Move the classes to the end first: permute(0, 2, 3, 1).reshape(-1, classes), or give cross_entropy the"
            " output as it is, with classes in dimension 1."
            if flat
            else "Use transpose(1, 2) or permute in place of view or reshape.",
            "torch.Tensor.view documentation; torch.nn.CrossEntropyLoss documentation, 'Shape'",
        )
    return None


def reshaped(evidence: Evidence) -> Finding | None:
    """Within a model a view swaps two sizes, as of time and channels: the numbers stay where they are, and each row is
    made of pieces of others. A warning where next to everything was learned all the same."""
    for model, seen in evidence.of_models("viewed"):
        for path, before, after, count in seen:
            if count < _FEWEST or not evidence.trains:
                continue
            was, now = map(shape_text, (before, after))
            mixes = " Samples mix, too." if before[0] != after[0] else ""
            return Finding(
                "loss-not-decreasing",
                "warning" if does_well(evidence) else "error",
                path or model,
                f"In {path or model} what has the shape {was} is given the shape {now} by view or reshape, in {count}"
                " passes. That moves no number: what counts as one row, or channel, or time step from there on is made"
                f" of pieces of several.{mixes}",
                {"step": evidence.clean[0], "of": "reshaped", "before": before, "after": after, "passes": count},
                "Use transpose or permute where dimensions are to change places: x.transpose(1, 2).",
                "torch.Tensor.view and torch.Tensor.permute documentation",
            )
    return None
