"""The verdict on one watched training: findings, the trace they were read from, and what was not observed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diag.errors import DiagError
from diag.rules.finding import SEVERITIES, Finding, Severity, json_safe
from diag.rules.judge import judge
from diag.rules.prediction import predict
from diag.trace import Trace


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a network, with the evidence.

    findings: the gravest first. trace: what was measured. coverage: what was and was not observed.
    title: what was judged, for people. command: the command that repeats it.
    """

    findings: list[Finding]
    trace: Trace
    coverage: dict[str, Any] = field(default_factory=dict)
    title: str = "model"
    command: str = ""

    @property
    def healthy(self) -> bool:
        """Whether there is no error-level finding; False where nothing was observed, of which nobody can say it."""
        return not self.unjudged and not any(finding.severity == "error" for finding in self.findings)

    @property
    def unjudged(self) -> bool:
        """Whether nothing was observed: a trace without a row, and no finding that came without one."""
        return self.trace.frame.empty and not self.findings

    def at_least(self, severity: Severity) -> list[Finding]:
        """The findings of this severity or graver.

        Raises: DiagError for what is no severity.
        """
        if severity not in SEVERITIES:
            raise DiagError(f"a severity is one of {', '.join(SEVERITIES)}, got {severity!r}")
        allowed = SEVERITIES[: SEVERITIES.index(severity) + 1]
        return [finding for finding in self.findings if finding.severity in allowed]

    def to_dict(self) -> dict[str, Any]:
        """`{"schema": 1, "healthy", "findings", "coverage"}`, JSON-safe."""
        return {
            "schema": 1,
            "healthy": self.healthy,
            "findings": [finding.to_dict() for finding in self.findings],
            "coverage": json_safe(self.coverage),
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained page and return its path.

        Raises: DiagError if it cannot be written.
        """
        from diag.report.page import write_page

        return write_page([self], Path(path), title=self.title)


def diagnose(trace: Trace, *, title: str = "model", command: str = "") -> Diagnosis:
    """Judge a trace by every rule, and hold it to what theory predicts: `coverage["theory"]`."""
    coverage = {**trace.coverage, "theory": predict(trace).to_dict()} if len(trace.frame) else dict(trace.coverage)
    return Diagnosis(judge(trace), trace, coverage, title=title, command=command)
