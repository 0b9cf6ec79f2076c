"""A loader that is begun anew for each step, and so gives the same batch each time."""

from __future__ import annotations

import numpy as np

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding

_STEPS, _NEARLY_ALL = 20, 0.9
"""Steps that are enough to tell, and the share of them for which the loader was begun."""
_SAME = 1e-6
"""Of the size, what inputs differ by that are the same."""


def one_batch(evidence: Evidence) -> Finding | None:
    """As by `next(iter(loader))` in the loop, of a loader that does not shuffle: it is always its first batch."""
    loaders, steps = evidence.trace.coverage.get("loaders") or (), len(evidence.steps)
    begun = [one for one in loaders if one["batches"] > 1 and one["begun"] >= max(_STEPS, _NEARLY_ALL * steps)]
    rows = evidence.rows("activation", evidence.clean, ("input",))
    first = rows[rows["call"] == 0].groupby("site")[["mean", "rms"]].agg(np.ptp)
    if not begun or not len(first) or not evidence.trains:
        return None
    size = max(float(rows["rms"].max()), 1e-30)
    if float(first.to_numpy().max()) > _SAME * size:
        return None
    known = begun[0]
    return Finding(
        "evaluation-mismatch",
        "error",
        str(first.index[0]),
        f"Every step is of the same batch: a loader of {known['batches']} batches that does not shuffle was begun"
        f" {known['begun']} times for {steps} steps, and gave its first batch each time: that is what is learned.",
        {"step": evidence.clean[0], "of": "one batch", "begun": int(known["begun"]), "batches": int(known["batches"])},
        "Loop over the loader, `for batch in loader:`; or make the iterator once, and call next() on that. Let it"
        " shuffle.",
        "torch.utils.data documentation, 'DataLoader'",
    )
