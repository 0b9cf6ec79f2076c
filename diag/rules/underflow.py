"""Gradients that half precision has no numbers for."""

from __future__ import annotations

import numpy as np

from diag.rules.evidence import SIGNAL_ROLES, Evidence
from diag.rules.finding import Finding

_LEAST = 2.0**-24
"""The smallest number above 0 of float16."""
_FEW = 64
"""So many times that, or less: six bits of a gradient are left of the ten that float16 has."""
_MOST_OF = 0.5
"""Of the gradients of layers that were measured."""
_FEWEST = 3


def _in_half(evidence: Evidence) -> set[str]:
    """Sites whose extremes are numbers of float16, as their gradients are then; none where these are a few such as 0
    and 1, which any number format has."""
    rows = evidence.rows("activation", evidence.late, SIGNAL_ROLES)
    extremes = rows[["min", "max"]].to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        fits = (extremes.astype(np.float16).astype(np.float64) == extremes) | ~np.isfinite(extremes)
    if len(np.unique(extremes)) < rows["site"].nunique():
        return set()
    return set(rows["site"]) - set(rows["site"][~fits.all(axis=1)])


def _asks(evidence: Evidence) -> bool:
    """Whether the losses are above 0, so that the last layer should hear of them."""
    losses = evidence.clean_losses
    return bool(len(losses) and (losses > 0).all())


def underflows(evidence: Evidence) -> Finding | None:
    """Most layers' gradients are whole multiples of 2^-24, and only a few times that: what is left of them in float16.

    Numbers of float32 that are as small are no such multiples, unless differences of larger ones are left of them.
    """
    rows = evidence.rows("gradient", evidence.late, SIGNAL_ROLES)
    if len(rows) < _FEWEST or evidence.is_half_solved:
        return None
    ends = rows[["min", "max"]].abs().max(axis=1)
    grid = rows[["min", "max"]].to_numpy() / _LEAST
    whole = (grid == 0) | ((np.abs(grid) > 0.5) & (np.abs(grid - np.round(grid)) < 1e-9))
    coarse = whole.all(axis=1) & (ends <= _FEW * _LEAST).to_numpy()
    half = rows["site"].isin(_in_half(evidence)).to_numpy()
    seen = rows[coarse & (ends > 0).to_numpy() & half]
    nothing = rows[(ends == 0).to_numpy()]
    if half.all() and len(nothing) == len(rows) and _asks(evidence):
        site = str(rows.sort_values("order")["site"].iloc[-1])
        said = (
            f"from {site} on, the last layer, down to the first all of them are exactly zero, in float16, whose"
            f" smallest number is 6e-08, under a loss of {float(evidence.clean_losses.median()):.3g}."
        )
        return _told(evidence, site, said, zero=1.0, largest=0.0)
    if not len(seen) or len(seen) + len(nothing) < _MOST_OF * len(rows):
        return None
    site = str(seen.sort_values("order")["site"].iloc[-1])
    zero = float(seen["zero_fraction"].median())
    largest = float(ends[coarse].max())
    said = (
        f"at {site} none is above {largest:.2g}, each is a multiple of the smallest number of float16, 6e-08, and"
        f" {zero:.0%} of them are exactly zero."
    )
    return _told(evidence, site, said, zero=zero, largest=largest)


def _told(evidence: Evidence, site: str, said: str, *, zero: float, largest: float) -> Finding:
    return Finding(
        "vanishing-gradient",
        "error",
        site,
        f"Gradients underflow: {said}",
        {"step": evidence.clean[0], "of": "underflow", "zero_fraction": zero, "largest": largest},
        "Scale the loss: torch.amp.GradScaler, with a scale far above 1; or use bfloat16, or float32 for this part.",
        "Micikevicius et al. 2018, 'Mixed precision training', section 3.2: loss scaling",
    )
