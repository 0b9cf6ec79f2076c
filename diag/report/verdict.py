"""The answer in a line, and what it rests on: shared by every format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from diag.report.diagnosis import Diagnosis
from diag.report.text import label, plain, plural, value
from diag.rules.finding import SEVERITIES

EXPECTED = {"gradients": "gradients were not observed", "optimizer": "no optimizer was seen"}
"""Coverage that is news only where it is missing."""

Status = Literal["error", "warning", "note", "healthy", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """status: the gravest severity, `healthy`, or `unknown` where nothing was observed. text: the same for people."""

    status: Status
    text: str


def verdict(diagnosis: Diagnosis) -> Verdict:
    """`healthy`, or the findings counted by severity; a trace without a row and without a finding is no health."""
    counts = {severity: sum(f.severity == severity for f in diagnosis.findings) for severity in SEVERITIES}
    present = [severity for severity in SEVERITIES if counts[severity]]
    if present:
        text = ", ".join(plural(counts[severity], severity) for severity in present)
        return Verdict(present[0], text if counts["error"] or counts["warning"] else f"healthy, {text}")
    if diagnosis.unjudged:
        return Verdict("unknown", "could not judge: nothing was observed")
    return Verdict("healthy", "healthy")


def measured(coverage: dict[str, Any]) -> str:
    """What was observed, in one line: `30 steps, 12 sites, 10 of 12 modules`; empty if the coverage says nothing."""
    parts = []
    if "steps" in coverage:
        parts.append(_count(coverage["steps"], "step"))
    if "sites" in coverage:
        parts.append(_count(coverage["sites"], "site"))
    if "modules_seen" in coverage:
        seen, total = value(coverage["modules_seen"]), coverage.get("modules_total")
        parts.append(f"{seen} of {value(total)} modules" if total is not None else f"{seen} modules")
    if coverage.get("evaluation_passes"):
        parts.append(_count(coverage["evaluation_passes"], "evaluation pass"))
    parts += [f"{label(key)}: {value(item)}" for key, item in coverage.items() if _worth_telling(key, item, coverage)]
    return ", ".join(parts)


_OF_RULES = (
    "slow_statistics",
    "time_first",
    "norms_unused",
    "weight_decay",
    "momentum",
    "betas",
    "frozen_untrained",
    "scaled_losses",
    "without_graph",
    "uncleared_of",
    "evaluations",
    "answers",
    "backward_begun",
    "padding",
    "loaders",
    "leaf_inputs",
    "tested",
    "computed_inputs",
    "idle_steps",
    "zeroed_without_step",
    "thrown_gradients",
    "held_without_step",
    "clips",
    "vain_clips",
    "untold_tests",
    "plain_tensors",
    "over_one",
    "scrambled",
    "terms",
    "likelihood_minimized",
    "squashed",
    "held_last",
    "forget_bias",
    "dropped_in_evaluation",
    "over_first",
    "both_ways",
    "looks_ahead",
    "looks_back",
    "steps_elsewhere",
)
"""Settings that rules read: findings tell of those that matter."""


_ONLY_FILLED = (
    "unregistered",
    "made_anew",
    "replaced",
    "scaled_steps",
    "uncleared_steps",
    "ran_without_gradient",
    "acting_passes",
)
"""Lists that are worth a word where they hold something."""


def _worth_telling(key: str, item: Any, coverage: dict[str, Any]) -> bool:
    """Whether a key that has no words of its own says more than the others do."""
    if key in ("steps", "sites", "modules_seen", "modules_total", "evaluation_passes", "not_seen", "notes", "theory"):
        return False
    if key in _OF_RULES:
        return False
    if key in _ONLY_FILLED:
        return bool(item)
    if key in ("measured_steps", "training_passes"):
        return bool(item != coverage.get("steps"))
    if key in EXPECTED:
        return False
    return not (isinstance(item, (list, tuple, dict)) and not item)


def unobserved(coverage: dict[str, Any], longest: int = 6) -> list[str]:
    """What was not observed and why, one line each."""
    lines = []
    missing = coverage.get("not_seen")
    if missing:
        names = [missing] if isinstance(missing, str) else list(missing)
        lines.append(f"{plural(len(names), 'module')} never ran: {value(names, longest)}")
    notes = coverage.get("notes") or []
    notes = [notes] if isinstance(notes, str) else list(notes)
    # A note says why; the bare fact is told only where nothing else does.
    lines += [fact for key, fact in EXPECTED.items() if coverage.get(key) is False and not _mentioned(key, notes)]
    lines += [plain(note) for note in notes]
    return lines


def theory(coverage: dict[str, Any]) -> str:
    """What theory says of the first step, in one line; empty where it was not asked."""
    said = coverage.get("theory")
    return plain(said["says"]) if isinstance(said, dict) and said.get("says") else ""


def _mentioned(key: str, notes: list[Any]) -> bool:
    return any(key in str(note) for note in notes)


def _count(item: Any, noun: str) -> str:
    return plural(item, noun) if isinstance(item, int) and not isinstance(item, bool) else f"{noun}s: {value(item)}"
