"""Slopes that a sound way of scaling has by construction: they are no trouble."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from diag.scaling.measure import LAST
from diag.scaling.slopes import LEVEL, Slope

READOUT = 1.0
"""The output at initialization may shrink as 1 / width: a readout of muP lets it do so as width^-0.5, and one that is
smaller still is made up for in a step (Yang et al. 2022, appendix D.1)."""
ROOT = 0.5
"""What lies behind a readout of muP, or within a residual branch of weight 1 / sqrt(depth), shrinks with the root."""
ADAPTIVE = ("adam", "lamb", "lion", "rmsprop", "rprop", "adagrad", "adadelta", "adafactor", "muon", "sophia")
"""Parts of the names of optimizers whose steps do not depend on the size of the gradients."""


def intended(slopes: list[Slope], table: pd.DataFrame, axis: str, optimizers: Iterable[str]) -> dict[str, list[Slope]]:
    """Why slopes that are not level are sound, and which: for width the ways of muP, for depth residual branches.

    optimizers: the names of the classes that took the steps.
    """
    at = {(one.site, one.quantity, one.step): one for one in slopes}
    tops = {LAST, *table.loc[table["order"] == table["order"].max(), "site"]}
    known = list(optimizers)
    adaptive = bool(known) and all(any(part in name.lower() for part in ADAPTIVE) for name in known)
    if axis == "width":
        return _of_width(slopes, at, tops, adaptive=adaptive)
    return _of_depth(slopes, at, tops, table)


_At = dict[tuple[str, str, int], Slope]


def _of_width(slopes: list[Slope], at: _At, tops: set[str], *, adaptive: bool) -> dict[str, list[Slope]]:
    first, last = _ends(slopes)
    after = at.get((LAST, "activation", last))
    found = {}
    if after is not None and after.verdict != "shrinks":
        found["readout"] = [
            one
            for one in slopes
            if one.site in tops and (one.quantity, one.step) == ("activation", first) and _mild(one, READOUT)
        ]
    if adaptive:
        found["adaptive"] = [one for one in slopes if one.quantity == "gradient" and _mild(one, ROOT)]
    return found


def _of_depth(slopes: list[Slope], at: _At, tops: set[str], table: pd.DataFrame) -> dict[str, list[Slope]]:
    """Branches: what is within them shrinks, and what goes past them, to the first layer and the last, does not."""
    found = []
    for quantity, ends in (("gradient", _bottom(table)), ("activation", LAST)):
        for step in dict.fromkeys(_ends(slopes)):
            reached = at.get((ends, quantity, step))
            if reached is None or reached.verdict in ("grows", "shrinks"):
                continue
            found += [
                one
                for one in slopes
                if (one.quantity, one.step) == (quantity, step) and one.site not in {ends, *tops} and _mild(one, ROOT)
            ]
    return {"branches": found}


def _bottom(table: pd.DataFrame) -> str:
    """The first site that has a gradient: all that reaches it came through the stream."""
    rows = table[table["quantity"] == "gradient"]
    return "" if rows.empty else str(rows["site"].iloc[int(rows["order"].argmin())])


def _mild(one: Slope, root: float) -> bool:
    """Whether it shrinks, or may, and no faster than size^-root."""
    return one.verdict in ("shrinks", "cannot tell") and one.slope >= -root - LEVEL and one.high <= LEVEL


def _ends(slopes: list[Slope]) -> tuple[int, int]:
    steps = [one.step for one in slopes]
    return min(steps, default=0), max(steps, default=0)
