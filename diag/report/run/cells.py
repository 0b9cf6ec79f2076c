"""A table's numbers as text: a mean and its half-width become one cell, and what is best stands out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diag.report.text import MISSING, number, plain
from diag.suite.ranking import BEST, TIED

if TYPE_CHECKING:
    import pandas as pd


MOST_ROWS = 2000
"""Rows of a table that a report shows: more are not read, and would make a page of many megabytes."""


@dataclass(frozen=True)
class Cell:
    """Text, whether it is a number, and whether it is `best`, `tied` with it, or neither."""

    text: str
    numeric: bool = False
    mark: str = ""


def shown(frame: pd.DataFrame) -> tuple[list[str], list[list[Cell]]]:
    """The headings and the rows of a table as people read it."""
    columns = [str(one) for one in frame.columns if not _belongs(str(one), frame)]
    # As plain tuples: of named ones Python takes columns for the same that Unicode deems alike, as it does a and ª.
    values = (dict(zip(frame.columns, one, strict=True)) for one in frame.itertuples(index=False, name=None))
    rows = [[_cell(name, row) for name in columns] for row in values]
    return [plain(one).replace("_", " ") for one in columns], rows


def _belongs(name: str, frame: pd.DataFrame) -> bool:
    """Whether a column is the `±` or the `mark` of another."""
    stem, _, last = name.rpartition(" ")
    return last in ("±", "mark") and stem in frame


def _cell(name: str, row: dict[str, Any]) -> Cell:
    value, half, mark = row[name], row.get(f"{name} ±"), row.get(f"{name} mark", "")
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return Cell("yes" if value else "no")
    if isinstance(value, int) or hasattr(value, "bit_count"):
        return Cell(str(int(value)), numeric=True)
    try:
        as_float = float(value) if not isinstance(value, str) else None
    except (TypeError, ValueError):
        as_float = None
    if as_float is None:
        return Cell(MISSING if missing(value) else plain(value))
    text = number(as_float)
    if half is not None and not missing(half):
        text = with_half_width(as_float, float(half))
    return Cell(text, numeric=True, mark=mark if mark in (BEST, TIED) else "")


def missing(value: Any) -> bool:
    """Whether nothing was measured: None, nan, or one of pandas' own; a list or an array is something."""
    import pandas as pd

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def left_out(frame: pd.DataFrame) -> str:
    """What `MOST_ROWS` leaves out of a table, in words; or empty."""
    return f"The first {MOST_ROWS} of {len(frame)} rows." if len(frame) > MOST_ROWS else ""


def with_half_width(mean: float, half: float) -> str:
    """`0.934 ± 0.012`: both to the second digit of the half-width, where that is plain.

    >>> with_half_width(0.93421, 0.0123), with_half_width(12.0, 0.0), with_half_width(312.4, 25.0)
    ('0.934 ± 0.012', '12 ± 0', '312 ± 25')
    """
    if not (math.isfinite(mean) and 0 < half < math.inf):
        return f"{number(mean)} ± {number(half)}"
    places = 1 - math.floor(math.log10(half))
    if 0 <= places <= 6 and abs(mean) < 1e5:
        return f"{mean:.{places}f} ± {half:.{places}f}"
    if places < 0 and abs(mean) < 1e5:
        return f"{mean:.0f} ± {half:.0f}"
    return f"{number(mean)} ± {number(half, 2)}"
