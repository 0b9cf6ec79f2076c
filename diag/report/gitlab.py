"""The diagnosis as GitLab's code quality JSON, for the widget of a merge request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diag.report.diagnosis import Diagnosis
from diag.report.sarif import fingerprint
from diag.report.text import plain
from diag.rules.finding import Finding, Severity

SEVERITIES: dict[Severity, str] = {"error": "critical", "warning": "major", "note": "info"}
"""In GitLab's words, which are info, minor, major, critical and blocker."""


def render(diagnosis: Diagnosis) -> str:
    """One issue per finding, at the file and line of its evidence, or else in what was checked."""
    return json.dumps([_issue(one, diagnosis.title) for one in diagnosis.findings], indent=2, allow_nan=False) + "\n"


def _issue(finding: Finding, title: str) -> dict[str, Any]:
    lines = [f"{finding.site}: {finding.message}" if finding.site else finding.message]
    lines += [f"therefore: {one.rule} at {one.site}: {one.message}" for one in finding.consequences]
    lines += [f"remedy: {finding.remedy}"] if finding.remedy else []
    file, line = finding.evidence.get("file"), finding.evidence.get("line")
    begin = line if file and isinstance(line, int) and line >= 1 else 1
    # `diag check model.py:build` has its target for a title.
    place = str(file) if file else title.rpartition(".py:")[0] + ".py" if ".py:" in title else title
    return issue(finding.rule, "; ".join(lines), finding.site, finding.severity, place, begin)


def issue(rule: str, message: str, place: str, severity: Severity, file: str, line: int = 1) -> dict[str, Any]:
    """An entry of the report. place: within the model or suite; with the rule it makes the fingerprint."""
    return {
        "description": plain(message),
        "check_name": rule,
        "fingerprint": fingerprint(rule, place),
        "severity": SEVERITIES[severity],
        "location": {"path": _relative(file), "lines": {"begin": line}},
    }


def _relative(file: str) -> str:
    """A path as GitLab wants it: from the working folder, where it is below it."""
    path = Path(file)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return plain(path.as_posix())
