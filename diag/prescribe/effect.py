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
LEARNED = 0.01
"""The least fall of the remedy's own loss, relative to its start, for it to have learned anything."""

Verdict = Literal["helped", "did not help", "diverged", "could not be tried"]


@dataclass(frozen=True)
class Effect:
    """measure: "log ratio" of the final losses, remedy over control, or their "difference" where one is not positive.

    value: its mean over seeds; low, high: Student's interval, paired by seed; infinite for one seed. control, remedy:
    mean final losses, infinite where a seed diverged. start: the loss before training, the smaller of the two.
    """

    measure: str
    value: float
    low: float
    high: float
    control: float
    remedy: float
    start: float
    seeds: int

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
    finals = [(min(a.final, top), min(b.final, top)) for a, b in pairs]
    positive = all(value > 0 for pair in finals for value in pair)
    changes = [math.log(b / a) if positive else b - a for a, b in finals]
    low, high = _interval(changes)
    return Effect(
        "log ratio" if positive else "difference",
        float(np.mean(changes)),
        low,
        high,
        float(np.mean([a.final for a, _ in pairs])),
        float(np.mean([b.final for _, b in pairs])),
        min(map(abs, starts)),
        len(pairs),
    )


def verdict_of(effect: Effect, remedy: Sequence[Arm]) -> Verdict:
    """Helped: the interval excludes no effect, the loss ends lower by `MARGIN`, and the remedy itself learned."""
    if any(arm.diverged for arm in remedy):
        return "diverged"
    start = float(np.mean([arm.start for arm in remedy]))
    learned = start - effect.remedy >= LEARNED * abs(start)
    matters = effect.control - effect.remedy >= MARGIN * effect.start
    return "helped" if effect.high < 0 and matters and learned else "did not help"


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
    if any(arm.diverged for arm in remedy) or effect.high < 0:
        return False
    lower = all(b.final < a.final for a, b in zip(control, remedy, strict=True))
    return lower and effect.control - effect.remedy >= MARGIN * effect.start


def _interval(changes: Sequence[float]) -> tuple[float, float]:
    mean, count = float(np.mean(changes)), len(changes)
    if count < 2:
        return -math.inf, math.inf
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1) * np.std(changes, ddof=1) / math.sqrt(count))
    return mean - half, mean + half
