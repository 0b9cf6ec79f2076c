"""The values of a run and of a baseline, side by side, as the comparisons that are judged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from diag.gate.baseline import CaseValues
from diag.gate.metrics import Metric

Numbers = Any
"""A number, or an array of them."""
RESOLUTION = 0.1
"""No spread over seeds is believed to be less than this share of the margin: five equal values are no proof."""
BEYOND = 100.0
"""Margins beyond the worst finite value at which a value that is not finite is counted."""


@dataclass(frozen=True)
class Sample:
    """The two sides of one comparison, as numbers of which more is worse. seeds: those of each side, in their order.

    signs: what the measured values of each side were multiplied by to make them so. sides: the directions in which it
    can become worse; where there are two, the worse one was chosen by looking, and its p counts twice. infinite: how
    many values of each side are not finite, and were given a number.
    """

    case: str
    metric: Metric
    margin: float
    baseline: np.ndarray
    new: np.ndarray
    paired: bool
    seeds: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    signs: tuple[float, float] = (1.0, 1.0)
    infinite: tuple[int, int] = (0, 0)

    @property
    def sides(self) -> int:
        """1 or 2."""
        return 2 if self.metric.better in ("zero", "same") else 1

    @cached_property
    def means(self) -> tuple[float, float]:
        """Of the baseline and of the new."""
        return float(self.baseline.sum()) / len(self.baseline), float(self.new.sum()) / len(self.new)

    @property
    def harm(self) -> float:
        """The mean of the new minus that of the baseline."""
        return self.means[1] - self.means[0]

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """The values of each side."""
        return len(self.baseline), len(self.new)

    @cached_property
    def variances(self) -> tuple[float, ...]:
        """Of the differences if paired, else of each side; none is believed to be less than `RESOLUTION` allows."""
        parts = (self.new - self.baseline,) if self.paired else (self.baseline, self.new)
        least = (RESOLUTION * self.margin) ** 2
        return tuple(max(_variance(one), least) for one in parts)

    @cached_property
    def spread(self) -> tuple[float, float]:
        """The standard error of `harm` and its degrees of freedom: of the mean difference if paired, else Welch's."""
        error, freedom = spread(self.variances, self.sizes)
        return float(error), float(freedom)


def spread(variances: Sequence[Numbers], sizes: Sequence[int]) -> tuple[Numbers, Numbers]:
    """sqrt(sum v / n), and sum(v / n)**2 / sum((v / n)**2 / (n - 1)) (Welch 1947); of one variance s / sqrt(n), n - 1.

    A pair counts once: for the variance of differences only the first size is taken.
    """
    parts = [(one / size, size - 1) for one, size in zip(variances, sizes, strict=False)]
    total = sum(one for one, _ in parts)
    return np.sqrt(total), total**2 / sum(one**2 / free for one, free in parts)


def _variance(values: np.ndarray) -> float:
    # As np.var(ddof=1), which takes several times as long for a handful of values.
    centered = values - values.sum() / len(values)
    return float(centered @ centered) / (len(values) - 1)


def samples_of(
    case: str, old: CaseValues, new: CaseValues, metrics: Mapping[str, Metric], gaps: list[str], remarks: list[str]
) -> Iterator[Sample]:
    """One case's comparisons. gaps: filled with what the new side lacks; remarks: with what cannot be compared."""
    for name, metric in metrics.items():
        one, other = (_by_seed(side, name) for side in (old, new))
        lost = [seed for seed in one if seed in new.seeds and seed not in other]
        if len(one) < 2:
            if one or other:
                few = f"{len(one)} trials" if one else "no trial"
                remarks.append(f"{name} of '{case}' is not compared: the baseline has {few} with it")
        elif not other:
            gaps.append(f"the run measured no {name} for '{case}', the baseline did: is a look or a measure gone?")
        elif lost:
            gaps.append(f"the run measured no {name} for '{case}' with seed {lost[0]}, the baseline did")
        elif len(other) < 2:
            gaps.append(f"'{case}' has one trial with {name}, the baseline {len(one)}: a gate needs at least two")
        else:
            yield _sample(case, metric, one, other, remarks)


def _by_seed(values: CaseValues, metric: str) -> dict[int, float]:
    pairs = zip(values.seeds, values.metrics.get(metric, [math.nan] * len(values.seeds)), strict=True)
    return {seed: value for seed, value in pairs if not math.isnan(value)}


