"""What a rule says: one finding, with its evidence, its remedy and its source."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From the gravest to the least."""


@dataclass(frozen=True)
class Finding:
    """One pathology, judged.

    rule: its name. severity: error | warning | note. site: where the trouble starts. message: what was seen, with
    the numbers.
    evidence: the numbers, JSON-safe, `step` among them. remedy: what to change. source: paper and section, or tool.
    consequences: what follows from it, so that one cause gives one error.
    """

    rule: str
    severity: Severity
    site: str
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""
    source: str = ""
    consequences: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON-safe values; a number that JSON cannot hold becomes a string ("nan", "inf")."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "site": self.site,
            "message": self.message,
            "evidence": json_safe(self.evidence),
            "remedy": self.remedy,
            "source": self.source,
            "consequences": [one.to_dict() for one in self.consequences],
        }


def milder(finding: Finding) -> Finding:
    """An error as a warning that says why it is none: an error means that harm is shown."""
    if finding.severity != "error":
        return finding
    return replace(finding, severity="warning", message=f"{finding.message} The loss falls, so no harm shows yet.")


def listed(names: list[str]) -> str:
    """The first three names, for a message."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def shown(share: float) -> str:
    """A share in whole percent, which is neither all nor nothing unless it is."""
    if 0 < share < 0.005:
        return "less than 1%"
    return "more than 99%" if 0.995 <= share < 1 else f"{share:.0%}"


def json_safe(value: Any) -> Any:
    """The value with what JSON cannot hold as text, and numbers of numpy and torch as Python's own."""
    if isinstance(value, dict):
        return {str(key): json_safe(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(one) for one in value]
    if hasattr(value, "tolist"):
        return json_safe(value.tolist())  # a number, or lists of them
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)
