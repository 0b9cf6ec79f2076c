from __future__ import annotations

import pytest

from diag.report.diagnosis import Diagnosis
from diag.report.verdict import measured, unobserved, verdict
from diag.rules.finding import Finding, Severity
from diag.trace import Trace
from tests.report.synthetic import build_trace


def _diagnosis(*severities: Severity) -> Diagnosis:
    return Diagnosis([Finding("rule", severity, "fc", "m") for severity in severities], build_trace(3, 1))


@pytest.mark.parametrize(
    ("severities", "status", "text"),
    [
        ((), "healthy", "healthy"),
        (("note",), "note", "healthy, 1 note"),
        (("warning", "warning"), "warning", "2 warnings"),
        (("error", "warning", "error", "note"), "error", "2 errors, 1 warning, 1 note"),
    ],
)
def test_the_verdict_counts_findings(severities: tuple[Severity, ...], status: str, text: str) -> None:
    answer = verdict(_diagnosis(*severities))
    assert (answer.status, answer.text) == (status, text)


def test_nothing_observed_is_not_healthy() -> None:
    nothing = Diagnosis([], Trace())
    assert verdict(nothing).status == "unknown"
    assert nothing.unjudged and not nothing.healthy and nothing.to_dict()["healthy"] is False


def test_coverage_shows_unknown_keys_and_what_was_not_seen() -> None:
    coverage = {
        "steps": 1,
        "modules_seen": 3,
        "modules_total": 5,
        "not_seen": ["head", "aux"],
        "notes": ["no optimizer"],
        "sampled_share": 0.25,
        "evaluation_passes": 2,
    }
    assert measured(coverage) == "1 step, 3 of 5 modules, 2 evaluation passes, sampled share: 0.25"
    assert unobserved(coverage) == ["2 modules never ran: head, aux", "no optimizer"]
    assert (measured({}), unobserved({})) == ("", [])


def test_coverage_tells_what_is_missing_and_not_what_is_as_expected() -> None:
    coverage = {"steps": 4, "measured_steps": 4, "gradients": True, "optimizer": True, "skipped_steps": []}
    assert (measured(coverage), unobserved(coverage)) == ("4 steps", [])
    coverage |= {"measured_steps": 2, "gradients": False, "optimizer": False, "notes": ["no optimizer was given"]}
    assert measured(coverage) == "4 steps, measured steps: 2"
    assert unobserved(coverage) == ["gradients were not observed", "no optimizer was given"]
