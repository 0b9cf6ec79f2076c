"""A run held to a baseline, case by case and over all cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.gate.baseline import UNMEASURED, Baseline, CaseValues, load_baseline
from diag.gate.judge import EXIT_CODES, FALSE_ALARMS, Answer, Check, judge
from diag.gate.metrics import METRICS, GateError, Metric, chosen_margins
from diag.gate.samples import Sample, pooled_sample, samples_of

if TYPE_CHECKING:
    from diag.suite.run import Run


@dataclass(frozen=True)
class Verdict:
    """What a gate says. answer: regression if any check or claim is one; else "cannot tell" if there is one of those
    that decide; else improvement or pass. pooled: means over all cases, checks: case by case.

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
        return EXIT_CODES[self.answer]

    @property
    def regressions(self) -> list[Check]:
        """The checks that failed, the surest first; the means over all cases before single ones."""
        failed = [one for one in (*self.pooled, *self.checks) if one.answer == "regression"]
        return sorted(failed, key=lambda one: (bool(one.case), one.p))

    @property
    def undecided(self) -> list[Check]:
        """Those that cannot be told and leave the gate without an answer: means over all cases, the single cases of
        metrics that have no such mean, and those whose worst trials hide a regression."""
        pooled = {one.metric for one in self.pooled}
        decide = [*self.pooled, *(one for one in self.checks if one.hidden or one.metric not in pooled)]
        return [one for one in decide if one.answer == "cannot tell"]

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
    if not 0 < false_alarms < 0.5:
        raise GateError(f"the chance of a false alarm lies between 0 and 0.5, got {false_alarms}")
    metrics = chosen_margins(dict(margins or {}))
    old = baseline if isinstance(baseline, Baseline) else load_baseline(baseline)
    folder = Path(run if isinstance(run, (str, Path)) else run.folder)
    if not folder.exists():
        raise GateError(f"no run at {folder}: expected the folder of a finished 'diag run'")
    return compare(load_baseline(folder), old, false_alarms, metrics)


def compare(new: Baseline, old: Baseline, false_alarms: float, metrics: Mapping[str, Metric]) -> Verdict:
    """`gate`, for two sets of measurements."""
    _check_comparable(new, old)
    gaps: list[str] = []
    remarks = _environment(new, old)
    samples = [
        sample
        for case, values in old.cases.items()
        for sample in samples_of(case, values, new.cases[case], metrics, gaps, remarks)
    ]
    gaps += [
        f"the claim '{statement}' held in the baseline, and the run measured none of it"
        for statement, verdict in old.claims.items()
        if verdict == "holds" and new.claims.get(statement) == UNMEASURED
    ]
    remarks += [
        f"the experiment '{name}' is not compared: the baseline is without it, or was made before a gate looked at any"
        for name in new.cases
        if name not in old.cases
    ]
    if not samples and not gaps:
        raise GateError(f"{old.origin or 'the baseline'} has no metric with two seeds: run its suite with --seeds 5")
    over_all, single = judge_all(samples, false_alarms)
    claims, changed = _claims(new, old)
    found = Verdict("pass", new.suite, old.origin, single, over_all, claims, remarks + changed, false_alarms)
    if claims or found.regressions:
        # What is missing is the regression's, too, more often than not: a network that died has no statistics.
        return replace(found, answer="regression", remarks=gaps + found.remarks)
    if gaps:
        raise GateError(gaps[0] + (f" (and {len(gaps) - 1} more like this)" if gaps[1:] else ""))
    if found.undecided:
        return replace(found, answer="cannot tell")
    better = any(one.answer == "improvement" for one in (*over_all, *single))
    return replace(found, answer="improvement") if better else found


def judge_all(samples: list[Sample], false_alarms: float) -> tuple[list[Check], list[Check]]:
    """The means over all cases, and every case, judged together."""
    pooled = [one for name in METRICS if (one := pooled_sample(name, samples)) is not None]
    judged = judge([*pooled, *samples], false_alarms)
    return judged[: len(pooled)], judged[len(pooled) :]


def _check_comparable(new: Baseline, old: Baseline) -> None:
    if new.suite != old.suite:
        raise GateError(f"the run is of the suite '{new.suite}', the baseline of '{old.suite}'")
    settings = [{key: value for key, value in one.settings.items() if key != "seeds"} for one in (new, old)]
    if settings[0] != settings[1]:
        raise GateError(f"the run was made with {settings[0]}, the baseline with {settings[1]}: use the same options")
    for which, one, other in (("run", old, new), ("baseline", new, old)):
        missing = [name for name in one.cases if name not in other.cases]
        if which == "baseline":
            missing = [name for name in missing if not _is_experiment(one.cases[name])]
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


def _is_experiment(values: CaseValues) -> bool:
    return "experiment" in values.content


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
        elif now != verdict:
            remarks.append(f"claim '{statement}': {verdict} -> {now or 'no longer judged'}")
    return broken, remarks
