"""Predictions that were reshaped where they should have been transposed."""

from __future__ import annotations

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding


def scrambled(evidence: Evidence) -> Finding | None:
    """Classes were in one dimension, and are read off another: the numbers of a sample belong to several pixels."""
    for loss in evidence.named("scrambled"):
        before, after = evidence.trace.coverage["scrambled"][loss]
        was, now = ("x".join(map(str, shape)) for shape in (before, after))
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
