"""A figure as SVG for the inside of a page: no identifiers that clash, no metadata, colors by token."""

from __future__ import annotations

import io
import re
import warnings
from html import escape

import matplotlib
from matplotlib.figure import Figure

from diag.report.figures.style import TOKENS

_TOKEN = {light: token for token, (light, _) in TOKENS.items()}
_COLOR = re.compile(r'(?<=: )#[0-9a-f]{6}(?=[;"])')
_IDENTIFIER = re.compile(r' id="([^"]*)"')
_TAG = re.compile(r"<[A-Za-z][^<>]*>")
_RESOLUTION = 160
"""Dots per inch of what is rasterized (heat maps)."""


def standalone(figure: Figure, name: str) -> str:
    """The figure as an SVG document of its own, on white, the same for the same figure."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(buffer, format="svg", dpi=_RESOLUTION, metadata={"Date": None}, facecolor="white")
    return buffer.getvalue()


def inline(figure: Figure, name: str, caption: str) -> str:
    """The figure as an `<svg>` element with `caption` as its alternative text.

    `name` must be unique on its page: identifiers that the drawing refers to are derived from it.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        # Text stays text: a letter that the measuring font lacks is drawn by the browser's.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(buffer, format="svg", dpi=_RESOLUTION, metadata={"Date": None})
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    width, height = (round(float(size) * 96 / 72) for size in re.findall(r'(?:width|height)="([\d.]+)pt"', body)[:2])
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.S)
    # In tags alone: what looks like an attribute in a user's name is text.
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', body))
    body = _TAG.sub(lambda tag: _COLOR.sub(_token, _IDENTIFIER.sub(lambda own: _kept(own, used), tag[0])), body)
    inside = body[body.index(">") + 1 :]
    box = re.search(r'viewBox="([^"]*)"', body)
    view = box.group(1) if box else f"0 0 {width} {height}"
    label = escape(caption, quote=True)
    return f'<svg role="img" aria-label="{label}" viewBox="{view}" width="{width}" height="{height}">{inside.strip()}'


def _kept(identifier: re.Match[str], used: set[str]) -> str:
    return identifier[0] if identifier[1] in used else ""


def _token(match: re.Match[str]) -> str:
    color = match.group(0)
    return f"var(--{_TOKEN[color]},{color})" if color in _TOKEN else color