def _sample(case: str, metric: Metric, one: dict[int, float], other: dict[int, float], remarks: list[str]) -> Sample:
    """The two sides of one metric, paired by seed where one side's seeds are all among the other's."""
    margin = metric.margin_at(float(np.mean([v for v in one.values() if math.isfinite(v)] or [math.inf])))
    shared = sorted(set(one) & set(other))
    paired = len(shared) >= 2 and len(shared) == min(len(one), len(other))
    seeds = [shared, shared] if paired else [sorted(one), sorted(other)]
    before, after = (np.array([side[seed] for seed in own]) for side, own in zip((one, other), seeds, strict=True))
    infinite = int((~np.isfinite(before)).sum()), int((~np.isfinite(after)).sum())
    if any(infinite):
        remarks.append(
            f"{metric.name} of '{case}' is not finite in {infinite[0]} trials of the baseline and {infinite[1]} of the "
            f"run: counted as {BEYOND:g} margins beyond the worst that is"
        )
    signs = _signs(metric, before, after)
    sides = _finite(signs[0] * before, signs[1] * after, margin)
    return Sample(case, metric, margin, *sides, paired, (tuple(seeds[0]), tuple(seeds[1])), signs, infinite)


def _signs(metric: Metric, before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """What turns the values of each side into numbers of which more is worse. For "zero" each side's mean becomes its
    distance from zero; for "same" the new mean becomes the larger one."""
    if metric.better in ("high", "low"):
        sign = -1.0 if metric.better == "high" else 1.0
        return sign, sign
    finite = np.isfinite(before), np.isfinite(after)
    old, new = (
        float(np.mean(side[own])) if own.any() else 0.0 for side, own in zip((before, after), finite, strict=True)
    )
    if metric.better == "zero":
        first = math.copysign(1.0, old)
        # What is not finite has no direction of its own.
        return first, math.copysign(1.0, new) if finite[1].all() else first
    sign = -1.0 if new < old else 1.0
    return sign, sign


def _finite(one: np.ndarray, other: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """What is infinite is as bad as can be, whatever its sign, but no mean can hold it."""
    whole = np.concatenate([one, other])
    finite = whole[np.isfinite(whole)]
    worst = (float(finite.max()) if len(finite) else 0.0) + BEYOND * margin
    return np.where(np.isfinite(one), one, worst), np.where(np.isfinite(other), other, worst)


def pooled_sample(name: str, samples: list[Sample]) -> Sample | None:
    """The mean over all cases by seed, in margins: many recipes see what none of them could show alone.

    Of the seeds that all cases have; None for fewer than two cases, or two such seeds.
    """
    own = [one for one in samples if one.metric.name == name]
    if len(own) < 2:
        return None
    shared = [sorted(set.intersection(*(set(one.seeds[side]) for one in own))) for side in (0, 1)]
    if min(map(len, shared)) < 2:
        return None
    scale = sum(one.margin for one in own) / len(own)
    before, after = (
        np.sum([_of_seeds(one, side, shared[side]) * (scale / one.margin / len(own)) for one in own], axis=0)
        for side in (0, 1)
    )
    metric, signs = own[0].metric, own[0].signs
    if metric.better == "zero":
        signs = (1.0, 1.0)
    elif metric.better == "same":
        signs = _signs(metric, before, after)
        before, after = signs[0] * before, signs[1] * after
    paired = shared[0] == shared[1] and all(one.paired for one in own)
    infinite = sum(one.infinite[0] for one in own), sum(one.infinite[1] for one in own)
    return Sample("", metric, scale, before, after, paired, (tuple(shared[0]), tuple(shared[1])), signs, infinite)


def _of_seeds(sample: Sample, side: int, seeds: list[int]) -> np.ndarray:
    """The values of one side with these seeds, in their order, comparable between cases.

    Whether a case became worse in one direction or in the other is chosen by looking, and a mean over cases of what was
    so chosen would be harm where there is none. So the mean is of distances from zero towards the baseline's side, and
    of changes with their sign.
    """
    values = (sample.baseline, sample.new)[side]
    if sample.metric.better == "zero":
        values = values * (sample.signs[0] * sample.signs[side])
    elif sample.metric.better == "same":
        values = values * sample.signs[side]
    own = sample.seeds[side]
    return values if list(own) == seeds else values[[own.index(seed) for seed in seeds]]
