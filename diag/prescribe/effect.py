"""What a remedy brought: the change of the final loss beside the control's, with an interval, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from diag.prescribe.arm import Arm

CONFIDENCE = 0.95
MARGIN = 0.05
"""The least fall of the final loss that counts, as a share of the loss before training. Half of the healthy set-ups of
tests/corpus end within 0.022 of each other in three orders of their batches, nine in ten within 0.065
(`python -m tests.corpus.prescribe --noise`): a smaller change is one that chance makes as well."""
MORE_SEEDS = 2
"""For a remedy of what was itself seen to be wrong, where each seed ended lower and the interval still holds 0."""
FEWEST_RESCUED = 3
"""Seeds from which it is beyond chance that all treated trainings end lower and all untreated ones higher: by Fisher's
exact test 1 / C(2 n, n), which is 1 in 20 for three seeds and 1 in 6 for two."""
LEARNED = 0.01
"""The least fall of the remedy's own loss, relative to its start, for it to have learned anything."""

Verdict = Literal["helped", "cannot tell", "did not help", "diverged", "could not be tried"]


@dataclass(frozen=True)
class Effect:
    """measure: "log ratio" of the final losses, remedy over control, or their "difference" where one is not positive.

    value: its mean over seeds; low, high: Student's interval, paired by seed; infinite for one seed. control, remedy:
    the final losses' geometric means over the same seeds (their means under "difference"), infinite where a seed
    diverged. base, end: the same of what they count as, so that value is log(end / base). start: the loss before
    training, the smaller of the two.
    """

    measure: str
    value: float
    low: float
    high: float
    control: float
    remedy: float
    start: float
    seeds: int
    base: float
    end: float
    rescued: bool = False

    @property
    def matters(self) -> bool:
        """Whether the loss ends lower by `MARGIN` of the one before training, sure or not."""
        return self.base - self.end >= MARGIN * self.start

    @property
    def is_sure(self) -> bool:
        """Whether chance can hardly have made it."""
        return self.high < 0 or (self.rescued and self.seeds >= FEWEST_RESCUED)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "confidence": CONFIDENCE}


def effect_of(control: Sequence[Arm], remedy: Sequence[Arm]) -> Effect:
    """The effect over the seeds that both have run, in the same order.

    A final loss above the one before training (the smallest of these), an infinite one too, counts as that one: how far
    a training went astray says nothing of how well another does, and would be the noise that hides it.
    """
    pairs = list(zip(control, remedy, strict=False))
    starts = [arm.start for pair in pairs for arm in pair if math.isfinite(arm.start)] or [1.0]
    top = min(starts) if min(starts) > 0 else max(starts)
    margin = MARGIN * abs(top)
    finals = [(min(a.final, top), min(b.final, top)) for a, b in pairs]
    positive = all(value > 0 for pair in finals for value in pair)
    changes = [math.log(b / a) if positive else b - a for a, b in finals]
    low, high = _interval(changes)
    return Effect(
        "log ratio" if positive else "difference",
        float(np.mean(changes)),
        low,
        high,
        control=_middle([a.final for a, _ in pairs], positive),
        remedy=_middle([b.final for _, b in pairs], positive),
        start=min(map(abs, starts)),
        seeds=len(pairs),
        base=_middle([a for a, _ in finals], positive),
        end=_middle([b for _, b in finals], positive),
        rescued=all(a.final >= top + margin and b.final <= top - margin for a, b in pairs),
    )


def verdict_of(effect: Effect, remedy: Sequence[Arm]) -> Verdict:
    """Helped: the loss ends lower by `MARGIN`, the remedy itself learned, and the interval excludes no effect, or it
    rescued all seeds; where only the interval does not, more seeds might, and that cannot be told."""
    if any(arm.diverged for arm in remedy):
        return "diverged"
    start = float(np.mean([arm.start for arm in remedy]))
    learned = start - effect.remedy >= LEARNED * abs(start)
    if not effect.matters or not learned:
        return "did not help"
    return "helped" if effect.is_sure else "cannot tell"


def is_settled(effect: Effect, remedy: Sequence[Arm], seeds: int) -> bool:
    """Whether more seeds can no longer make it "helped".

    A diverged seed settles it. So does one without a fall, up to four seeds in all: t is then at most `seeds` - 1,
    which is below Student's quantile.
    """
    if any(arm.diverged for arm in remedy):
        return True
    return seeds <= 4 and effect.seeds == 1 and effect.value >= 0


def is_open(effect: Effect, control: Sequence[Arm], remedy: Sequence[Arm]) -> bool:
    """Whether each seed ended lower, by enough in the mean, and only that they are few leaves it undecided."""
    if any(arm.diverged for arm in remedy) or effect.is_sure:
        return False
    lower = all(b.final < a.final for a, b in zip(control, remedy, strict=True))
    return lower and effect.matters


def _middle(values: Sequence[float], positive: bool) -> float:
    """The geometric mean, whose ratios are what the log ratios average to; the mean of what may be negative."""
    return float(np.exp(np.mean(np.log(values))) if positive else np.mean(values))


def _interval(changes: Sequence[float]) -> tuple[float, float]:
    mean, count = float(np.mean(changes)), len(changes)
    if count < 2:
        return -math.inf, math.inf
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1) * np.std(changes, ddof=1) / math.sqrt(count))
    return mean - half, mean + half
