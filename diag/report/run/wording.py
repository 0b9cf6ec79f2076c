"""Claims and their measurements in words, the same in the terminal, in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from diag.report.text import number
from diag.suite.claim import ClaimVerdict, Part

STYLES = {"holds": "green", "does not hold": "red", "undecided": "yellow"}
"""Every verdict there is, and its color in a terminal."""


def measured(verdict: ClaimVerdict) -> str:
    """What was measured of a claim, and the range in which it would be true, in one line."""
    if not verdict.parts:
        return verdict.why
    unit = f" {verdict.unit}" if verdict.unit else ""
    return f"{'; '.join(part_text(part) for part in verdict.parts)}{unit} (true {true_range(verdict)})"


def part_text(part: Part) -> str:
    """A part's mean, interval and number of seeds."""
    label = f"{part.name}: " if part.name else ""
    why = f" ({part.why})" if part.why else ""
    if part.seeds == 0:
        return f"{label}{number(part.estimate)}{why}"
    ends = f"[{number(part.low)}, {number(part.high)}]"
    return f"{label}{number(part.estimate)} {ends}, n={part.seeds}{why}"


def true_range(verdict: ClaimVerdict) -> str:
    """The values in which the claim is true: `> 0.1 and < 0.5`."""
    parts = [f"> {_bound(verdict.above)}"] if verdict.above is not None else []
    return " and ".join(parts + ([f"< {_bound(verdict.below)}"] if verdict.below is not None else []))


def _bound(value: float) -> str:
    """A bound just below 1 is not 1: nothing could be above that."""
    tried = (number(value, digits) for digits in (3, 6, 9, 12))
    return next((one for one in tried if value == 1 or float(one) != 1), number(value))


def joined(parts: Sequence[str]) -> str:
    """`a, b and c`; with semicolons where a part has a comma of its own."""
    if len(parts) < 2:
        return "".join(parts)
    comma = "; " if any("," in one for one in parts) else ", "
    last = "; and " if comma == "; " else " and "
    return comma.join(parts[:-1]) + last + parts[-1]
