"""Matrices of zeros, of which some are frozen, and gradients that are exactly zero in all that is to be trained."""

from __future__ import annotations

import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed

_FEWEST_STEPS = 12


def blocked(evidence: Evidence) -> str:
    """What is said of a matrix that is exactly zero from the first step to the last."""
    rows = evidence.rows("weight", [*evidence.clean[:1], *evidence.clean[-1:]])
    rows = rows[rows["shape"].str.contains("x", regex=False).fillna(False).astype(bool)]
    most = rows.groupby("site")["rms"].max()
    zero = evidence.in_order(most.index[most == 0])
    frozen = _zeros_that_stay(evidence) if not zero else []
    name = (zero or frozen)[-1] if zero or frozen else ""
    return f" {name} is zero{' and frozen' if frozen else ''} in every step." if name else ""


def _zeros_that_stay(evidence: Evidence) -> list[str]:
    """Layers that put out their bias alone, and whose weight is not to be trained: what is frozen is not measured."""
    sites = evidence.sites
    fixed = sites[(sites["kind"] == "parameter") & ~sites["trainable"].fillna(True).astype(bool)]
    fixed = fixed[fixed["shape"].str.contains("x", regex=False)]
    rows = evidence.rows("activation", evidence.clean, ("layer",))
    spread = rows.groupby("site")["sample_var"].max()
    owners = set(spread.index[spread == 0])
    return evidence.in_order(str(name) for name, owner in fixed["owner"].items() if owner in owners)


def frozen_zeros(evidence: Evidence) -> Finding | None:
    """Layers that put out exactly nothing, as their weights are zero and frozen, beside others that are trained."""
    rows = evidence.rows("activation", evidence.clean, ("layer",))
    most = rows.groupby("site")["rms"].max()
    names = [name for name in _zeros_that_stay(evidence) if most.get(evidence.sites.loc[name, "owner"]) == 0]
    if not names or not evidence.trains or evidence.is_half_solved or len(evidence.clean) < _FEWEST_STEPS:
        return None
    return Finding(
        "stalled-update",
        "error",
        names[0],
        f"{listed(names)} {'is' if len(names) == 1 else 'are'} zero and frozen: what"
        f" {'it puts out' if len(names) == 1 else 'they put out'} is exactly zero in all {len(evidence.clean)} steps,"
        " whatever comes in, and nothing before can be learned through it.",
        {"step": evidence.clean[0], "of": "zeros", "parameters": names[:20], "count": len(names)},
        "Train them too, with requires_grad_(True), and hand them to the optimizer; or initialize them at random.",
        "Hu et al. 2022, 'LoRA', section 4.1: one of the two factors begins at zero, and both are trained",
    )


def lost_gradients(evidence: Evidence, table: pd.DataFrame) -> Finding | None:
    """Of all that an optimizer is to train the gradient is exactly zero in every step, though one that is not comes to
    the layers: it was lost after the backward pass. table: the parameters."""
    names = list(table.sort_values("order").index)
    owners = set(table.loc[table["shape"].str.contains("x", regex=False), "owner"])
    gradients = evidence.rows("gradient", evidence.clean)
    arrived = gradients[gradients["site"].isin(owners)].groupby("site")["rms"].min() > 0
    if not len(arrived) or not arrived.all():
        return None
    count = f"all {len(names)} parameters that are to be trained" if len(names) > 1 else names[0]
    return Finding(
        "missing-gradient",
        "error",
        "optimizer",
        f"The gradient of {count} is exactly zero whenever the optimizer steps ({listed(names)}), though what comes"
        " to the layers that they belong to is not: between backward() and step() it was set to zero, multiplied by"
        " zero, or rounded to nothing in half precision.",
        {"step": evidence.clean[0], "of": "zeroed", "parameters": names[:20], "count": len(names)},
        "Look at what is done with .grad between backward() and step(): zero_grad(), a factor, a clip to 0, .half() of"
        " numbers below 6e-8.",
        "torch.optim documentation, 'Taking an optimization step'",
    )
