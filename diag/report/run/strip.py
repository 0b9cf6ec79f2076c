"""A claim's measurement as a small picture: the range in which it is true, and each part's interval."""

from __future__ import annotations

import math
from html import escape

from diag.report.run.wording import measured
from diag.report.text import number, plain
from diag.suite.claim import ClaimVerdict, Part

WIDTH, ROW, MARGIN = 200.0, 14.0, 6.0
_COLORS = {"holds": "healthy", "does not hold": "error", "undecided": "warning"}


def draw(verdict: ClaimVerdict) -> str:
    """An `<svg>`: shaded where the claim is true, a line per part from end to end of its interval, a dot at the mean.

    Empty where nothing finite was measured.
    """
    parts = [one for one in verdict.parts if math.isfinite(one.estimate)]
    bounds = [one for one in (verdict.above, verdict.below) if one is not None]
    if not parts or not bounds:
        return ""
    ends = [end for one in parts for end in (one.low, one.high, one.estimate) if math.isfinite(end)] + bounds
    low, high = min(ends), max(ends)
    pad = 0.12 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad

    def x(value: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (min(max(value, low), high) - low) / (high - low)

    height = ROW * len(parts) + 16
    left = x(verdict.above) if verdict.above is not None else 0.0
    right = x(verdict.below) if verdict.below is not None else WIDTH
    bottom = ROW * len(parts) + 4
    shapes = [f'<rect class="true" x="{left:.1f}" y="0" width="{max(right - left, 0.5):.1f}" height="{bottom:.1f}"/>']
    shapes += [
        f'<line class="bound" x1="{x(one):.1f}" x2="{x(one):.1f}" y1="0" y2="{bottom:.1f}"/>'
        f'<text x="{min(max(x(one), 14), WIDTH - 14):.1f}" y="{height - 2:.1f}">{escape(number(one))}</text>'
        for one in bounds
    ]
    shapes += [_part(one, x, ROW * (i + 0.5) + 2) for i, one in enumerate(parts)]
    label = escape(plain(measured(verdict)), quote=True)
    size = f'viewBox="0 0 {WIDTH:g} {height:g}" width="{WIDTH:g}" height="{height:g}"'
    return f'<svg class="strip" role="img" aria-label="{label}" {size}>{"".join(shapes)}</svg>'


def _part(part: Part, x, y: float) -> str:  # type: ignore[no-untyped-def] # x: a function of draw's
    low = part.low if math.isfinite(part.low) else -math.inf
    high = part.high if math.isfinite(part.high) else math.inf
    color = _COLORS[part.verdict]
    return (
        f'<line class="{color}" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<circle class="{color}" cx="{x(part.estimate):.1f}" cy="{y:.1f}" r="3"/>'
    )
