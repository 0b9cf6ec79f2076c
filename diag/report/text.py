"""Numbers and names as text: what a user's model is called must not break, or write into, what we print."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

MISSING = "-"
"""Shown where nothing was measured: absence is not zero."""


def plain(text: object) -> str:
    """The text with control characters, bidirectional overrides and lone surrogates made visible as escapes.

    Newlines and tabs become spaces, so that a name stays on its line and cannot move a terminal's cursor.
    """
    return "".join(_visible(character) for character in str(text))


def _visible(character: str) -> str:
    if character in "\n\r\t":
        return " "
    code = ord(character)
    hidden = (
        unicodedata.category(character) in ("Cc", "Cs", "Cn") or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    )
    if not hidden:
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def elide(text: str, width: int, mark: str = "..") -> str:
    """The text in at most `width` characters: the middle goes, the more telling end stays longer."""
    if len(text) <= width:
        return text
    keep = max(width - len(mark), 2)
    head = keep // 3
    return text[:head] + mark + text[len(text) - (keep - head) :]


def shorten(name: str, width: int) -> str:
    """A dotted name in at most `width` characters: which block it is in and its last parts stay, what is between goes.

    >>> shorten("bert.encoder.layer.3.attention.self.query", 22)
    'layer.3..self.query'
    """
    if len(name) <= width:
        return name
    parts = name.split(".")
    block = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
    head = ".".join(parts[max(block - 1, 0) : block + 1])
    for start in range(block + 1, len(parts)):
        short = f"{head}..{'.'.join(parts[start:])}"
        if len(short) <= width:
            return short
    return elide(name, width)


def number(value: Any, digits: int = 3) -> str:
    """A number in few characters: `0.0123`, `1.2e-07`; `-` where it is missing.

    >>> number(0.01234), number(1.2e-7), number(float("nan")), number(12.0)
    ('0.0123', '1.2e-07', '-', '12')
    """
    if value is None:
        return MISSING
    value = float(value)
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    return f"{value:.{digits - 2}e}"


def percent(share: Any) -> str:
    """A share as a percentage without false precision: `0%`, `<1%`, `12%`, `>99%`, `100%`; `-` where it is missing."""
    if share is None or not math.isfinite(float(share)):
        return MISSING
    share = float(share)
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{100 * share:.0f}%"


def value(item: Any, longest: int = 8) -> str:
    """A piece of evidence or coverage as one line of text; long lists are cut and say by how much."""
    if hasattr(item, "item") and getattr(item, "ndim", 0) == 0:
        item = item.item()
    if item is None:
        return MISSING
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return str(item)
    if isinstance(item, float):
        return "nan" if math.isnan(item) else number(item, 4)
    if isinstance(item, dict):
        return _some([f"{plain(key)}: {value(one)}" for key, one in item.items()], longest)
    if isinstance(item, (list, tuple, set, frozenset)):
        ordered = sorted(item, key=str) if isinstance(item, (set, frozenset)) else list(item)
        return _some([value(one) for one in ordered], longest)
    return plain(item)


def _some(parts: list[str], longest: int) -> str:
    more = len(parts) - longest
    return ", ".join(parts[:longest]) + (f", and {more} more" if more > 0 else "") if parts else "none"


def plural(count: int, noun: str) -> str:
    """`1 error`, `2 errors`; a noun in -s keeps its form with -es."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def label(key: object) -> str:
    """A key as words: `gradient_rms` -> `gradient rms`."""
    return plain(key).replace("_", " ")
