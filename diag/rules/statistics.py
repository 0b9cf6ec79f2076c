"""Running statistics of batch norms that never catch up with the batches they are to stand for."""

from __future__ import annotations

from collections.abc import Iterator

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed, shown

_MANY = 100
"""Batches before an evaluation, from which it is not that training has just begun."""


def stale_statistics(evidence: Evidence) -> Iterator[Finding]:
    """Of a batch norm with momentum m, (1 - m)^n of the statistics are still the initial 0 and 1 after n batches.

    Only of those that have met no batch before they were watched: pretrained ones have theirs from there. An error
    where, after that many batches, the network is evaluated by them.
    """
    known = evidence.trace.coverage.get("slow_statistics") or {}
    passes = int(evidence.trace.coverage.get("training_passes", 0))
    left = {
        str(site): ((1 - momentum) ** batches, momentum, batches)
        for site, (momentum, batches) in known.items()
        if site in evidence.sites.index and 0 < batches <= passes
    }
    stale = {site: one for site, one in left.items() if one[0] >= evidence.thresholds["stale_warning"]}
    if not stale:
        return
    site = evidence.in_order(stale)[0]
    share, momentum, batches = stale[site]
    evaluated = batches >= _MANY and int(evidence.trace.coverage.get("evaluation_passes", 0)) > 0
    yield Finding(
        "stalled-update",
        "error" if evaluated else "warning",
        site,
        f"The running statistics of {listed(list(stale))} do not catch up: with momentum {momentum:.2g} they are still"
        f" {shown(share)} the initial mean of 0 and variance of 1 after {batches} batches, and eval() normalizes by"
        " them.",
        {
            "step": evidence.clean[0],
            "of": "momentum",
            "momentum": momentum,
            "batches": batches,
            "left": share,
            "sites": list(stale)[:20],
        },
        "Set momentum=0.1, torch's default: it is the weight of the new batch, where TensorFlow's is that of the old"
        " statistics (0.99 there is 0.01 here).",
        "torch.nn.BatchNorm2d documentation: 'momentum'; Ioffe & Szegedy 2015, section 3.1",
    )
