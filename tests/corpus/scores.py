"""Counting: what share was right, with its interval, over which cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import scipy.stats

from tests.corpus.case import Case
from tests.corpus.labels import state
from tests.corpus.split import part_of
from tests.corpus.verdicts import Verdict

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Row:
    """A case, the state that is proven, and what was said of it."""

    case: Case
    verdict: Verdict
    state: str

    @property
    def part(self) -> str:
        """fit or fresh."""
        return part_of(self.case.family)

    @property
    def alarms(self) -> bool:
        """Whether anything is an error, or the check itself failed."""
        return bool(self.verdict.errors or self.verdict.crash)

    @property
    def right(self) -> bool:
        """Whether a right cause is among the errors."""
        return bool(set(self.verdict.errors) & self.case.causes)

    @property
    def root_first(self) -> bool:
        """Whether the first finding is an error that names a root."""
        return bool(self.verdict.errors) and self.verdict.errors[0] in (self.case.roots or self.case.causes)

    @property
    def warned(self) -> bool:
        """Whether a right cause is among errors or warnings."""
        return bool({*self.verdict.errors, *self.verdict.warnings} & self.case.causes)


def row(case: Case, verdict: Verdict) -> Row:
    """With the state from `labels.json`."""
    return Row(case, verdict, state(case.name))


def share(rows: Iterable[_Row], holds: Callable[[_Row], bool]) -> dict[str, Any]:
    """How many, of how many, and Wilson's 95 % interval."""
    rows = list(rows)
    count = sum(map(holds, rows))
    if not rows:
        return {"count": 0, "of": 0}
    low, high = scipy.stats.binomtest(count, len(rows)).proportion_ci(method="wilson")
    return {"count": count, "of": len(rows), "share": count / len(rows), "low": float(low), "high": float(high)}


def text(one: dict[str, Any]) -> str:
    """`12 of 14, 86 % (60 to 96)`."""
    if not one["of"]:
        return "none"
    return (
        f"{one['count']} of {one['of']}, {100 * one['share']:.1f} % ({100 * one['low']:.1f} to {100 * one['high']:.1f})"
    )


def summary(rows: list[Row]) -> dict[str, Any]:
    """The three bars, and what lies beside them."""
    healthy = [one for one in rows if one.state == "healthy"]
    faulty = [one for one in rows if one.state == "faulty"]
    weak = [one for one in rows if one.state == "no effect"]
    seen = [one for one in faulty if not one.case.hard]
    return {
        "error on healthy": share(healthy, lambda one: one.alarms),
        "right cause": share(faulty, lambda one: one.right),
        "root first": share(faulty, lambda one: one.root_first),
        "root first, of those found": share([one for one in faulty if one.right], lambda one: one.root_first),
        "right cause, beyond evidence apart": share(seen, lambda one: one.right),
        "root first, beyond evidence apart": share(seen, lambda one: one.root_first),
        "right cause as error or warning": share(faulty, lambda one: one.warned),
        "early warning: error on a fault without effect": share(weak, lambda one: one.alarms),
        "doubtful, counted nowhere": sum(one.state == "doubtful" for one in rows),
    }


def by_rule(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Precision: of the cases it is an error on, healthy or faulty, those it is right on. Recall: of the faults it is a
    root of, those on which it is an error; and those on which any right cause is."""
    out = {}
    counted = [one for one in rows if one.state in ("healthy", "faulty")]
    for rule in sorted({name for one in counted for name in (*one.verdict.errors, *one.case.causes)}):
        fired = [one for one in counted if rule in one.verdict.errors]
        wanted = [one for one in counted if one.state == "faulty" and rule in (one.case.roots or one.case.causes)]
        out[rule] = {
            "precision": share(fired, lambda one, rule=rule: rule in one.case.causes),  # type: ignore[misc]
            "recall": share(wanted, lambda one, rule=rule: rule in one.verdict.errors),  # type: ignore[misc]
            "found by any": share(wanted, lambda one: one.right),
        }
    return out


def by_family(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Errors on healthy, right causes on faulty."""
    return {
        family: {
            "part": part_of(family),
            "error on healthy": share((r for r in own if r.state == "healthy"), lambda one: one.alarms),
            "right cause": share((r for r in own if r.state == "faulty"), lambda one: one.right),
        }
        for family in sorted({one.case.family for one in rows})
        if (own := [one for one in rows if one.case.family == family])
    }


def by_strength(rows: list[Row], strengths: dict[str, tuple[float, ...]]) -> dict[str, list[dict[str, Any]]]:
    """By fault, from the weakest: of those with an effect how many were found; of those without, how many alarmed."""
    return {
        fault: [
            {
                "strength": strength,
                "right cause": share((r for r in own if r.state == "faulty"), lambda one: one.right),
                "early warning": share((r for r in own if r.state == "no effect"), lambda one: one.alarms),
            }
            for strength in grades
            if (own := [one for one in rows if one.case.fault == fault and one.case.strength == strength])
        ]
        for fault, grades in strengths.items()
    }


def weakest(graded: list[dict[str, Any]]) -> tuple[str, str]:
    """The weakest strength of which one was found, and from which on all were; `none` where there is none."""
    some = [one["strength"] for one in graded if one["right cause"]["count"]]
    every = None
    for one in reversed(graded):
        if one["right cause"]["of"] and one["right cause"]["count"] < one["right cause"]["of"]:
            break
        every = one["strength"] if one["right cause"]["of"] else every
    return (f"{some[0]:g}" if some else "none", f"{every:g}" if every is not None else "none")


def of_baseline(rows: list[Row], tool: str) -> dict[str, Any]:
    """The same two shares for another tool's thresholds."""
    return {
        "error on healthy": share(
            (r for r in rows if r.state == "healthy"), lambda one: bool(one.verdict.baselines.get(tool))
        ),
        "right cause": share(
            (r for r in rows if r.state == "faulty"),
            lambda one: bool(set(one.verdict.baselines.get(tool, ())) & (one.case.causes | _input(one.case))),
        ),
    }


def _input(case: Case) -> set[str]:
    """DeepDiagnosis' alarm by the input's range is right where the input was scaled or moved."""
    return {"input-range"} if case.fault in ("input-large", "input-offset") else set()
