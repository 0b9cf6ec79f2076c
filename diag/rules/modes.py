"""Modules that are trained as if they were evaluated."""

from __future__ import annotations

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed


def never_trained(evidence: Evidence) -> Finding | None:
    """Batch normalizations in evaluation mode whose running statistics are still 0 and 1: they normalize nothing."""
    every = set(evidence.trace.coverage.get("norms_unused") or ())
    idle = [str(one) for one in evidence.sites.sort_values("order").index if one in every]
    if not idle or not evidence.trains:
        return None
    one = len(idle) == 1
    return Finding(
        "loss-not-decreasing",
        "error",
        idle[0],
        f"{len(idle)} batch normalization{'' if one else 's'} ({listed(idle)}) normalize{'s' * one} nothing:"
        f" {'it' if one else 'they'} ran in evaluation mode in every step, with running statistics of mean 0 and"
        " variance 1, which no batch of the training has changed.",
        {
            "step": evidence.clean[0] if evidence.clean else 0,
            "of": "evaluation",
            "sites": idle[:20],
            "count": len(idle),
        },
        "Call model.train() before training, and again after each evaluation that called model.eval().",
        "torch.nn.Module.train documentation; Ioffe & Szegedy 2015, algorithm 2",
    )
