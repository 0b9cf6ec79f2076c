"""The table of sites in a terminal: numbers, a trend over steps, and a bar on a log scale over depth."""

from __future__ import annotations

import math
from collections.abc import Callable

from rich import box
from rich.table import Table
from rich.text import Text

from diag.report.measured import display
from diag.report.sites import SiteRow, log_share, selected
from diag.report.text import number, percent, plain, shorten

ASCII_HEAD = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan", "": ""}
FLAGS = {"error": "E", "warning": "W", "note": "N", "": " "}
TREND = 8
"""Characters of the trend over steps."""
LONGEST_NAME = 56
LONGEST_BAR = 30


class SiteTable:
    """The selected sites for one width; columns that no site has a number for are left out."""

    def __init__(self, rows: list[SiteRow], width: int, ascii_ornaments: bool, ascii_text: bool = False) -> None:
        self.rows = rows
        self.shown = selected(rows)
        self.ascii = ascii_ornaments
        self.names = {row.site: plain(display(row.site, row.op)) for row in self.shown}
        if ascii_text:
            self.names = {
                site: name.encode("ascii", "backslashreplace").decode("ascii") for site, name in self.names.items()
            }
        self.columns = self._columns()
        # Every column costs a space of padding and one of separation.
        spare = width - sum(size + 2 for _, size, _ in self.columns) - 3 - 2
        has_gradient = any(not math.isnan(row.gradient_rms) for row in rows)
        longest = min(max((len(name) for name in self.names.values()), default=4), LONGEST_NAME)
        self.name_width = max(min(longest, spare - (12 if has_gradient else 0)), 8)
        self.bar_width = min(spare - self.name_width - 1, LONGEST_BAR) if has_gradient else 0

    def parts(self) -> list[Table | Text]:
        """The table, a legend, and how many sites it leaves out."""
        table = Table(
            box=ASCII_HEAD if self.ascii else box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
        )
        table.add_column(" ", width=1)
        table.add_column("site", width=self.name_width, no_wrap=True)
        for name, size, _ in self.columns:
            table.add_column(name, width=size, justify="left" if name == "by step" else "right", no_wrap=True)
        if self.bar_width >= 6:
            table.add_column("log scale", width=self.bar_width, no_wrap=True)
        for row in self.shown:
            table.add_row(*self._cells(row))
        parts: list[Table | Text] = [table]
        if len(self.shown) < len(self.rows):
            left = len(self.rows) - len(self.shown)
            parts.append(
                Text(f"{left} of {len(self.rows)} sites are left out; the page (--html) lists them all.", "dim")
            )
        return parts

    def _columns(self) -> list[tuple[str, int, Callable[[SiteRow], str]]]:
        """Name, width and cell of every column that has something to show."""
        rows = self.rows
        columns: list[tuple[str, int, Callable[[SiteRow], str]]] = [
            ("act. rms", 8, lambda row: number(row.activation_rms))
        ]
        if any(len(row.activation_series) > 1 for row in rows):
            columns.append(("by step", TREND, lambda row: trend(row.activation_series, TREND, self.ascii)))
        if any(not math.isnan(row.saturated) for row in rows):
            columns.append(("sat.", 5, lambda row: percent(row.saturated)))
        if any(row.dead > 0 for row in rows):
            columns.append(("dead", 9, _dead))
        if any(row.nonfinite > 0 for row in rows):
            columns.append(("nan/inf", 7, lambda row: number(row.nonfinite)))
        if any(not math.isnan(row.gradient_rms) for row in rows):
            columns.append(("grad. rms", 9, lambda row: number(row.gradient_rms)))
        return columns

    def _cells(self, row: SiteRow) -> list[Text]:
        style = STYLES[row.severity]
        name = shorten(self.names[row.site], self.name_width)
        cells = [Text(FLAGS[row.severity], style), Text(name, style)]
        cells += [Text(cell(row)) for _, _, cell in self.columns]
        if self.bar_width >= 6:
            cells.append(
                Text(bar(row.gradient_rms, [one.gradient_rms for one in self.rows], self.bar_width, self.ascii), "blue")
            )
        return cells


def bar(value: float, values: list[float], width: int, ascii_only: bool) -> str:
    """A bar whose length is `value` on the log scale that `values` span; empty at zero."""
    share = log_share(value, values)
    if math.isnan(share):
        return ""
    return ("#" if ascii_only else "━") * round(share * width)


def trend(series: tuple[float, ...], width: int, ascii_only: bool) -> str:
    """A sparkline of the series on a log scale of at least one decade; a blank where a value is missing or zero."""
    marks = "_.-=+*#@" if ascii_only else "▁▂▃▄▅▆▇█"
    count = min(width, len(series))
    picked = [series[round(k * (len(series) - 1) / max(count - 1, 1))] for k in range(count)]
    logs = [math.log10(v) if math.isfinite(v) and v > 0 else math.nan for v in picked]
    finite = [v for v in logs if not math.isnan(v)]
    if not finite:
        return ""
    middle, half = (max(finite) + min(finite)) / 2, max((max(finite) - min(finite)) / 2, 0.5)
    levels = [math.nan if math.isnan(v) else (v - middle + half) / (2 * half) for v in logs]
    return "".join(" " if math.isnan(v) else marks[min(int(v * len(marks)), len(marks) - 1)] for v in levels)


def _dead(row: SiteRow) -> str:
    if math.isnan(row.dead):
        return number(row.dead)
    return f"{row.dead:.0f}/{row.units:.0f}" if not math.isnan(row.units) else f"{row.dead:.0f}"
