"""One cause, one error: findings that follow from another are listed under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from diag.rules.finding import SEVERITIES, Finding

_BREAKDOWN = frozenset(
    "exploding-gradient exploding-activation dead-units saturated-activation collapsed-signal vanishing-gradient oversized-update "
    "diverging-loss non-finite loss-not-decreasing stalled-update symmetric-units missing-gradient".split()
)
EXPLAINS: dict[str, frozenset[str]] = {
    "non-finite": _BREAKDOWN,
    "missing-gradient": frozenset(["stalled-update", "loss-not-decreasing", "vanishing-gradient"]),
    "symmetric-units": frozenset("collapsed-signal vanishing-gradient dead-units stalled-update loss-not-decreasing missing-gradient".split()),
    "exploding-activation": _BREAKDOWN - {"collapsed-signal", "symmetric-units", "missing-gradient"},
    "dead-units": frozenset("vanishing-gradient collapsed-signal stalled-update loss-not-decreasing missing-gradient symmetric-units".split()),
    "saturated-activation": frozenset(
        "vanishing-gradient exploding-gradient collapsed-signal stalled-update loss-not-decreasing dead-units missing-gradient".split()
    ),
    "oversized-update": _BREAKDOWN,
    "exploding-gradient": frozenset(
        "oversized-update diverging-loss dead-units non-finite saturated-activation loss-not-decreasing exploding-activation".split()
    ),
    "diverging-loss": _BREAKDOWN,
    "vanishing-gradient": frozenset("collapsed-signal stalled-update loss-not-decreasing missing-gradient".split()),
    "collapsed-signal": frozenset("vanishing-gradient stalled-update loss-not-decreasing dead-units symmetric-units missing-gradient saturated-activation".split()),
    "stalled-update": frozenset(["loss-not-decreasing"]),
    "loss-not-decreasing": frozenset(["stalled-update"]),
}
"""What each rule's pathology brings about. The order is that of precedence among those that begin in the same step."""

_PRECEDENCE = {name: position for position, name in enumerate(EXPLAINS)}


def join(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with those that follow from an earlier one listed as its consequences; the gravest first.

    A consequence never begins before its cause, and is never graver.
    """
    ordered = sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), _onset(one), _precedence(one)))
    roots: list[Finding] = []
    for finding in ordered:
        cause = next((n for n, root in enumerate(roots) if _explains(root, finding)), None)
        if cause is None:
            roots.append(finding)
        else:
            roots[cause] = replace(roots[cause], consequences=(*roots[cause].consequences, finding))
    return roots


def _explains(cause: Finding, effect: Finding) -> bool:
    if cause.severity == "note" or cause.rule == effect.rule:
        return False
    return effect.rule in EXPLAINS.get(cause.rule, frozenset()) and _onset(cause) <= _onset(effect)


def _onset(finding: Finding) -> int:
    step = finding.evidence.get("step", 0)
    return int(step) if isinstance(step, (int, float)) else 0


def _precedence(finding: Finding) -> float:
    # A signal whose scale fades is the cause of the gradient that fades with it; one whose samples merely look alike is its companion.
    if finding.rule == "collapsed-signal" and finding.evidence.get("of") != "spread":
        return _PRECEDENCE["symmetric-units"] + 0.5
    return _PRECEDENCE.get(finding.rule, len(_PRECEDENCE))
