"""The statistics of a gate: is it worse by more than what matters, and could these seeds have told?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from diag.gate.hidden import capped_p
from diag.gate.samples import Sample
from diag.suite.ranking import holm

Answer = Literal["pass", "regression", "improvement", "cannot tell"]
EXIT_CODES: dict[Answer, int] = {"pass": 0, "improvement": 0, "regression": 1, "cannot tell": 2}
FALSE_ALARMS = 0.01
"""The chance that a gate with nothing to find reports a regression, over all its comparisons together (Holm 1979)."""
EQUIVALENCE = 0.05
"""The one-sided level at which a change is shown to be below the margin (Schuirmann 1987)."""
POWER = 0.9
"""The chance with which `Check.needed` seeds settle a comparison whose harm and spread are those that were seen."""
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Check:
    """One comparison. harm: how much worse the new mean is, in the metric's unit (negative: better). Means of values
    that are not all finite are infinite, and so is the harm where these decide.

    low, high: its two-sided 90 % interval, whose ends are the one-sided tests'. p: of "the harm is at most the margin",
    by Holm's method over all comparisons. seeds: of the smaller side. case: "" for the mean over all cases. Where
    `answer` is "cannot tell", needed: seeds that would settle it; hidden: it would be a regression if its worst trials
    were less bad, so that only their distance from the others keeps it from being one.
    """

    case: str
    metric: str
    baseline: float
    new: float
    harm: float
    low: float
    high: float
    margin: float
    p: float
    answer: Answer
    seeds: int
    paired: bool
    needed: int | None = None
    hidden: bool = False


def judge(samples: list[Sample], false_alarms: float = FALSE_ALARMS) -> list[Check]:
    """Every comparison tested for harm beyond its margin, and for gain beyond it, by Student's or Welch's t.

    H0: harm <= margin, one-sided (twice that p where harm may lie on either side, `Sample.sides`); the p-values of all
    comparisons are held together by Holm's method, so that the chance of one false "regression" is at most
    `false_alarms`. What is neither shown to be worse nor better passes if its harm is shown to be below the margin
    (one-sided, `EQUIVALENCE`), and "cannot tell" otherwise.
    Source: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, of the test for equivalence; Holm 1979, Scand. J. Stat. 6.
    """
    if not samples:
        return []
    from scipy import special

    harm, margin = (np.array([getattr(one, name) for one in samples]) for name in ("harm", "margin"))
    error, freedom = np.array([one.spread for one in samples]).T
    raw = special.stdtr(freedom, -(harm - margin) / error)
    sides = np.array([one.sides for one in samples])
    worse = holm(np.minimum(1.0, sides * raw).tolist())
    capped = holm(np.minimum(1.0, sides * capped_p(samples, raw)).tolist())
    # Over all cases, a decay that only changed its side would look like a gain.
    one_way = np.array([one.metric.better == "zero" and not one.case for one in samples])
    better = holm(np.where(one_way, 1.0, special.stdtr(freedom, -(-harm - margin) / error)).tolist())
    half = special.stdtrit(freedom, 1 - EQUIVALENCE) * error
    level = false_alarms / len(samples)
    checks = [
        _check(one, float(width), p, gain, false_alarms, level)
        for one, width, p, gain in zip(samples, half, worse, better, strict=True)
    ]
    return [
        replace(one, hidden=True) if p < false_alarms and one.answer == "cannot tell" else one
        for one, p in zip(checks, capped, strict=True)
    ]


def _check(sample: Sample, half: float, worse: float, better: float, false_alarms: float, level: float) -> Check:
    harm = sample.harm
    answer: Answer
    if worse < false_alarms:
        answer = "regression"
    elif better < false_alarms:
        answer = "improvement"
    else:
        answer = "pass" if harm + half < sample.margin else "cannot tell"
    # A mean that holds a stand-in for what is not finite is nobody's number.
    before, after = (
        math.inf if count else sign * mean
        for sign, mean, count in zip(sample.signs, sample.means, sample.infinite, strict=True)
    )
    low, high = harm - half, harm + half
    if any(sample.infinite) and answer in ("regression", "improvement"):
        harm = low = high = math.inf if answer == "regression" else -math.inf
    return Check(
        case=sample.case,
        metric=sample.metric.name,
        baseline=before,
        new=after,
        harm=harm,
        low=low,
        high=high,
        margin=sample.margin,
        p=worse,
        answer=answer,
        seeds=min(sample.sizes),
        paired=sample.paired,
        needed=needed(sample, level) if answer == "cannot tell" else None,
    )


def needed(sample: Sample, level: float = FALSE_ALARMS) -> int | None:
    """The least seeds n, of both sides, that settle a comparison with the chance `POWER`; None beyond `MOST_SEEDS`.

    (t(1 - alpha) + t(POWER)) sqrt(variance / n) < |margin - harm|, with the harm and the variance that were seen.
    alpha: where the harm is below the margin, `EQUIVALENCE`, else `level`: that of one comparison among all.
    """
    distance = sample.margin - sample.harm
    quantiles = _quantiles(EQUIVALENCE if distance > 0 else level, sample.paired)
    enough = quantiles * math.sqrt(sum(sample.variances)) < abs(distance)
    enough[: min(sample.sizes) - 1] = False
    return int(np.argmax(enough)) + 2 if enough.any() else None


@lru_cache(maxsize=64)
def _quantiles(alpha: float, paired: bool) -> np.ndarray:
    """(t(1 - alpha) + t(POWER)) / sqrt(n) for n from 2 to `MOST_SEEDS`."""
    from scipy import special

    seeds = np.arange(2, MOST_SEEDS + 1)
    freedom = seeds - 1 if paired else 2 * (seeds - 1)
    found: np.ndarray = (special.stdtrit(freedom, 1 - alpha) + special.stdtrit(freedom, POWER)) / np.sqrt(seeds)
    return found
