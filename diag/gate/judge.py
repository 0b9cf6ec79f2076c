"""The statistics of a gate: is it worse by more than what matters, and could these seeds have told?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from diag.gate.metrics import Metric
from diag.suite.ranking import holm

Answer = Literal["pass", "regression", "improvement", "cannot tell"]
FALSE_ALARMS = 0.01
"""The chance that a gate with nothing to find reports a regression, over all its comparisons together (Holm 1979)."""
EQUIVALENCE = 0.05
"""The one-sided level at which a change is shown to be below the margin (Schuirmann 1987)."""
RESOLUTION = 0.2
"""No spread over seeds is believed to be less than this share of the margin: five equal values are no proof."""
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Check:
    """One comparison. harm: how much worse the new mean is, in the metric's unit (negative: better).

    low, high: its two-sided 90 % interval, whose ends are the one-sided tests'. p: of "the harm is at most the margin".
    seeds: of the smaller side. needed: seeds that would settle it, where `answer` is "cannot tell". case: "" for the
    mean over all cases.
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


@dataclass(frozen=True)
class Sample:
    """The two sides of one comparison, as numbers of which more is worse."""

    case: str
    metric: Metric
    margin: float
    baseline: np.ndarray
    new: np.ndarray
    paired: bool

    @property
    def harm(self) -> float:
        """The mean of the new minus that of the baseline."""
        return float(self.new.mean() - self.baseline.mean())

    def spread(self) -> tuple[float, float]:
        """The standard error of `harm` and its degrees of freedom: of the differences if paired, else Welch's."""
        least = RESOLUTION * self.margin
        if self.paired:
            sd = max(_sd(self.new - self.baseline), least)
            return sd / math.sqrt(len(self.new)), len(self.new) - 1
        parts = [max(_sd(one), least) ** 2 / len(one) for one in (self.baseline, self.new)]
        sizes = [len(one) - 1 for one in (self.baseline, self.new)]
        freedom = sum(parts) ** 2 / sum(part**2 / size for part, size in zip(parts, sizes, strict=True))
        return math.sqrt(sum(parts)), freedom


def _sd(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1))


def judge(samples: list[Sample], false_alarms: float = FALSE_ALARMS) -> list[Check]:
    """Every comparison tested for harm beyond its margin, and for gain beyond it, by Student's or Welch's t.

    H0: harm <= margin, one-sided; the p-values of all comparisons are held together by Holm's method, so that the
    chance of one false "regression" is at most `false_alarms`. What is neither shown to be worse nor better passes if
    its harm is shown to be below the margin (one-sided, `EQUIVALENCE`), and "cannot tell" otherwise.
    """
    worse = holm([_p_above(one, one.harm - one.margin) for one in samples])
    better = holm([_p_above(one, -one.harm - one.margin) for one in samples])
    return [_check(one, p, gain, false_alarms) for one, p, gain in zip(samples, worse, better, strict=True)]


def _p_above(sample: Sample, distance: float) -> float:
    from scipy import stats

    error, freedom = sample.spread()
    return float(stats.t.sf(distance / error, freedom))


def _check(sample: Sample, worse: float, better: float, false_alarms: float) -> Check:
    from scipy import stats

    error, freedom = sample.spread()
    half = float(stats.t.ppf(1 - EQUIVALENCE, freedom)) * error
    harm = sample.harm
    answer: Answer
    if worse < false_alarms:
        answer = "regression"
    elif better < false_alarms:
        answer = "improvement"
    else:
        answer = "pass" if harm + half < sample.margin else "cannot tell"
    sign = -1.0 if sample.metric.better == "high" else 1.0
    return Check(
        case=sample.case,
        metric=sample.metric.name,
        baseline=sign * float(sample.baseline.mean()),
        new=sign * float(sample.new.mean()),
        harm=harm,
        low=harm - half,
        high=harm + half,
        margin=sample.margin,
        p=worse,
        answer=answer,
        seeds=min(len(sample.baseline), len(sample.new)),
        paired=sample.paired,
        needed=needed(sample) if answer == "cannot tell" else None,
    )


def needed(sample: Sample) -> int | None:
    """The seeds at which the harm seen would be shown to be below the margin, or above it, at `EQUIVALENCE`; None if
    more than `MOST_SEEDS`."""
    from scipy import stats

    error, _ = sample.spread()
    size = len(sample.new) if sample.paired else min(len(sample.baseline), len(sample.new))
    one = error * math.sqrt(size)
    distance = abs(sample.margin - sample.harm)
    for seeds in range(size + 1, MOST_SEEDS + 1):
        freedom = seeds - 1 if sample.paired else 2 * (seeds - 1)
        if float(stats.t.ppf(1 - EQUIVALENCE, freedom)) * one / math.sqrt(seeds) < distance:
            return seeds
    return None
