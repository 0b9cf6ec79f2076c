"""A claim of the literature, how it is measured, and the verdict of the measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from diag.suite.errors import MissingTrialsError, SuiteError
from diag.suite.record import encoded

if TYPE_CHECKING:
    from diag.suite.results import Results

CONFIDENCE = 0.95
"""Of a claim's interval; of its parts' intervals together, by Bonferroni."""

Answer = Literal["holds", "does not hold", "undecided"]


@dataclass(frozen=True)
class Claim:
    """A statement that can fail, with its source and its measure.

    measure(results): one value per seed (a pandas Series), or one number where nothing is random, or a mapping from
    names to these, all of which must hold. above, below: the open range of values in which the statement is true.

    Raises: SuiteError without a bound, or with bounds that no value meets.
    """

    statement: str
    source: str
    measure: Callable[[Results], Any]
    above: float | None = None
    below: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if not callable(self.measure):
            raise SuiteError(f"the claim {self.statement!r} needs a function as its measure, got {self.measure!r}")
        for what in ("above", "below"):
            bound = getattr(self, what)
            known = isinstance(bound, (int, float, np.number)) and not isinstance(bound, bool)
            if bound is not None and not (known and not math.isnan(bound)):
                raise SuiteError(f"the claim {self.statement!r} needs a number for `{what}`, got {bound!r}")
        if self.above is None and self.below is None:
            raise SuiteError(f"the claim {self.statement!r} could not fail: give `above`, `below` or both")
        if self.above is not None and self.below is not None and not self.above < self.below:
            raise SuiteError(f"the claim {self.statement!r} could not hold: above={self.above} to below={self.below}")

    @property
    def range(self) -> tuple[float, float]:
        """The open interval of values in which it is true."""
        return (
            -math.inf if self.above is None else float(self.above),
            math.inf if self.below is None else float(self.below),
        )


@dataclass(frozen=True)
class Part:
    """One measured quantity: the mean over seeds, its interval, and how many seeds; 0 seeds where nothing is random."""

    name: str
    estimate: float
    low: float
    high: float
    seeds: int
    verdict: Answer
    why: str = ""


@dataclass(frozen=True)
class ClaimVerdict:
    """What the measurement says of a claim: it holds if all parts do, and does not hold as soon as one does not."""

    statement: str
    source: str
    verdict: Answer
    above: float | None
    below: float | None
    unit: str
    parts: tuple[Part, ...] = ()
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a number that is not finite becomes its name."""
        plain = asdict(self)
        for part in plain["parts"]:
            part |= {key: encoded(part[key]) for key in ("estimate", "low", "high")}
        return plain


def judge_claim(claim: Claim, results: Results) -> ClaimVerdict:
    """Measure a claim and give the verdict by its interval.

    With n seeds the interval is Student's, mean +- t s / sqrt(n). It lies within the claim's range: holds; without:
    does not hold; across a bound, or from fewer than two seeds: undecided. Trials that are missing leave it undecided.

    Raises: SuiteError if the measure fails or returns something else than it may.
    """
    try:
        measured = claim.measure(results)
    except MissingTrialsError as error:
        return _verdict(claim, "undecided", why=str(error))
    except Exception as error:
        raise SuiteError(
            f"the claim {claim.statement!r} cannot be measured: {type(error).__name__}: {error}"
        ) from error
    named: Mapping[str, Any] = measured if isinstance(measured, Mapping) else {"": measured}
    if not named:
        raise SuiteError(f"the claim {claim.statement!r} measures nothing: its measure returned an empty mapping")
    parts = tuple(_part(claim, name, value, len(named)) for name, value in named.items())
    answers = {part.verdict for part in parts}
    verdict: Answer = (
        "does not hold" if "does not hold" in answers else "undecided" if "undecided" in answers else "holds"
    )
    return _verdict(claim, verdict, parts)


def _verdict(claim: Claim, verdict: Answer, parts: tuple[Part, ...] = (), why: str = "") -> ClaimVerdict:
    return ClaimVerdict(
        claim.statement, claim.source, verdict, claim.above, claim.below, claim.unit, parts=parts, why=why
    )


def interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Mean and Student's interval, mean +- t_{n-1} s / sqrt(n); infinite ends from fewer than two values, or where one
    is not finite."""
    mean = float(np.mean(values))
    if len(values) < 2 or not math.isfinite(mean):
        return mean, -math.inf, math.inf
    from scipy import stats

    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half


def _part(claim: Claim, name: str, value: Any, parts: int) -> Part:
    low_bound, high_bound = claim.range
    if isinstance(value, (int, float, np.number)):
        number = float(value)
        if math.isnan(number):
            return Part(name, number, number, number, 0, "undecided", "the value is missing")
        inside = low_bound < number < high_bound
        return Part(name, number, number, number, 0, "holds" if inside else "does not hold")
    if not isinstance(value, pd.Series):
        raise SuiteError(
            f"the claim {claim.statement!r} measures a {type(value).__name__}: expected a number, or a pandas Series "
            "with one value per seed, or a mapping of these"
        )
    values = value.to_numpy(float)
    if not np.isfinite(values).all():
        return _unbounded(claim, name, values)
    mean, low, high = interval(values, 1 - (1 - CONFIDENCE) / parts)
    if len(values) < 2:
        return Part(name, mean, low, high, len(values), "undecided", "one seed gives no interval")
    if low_bound < low and high < high_bound:
        return Part(name, mean, low, high, len(values), "holds")
    outside = high <= low_bound or low >= high_bound
    return Part(name, mean, low, high, len(values), "does not hold" if outside else "undecided")


def _unbounded(claim: Claim, name: str, values: np.ndarray) -> Part:
    """An infinite loss is an answer, but no interval can be put around it: all seeds must agree."""
    inside = np.full(len(values), True)
    inside &= True if claim.above is None else values > claim.above
    inside &= True if claim.below is None else values < claim.below
    verdict: Answer = "undecided"
    if len(values) > 1 and not np.isnan(values).any() and (inside.all() or not inside.any()):
        verdict = "holds" if inside.all() else "does not hold"
    why = f"{np.count_nonzero(~np.isfinite(values))} of {len(values)} values are not finite"
    low, middle, high = np.quantile(values, [0, 0.5, 1], method="nearest")
    return Part(name, float(middle), float(low), float(high), len(values), verdict, why)
