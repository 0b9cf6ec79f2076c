"""Weight decay that outweighs the loss."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, shown

_FEWEST_SHRUNK, _FEWEST_STEPS = 2, 3
_FEWEST_OPEN, _SHRINKS = 5, 0.95
"""Steps in which there was still much to learn; what is left of weights that shrink."""
_NO_PULL = 0.03
"""Of the loss's gradient, a decay that does not make weights small."""
_GONE = 1e-4
"""What is left of weights that a decay has brought to nothing, whatever biases alone have learned."""
_LOSHCHILOV = "Loshchilov & Hutter 2019, section 2"
_REMEDY = "Lower the weight decay by factors of ten (0.01 to 0.1 is usual for AdamW, 1e-4 for SGD)."


def decayed(evidence: Evidence) -> Finding | None:
    """A decay that is known to outweigh the loss, or one that is seen to."""
    left = _left(evidence)
    return None if left is None else _shrunk(evidence, left) or _outweighs(evidence, left)


def _shrunk(evidence: Evidence, left: pd.Series) -> Finding | None:
    """The weights shrink together, faster than any loss makes them: a decay that outweighs the loss."""
    crawls, median = evidence.stuck, float(left.median())
    gone = median < _GONE and bool(evidence.trace.coverage.get("weight_decay"))
    if evidence.is_half_solved and not gone:
        return None
    if median > (evidence.thresholds["shrunk_crawl_error"] if crawls else evidence.thresholds["shrunk_error"]):
        return None
    steps = evidence.clean[-1] - evidence.clean[0]
    known = evidence.trace.coverage.get("weight_decay") or {}
    most = max((float(known[site][0]) for site in left.index if site in known), default=None)
    trend = evidence.trend("gradient", evidence.early, "norm")
    faint = trend is not None and 10.0**-trend.total <= evidence.thresholds["vanishing_error"]
    pull = _pull(evidence, evidence.clean)
    if pull is not None and pull[0] < _NO_PULL:
        return _shrunk_by_loss(evidence, left, pull[0])
    return Finding(
        "oversized-update",
        "error",
        str(left.idxmin()),
        f"The weights shrink: after {steps} steps the median matrix has {shown(median)} of its size left"
        f"{', and the loss hardly falls' if crawls else ''}.",
        {
            "step": evidence.clean[0],
            "of": "shrink",
            "left": median,
            "matrices": len(left),
            "steps": steps,
            "weight_decay": most,
        }
        | ({"faint": True} if faint else {}),
        _REMEDY,
        _LOSHCHILOV,
    )


def _left(evidence: Evidence) -> pd.Series | None:
    """By matrix, its last size over its first one; None for too few of them, or of steps."""
    rows = evidence.rows("weight", evidence.clean)
    rows = rows[rows["shape"].str.contains("x", regex=False)].sort_values("step")
    ends = rows.groupby("site")["rms"].agg(["first", "last"])
    ends = ends[ends["first"] > 0]
    few = len(ends) < _FEWEST_SHRUNK or len(evidence.clean) < _FEWEST_STEPS
    return None if few else ends["last"] / ends["first"]


def _outweighs(evidence: Evidence, left: pd.Series) -> Finding | None:
    """While there is much to learn, what the decay adds to the gradient is as large as the loss's own."""
    steps = _open(evidence)
    found = None if len(steps) < _FEWEST_OPEN or float(left.median()) > _SHRINKS else _pull(evidence, steps)
    if found is None or not found[0] >= evidence.thresholds["outweighed_error"]:
        return None
    ratio, most = found
    return Finding(
        "oversized-update",
        "error",
        str(left.idxmin()),
        f"The weight decay of {most:.2g} pulls {ratio:.2g} times as hard as the loss while the loss is still high: the"
        f" weights shrink (the median matrix has {shown(float(left.median()))} of its size left) rather than learn.",
        {"step": evidence.clean[0], "of": "decay", "ratio": ratio, "weight_decay": most, "left": float(left.median())},
        _REMEDY,
        _LOSHCHILOV,
    )


def _shrunk_by_loss(evidence: Evidence, left: pd.Series, pull: float) -> Finding:
    """A decay that is known, and next to nothing beside the gradient, does not do it."""
    return Finding(
        "oversized-update",
        "error",
        str(left.idxmin()),
        f"The weights shrink: after {evidence.clean[-1] - evidence.clean[0]} steps the median matrix has"
        f" {shown(float(left.median()))} of its size left, though the weight decay pulls only {pull:.1g} times as hard"
        " as the gradient: it is the loss that makes them small.",
        {"step": evidence.clean[0], "of": "shrink", "left": float(left.median()), "matrices": len(left), "pull": pull},
        "Look at what the loss is lowest for: outputs that are all alike, or nothing, by a term whose sign is turned (a"
        " variance, a distance to negatives), or one that is missing.",
        "Bardes et al. 2022, 'VICReg', section 3: collapse where nothing keeps the variance",
    )


def _pull(evidence: Evidence, steps: list[int]) -> tuple[float, float] | None:
    """How hard the decay pulls beside the loss, in the median of these steps, and the largest decay; None where none
    is known, or it is of several kinds.

    Of all matrices together: sqrt(sum (decay * |w|)^2) over sqrt(sum |gradient|^2); of a decoupled decay, which is no
    part of the gradient, lr * decay * |w| over what else the step is made of, were it at right angles to it.
    """
    decays = evidence.trace.coverage.get("weight_decay") or {}
    table = evidence.parameters[evidence.parameters["step"].isin(steps)].dropna(subset=["norm", "gradient_norm"])
    table = table[table["site"].isin(list(decays))]
    if not len(table):
        return None
    decay = np.array([decays[one][0] for one in table["site"]])
    decoupled = {decays[one][1] for one in table["site"]}
    if decoupled == {True}:
        lr = table["step"].map(evidence.trace.steps.set_index("step")["lr"]).to_numpy()
        pull = lr * decay * table["norm"]
        loss = ((table["update_ratio"] * table["norm"]) ** 2 - pull**2).clip(lower=0.0) ** 0.5
    elif decoupled == {False}:
        pull, loss = decay * table["norm"], table["gradient_norm"]
    else:
        return None
    sums = (table.assign(pull=pull**2, loss=loss**2).groupby("step")[["pull", "loss"]].sum()) ** 0.5
    return float((sums["pull"] / sums["loss"]).median()), float(decay.max())


def _open(evidence: Evidence) -> list[int]:
    """The clean steps before the loss has fallen to half of its first value."""
    losses = evidence.clean_losses
    if not len(losses):
        return []
    low = losses.index[losses < 0.5 * losses.iloc[0]] if (losses >= 0).all() else losses.index[:0]
    return [step for step in evidence.clean if not len(low) or step < low[0]]
