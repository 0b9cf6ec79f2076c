"""Straight lines through logarithms: the exponent with which a quantity grows, and whether it is one to worry about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

Verdict = Literal["level", "grows", "shrinks", "cannot tell"]
LEVEL = 0.15
"""An exponent within 0.15 of 0 is level: eight times the width then changes a signal by at most a factor of 1.4."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Slope:
    """quantity ~ size^slope at a site and step. low, high: the 95 % interval of the slope.

    explained: the share of the variance of the logarithms that the line explains; low where no power law fits.
    """

    site: str
    quantity: str
    step: int
    slope: float
    low: float
    high: float
    explained: float
    verdict: Verdict


def slopes(table: pd.DataFrame) -> list[Slope]:
    """The slope of log value over log size for every site, quantity and step; columns size, seed, value beside these.

    By least squares over all sizes and seeds, with Student's interval on the residuals. A quantity that is zero or not
    finite anywhere has the slope it is going to: "grows" where it overflows at larger sizes, "shrinks" where it dies.
    """
    found = []
    for key, rows in table.groupby(["site", "quantity", "step"], sort=False):
        site, quantity, step = (str(one) for one in key)
        if rows["size"].nunique() >= 2:
            found.append(_slope(site, quantity, int(step), rows))
    return found


def _slope(site: str, quantity: str, step: int, rows: pd.DataFrame) -> Slope:
    from scipy import stats

    if (rows["value"] == 0).all():
        # A readout that begins at zero: nothing there depends on the size.
        return Slope(site, quantity, step, 0.0, 0.0, 0.0, 1.0, "level")
    good = rows[np.isfinite(rows["value"]) & (rows["value"] > 0)]
    if len(good) < len(rows):
        bad = rows.drop(good.index)
        verdict: Verdict = "cannot tell"
        if bad["size"].mean() > rows["size"].mean():
            verdict = "shrinks" if (bad["value"] == 0).all() else "grows"
        return Slope(site, quantity, step, math.nan, math.nan, math.nan, math.nan, verdict)
    x, y = np.log(good["size"].to_numpy(float)), np.log(good["value"].to_numpy(float))
    line = stats.linregress(x, y)
    freedom = len(x) - 2
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * float(line.stderr) if freedom > 0 else math.inf
    low, high = float(line.slope) - half, float(line.slope) + half
    return Slope(site, quantity, step, float(line.slope), low, high, float(line.rvalue) ** 2, _judged(low, high))


def _judged(low: float, high: float) -> Verdict:
    if low > LEVEL:
        return "grows"
    if high < -LEVEL:
        return "shrinks"
    return "level" if max(-low, high) < LEVEL else "cannot tell"
