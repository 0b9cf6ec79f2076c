"""A run held to a baseline, case by case and over all cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diag.gate.baseline import Baseline, CaseValues, load_baseline
from diag.gate.judge import FALSE_ALARMS, Answer, Check, Sample, judge
from diag.gate.metrics import GateError, Metric, chosen_margins

if TYPE_CHECKING:
    from diag.suite.run import Run

BEYOND = 100.0
"""Margins beyond the worst finite value at which a value that is not finite is counted."""


@dataclass(frozen=True)
class Verdict:
    """What a gate says. answer: regression if any check or claim is one; else "cannot tell" if the mean over all cases
    could not be shown to be within some margin; else improvement or pass. pooled: those means, checks: case by case.

    claims: those that held and now do not. remarks: what differs without being a regression.
    """

    answer: Answer
    suite: str
    baseline: str
    checks: list[Check]
    pooled: list[Check]
    claims: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    false_alarms: float = FALSE_ALARMS

    @property
    def exit_code(self) -> int:
        """0 pass or improvement, 1 regression, 2 cannot tell."""
        return {"pass": 0, "improvement": 0, "regression": 1, "cannot tell": 2}[self.answer]

    @property
    def regressions(self) -> list[Check]:
        """The checks that failed, the surest first; the means over all cases before single ones."""
        failed = [one for one in (*self.pooled, *self.checks) if one.answer == "regression"]
        return sorted(failed, key=lambda one: (bool(one.case), one.p))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        from dataclasses import asdict

        plain = asdict(self) | {"schema": 1, "exit_code": self.exit_code}
        for check in (*plain["checks"], *plain["pooled"]):
            for key, value in check.items():
                if isinstance(value, float) and not math.isfinite(value):
                    check[key] = str(value)
        return plain


def gate(
    run: Run | str | Path,
    baseline: Baseline | str | Path,
    *,
    false_alarms: float = FALSE_ALARMS,
    margins: Mapping[str, float] | None = None,
) -> Verdict:
    """Hold a run to a baseline: is anything worse by more than its margin?

    Args: run: a run, or its folder. baseline: one, its file or folder, or another run's folder. false_alarms: the
        chance of a false "regression", over everything compared. margins: other than those of `METRICS`.
    Raises: GateError or RunError, in one line, where the two cannot be held together: another suite, other recipes,
        trials or metrics that are missing, a damaged file.
    """
    old = baseline if isinstance(baseline, Baseline) else load_baseline(baseline)
    new = load_baseline(run if isinstance(run, (str, Path)) else run.folder)
    if not 0 < false_alarms < 0.5:
        raise GateError(f"the chance of a false alarm lies between 0 and 0.5, got {false_alarms}")
    return compare(new, old, false_alarms, chosen_margins(dict(margins or {})))


def compare(new: Baseline, old: Baseline, false_alarms: float, metrics: Mapping[str, Metric]) -> Verdict:
    """`gate`, for two sets of measurements."""
    _check_comparable(new, old)
    remarks = _environment(new, old)
    samples = []
    for case, values in old.cases.items():
        samples += _samples(case, values, new.cases[case], metrics, remarks)
    pooled = [one for name in metrics if (one := _pooled(name, samples)) is not None]
    judged = judge([*pooled, *samples], false_alarms)
    over_all, single = judged[: len(pooled)], judged[len(pooled) :]
    claims, changed = _claims(new, old)
    answers = {one.answer for one in judged}
    answer: Answer = "pass"
    if claims or "regression" in answers:
        answer = "regression"
    elif any(one.answer == "cannot tell" for one in over_all):
        answer = "cannot tell"
    elif "improvement" in answers:
        answer = "improvement"
    return Verdict(answer, new.suite, old.origin, single, over_all, claims, remarks + changed, false_alarms)


def _check_comparable(new: Baseline, old: Baseline) -> None:
    if new.suite != old.suite:
        raise GateError(f"the run is of the suite '{new.suite}', the baseline of '{old.suite}'")
    settings = [{key: value for key, value in one.settings.items() if key != "seeds"} for one in (new, old)]
    if settings[0] != settings[1]:
        raise GateError(f"the run was made with {settings[0]}, the baseline with {settings[1]}: use the same options")
    for which, one, other in (("run", old, new), ("baseline", new, old)):
        missing = [name for name in one.cases if name not in other.cases]
        if missing:
            raise GateError(
                f"the {which} lacks the case '{missing[0]}'{f' and {len(missing) - 1} more' if missing[1:] else ''}: "
                "make a new baseline if the suite has changed"
            )
    for name, values in old.cases.items():
        differing = [key for key in values.content if values.content[key] != new.cases[name].content.get(key)]
        differing += [key for key in new.cases[name].content if key not in values.content]
        if differing:
            key = differing[0]
            raise GateError(
                f"the recipe of '{name}' has changed: {key} was {values.content.get(key)!r} and is "
                f"{new.cases[name].content.get(key)!r}; a gate compares the same recipes, so make a new baseline"
            )


def _environment(new: Baseline, old: Baseline) -> list[str]:
    return [
        f"{key} was {old.environment.get(key)} and is {new.environment.get(key)}: differences may come from there"
        for key in old.environment
        if old.environment.get(key) != new.environment.get(key)
    ]


def _claims(new: Baseline, old: Baseline) -> tuple[list[str], list[str]]:
    """Claims that held and now do not; and other changes of verdicts, in words."""
    broken, remarks = [], []
    for statement, verdict in old.claims.items():
        now = new.claims.get(statement)
        if verdict == "holds" and now == "does not hold":
            broken.append(statement)
        elif now is not None and now != verdict:
            remarks.append(f"claim '{statement}': {verdict} -> {now}")
    return broken, remarks


def _samples(
    case: str, old: CaseValues, new: CaseValues, metrics: Mapping[str, Metric], remarks: list[str]
) -> list[Sample]:
    found = []
    for name, metric in metrics.items():
        if name in old.metrics and name not in new.metrics:
            raise GateError(f"the run measured no {name} for '{case}', the baseline did: is a look or a measure gone?")
        if name not in old.metrics:
            if name in new.metrics and (text := f"{name} is not in the baseline: not compared") not in remarks:
                remarks.append(text)
            continue
        if (sample := _sample(case, metric, old, new)) is not None:
            found.append(sample)
    return found


def _sample(case: str, metric: Metric, old: CaseValues, new: CaseValues) -> Sample | None:
    """The two sides of one metric, paired by seed where one side's seeds are all among the other's; None where both
    sides did not measure it in two trials.

    Raises: GateError if the new side lacks what the baseline has.
    """
    one, other = (_by_seed(side, metric.name) for side in (old, new))
    if len(one) < 2:
        return None
    if len(other) < 2:
        raise GateError(
            f"'{case}' has {len(other)} trials with {metric.name}, the baseline {len(one)}: a gate needs at least two"
        )
    margin = metric.margin_at(float(np.mean([v for v in one.values() if math.isfinite(v)] or [math.inf])))
    sign = -1.0 if metric.better == "high" else 1.0
    shared = sorted(set(one) & set(other))
    paired = len(shared) >= 2 and len(shared) == min(len(one), len(other))
    before, after = (
        np.array([sign * side[seed] for seed in (shared if paired else sorted(side))]) for side in (one, other)
    )
    return Sample(case, metric, margin, *_finite(before, after, margin), paired=paired)


def _by_seed(values: CaseValues, metric: str) -> dict[int, float]:
    pairs = zip(values.seeds, values.metrics[metric], strict=True)
    return {seed: value for seed, value in pairs if not math.isnan(value)}


def _finite(one: np.ndarray, other: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """A loss that is infinite is as bad as can be, but no mean can hold it."""
    whole = np.concatenate([one, other])
    finite = whole[np.isfinite(whole)]
    worst = (float(finite.max()) if len(finite) else 0.0) + BEYOND * margin
    return np.where(np.isfinite(one), one, worst), np.where(np.isfinite(other), other, worst)


def _pooled(name: str, samples: list[Sample]) -> Sample | None:
    """The mean over all cases by seed, in margins: many recipes see what none of them could show alone.

    None for fewer than two cases, or where their seeds are not the same.
    """
    own = [one for one in samples if one.metric.name == name]
    sizes = {(len(one.baseline), len(one.new), one.paired) for one in own}
    if len(own) < 2 or len(sizes) > 1:
        return None
    baseline = np.mean([one.baseline / one.margin for one in own], axis=0)
    new = np.mean([one.new / one.margin for one in own], axis=0)
    scale = float(np.mean([one.margin for one in own]))
    return Sample("", own[0].metric, scale, baseline * scale, new * scale, own[0].paired)
