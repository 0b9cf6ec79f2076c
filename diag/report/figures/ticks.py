"""Axes that stay legible: names of sites for 5 and for 300 of them, decades, steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from diag.report.text import plain, shorten

LONGEST_NAME = 22
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def thinned(count: int, most: int) -> list[int]:
    """At most `most` of the positions 0 .. count-1, evenly spaced, the first and the last among them.

    >>> thinned(5, 10), thinned(300, 4), thinned(19, 18)
    ([0, 1, 2, 3, 4], [0, 100, 200, 299], [0, 2, 4, 6, 8, 10, 12, 14, 16, 18])
    """
    stride = max(math.ceil((count - 1) / (most - 1)), 1)
    picked = list(range(0, count, stride))
    if picked and picked[-1] != count - 1:
        # The last belongs there, and takes the place of a neighbor whose name would touch its own.
        picked = (picked if count - 1 - picked[-1] >= 0.9 * stride else picked[:-1]) + [count - 1]
    return picked


def sites_below(axes: Axes, names: Sequence[str], most: int = 18) -> None:
    """Name the positions 0, 1, ... of the horizontal axis, from bottom to top; some of them if there are many."""
    picked = thinned(len(names), most)
    short = [shorten(plain(names[i]), LONGEST_NAME) for i in picked]
    flat = len(names) <= 6 and max(map(len, short), default=0) <= 9
    axes.set_xticks(picked, labels=short, rotation=0 if flat else 90)
    axes.set_xlim(-0.5, max(len(names) - 0.5, 0.5))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(_axis_name(len(names), len(picked)))


def sites_beside(axes: Axes, names: Sequence[str], most: int = 20) -> None:
    """Name the rows of a heat map."""
    picked = thinned(len(names), most)
    axes.set_yticks(
        [i + 0.5 for i in picked], labels=[shorten(plain(names[i]), LONGEST_NAME) for i in picked], rotation=0
    )
    axes.set_ylabel(_axis_name(len(names), len(picked)) if len(picked) < len(names) else "")


def _axis_name(count: int, named: int) -> str:
    return "input to output" if named == count else f"{count} sites, input to output"


def steps_below(axes: Axes, steps: Sequence[Any]) -> None:
    """Name the columns of a heat map by their step: round ones."""
    place = {int(step): i for i, step in enumerate(steps)}
    wanted = MaxNLocator(nbins=6, integer=True).tick_values(min(place), max(place))
    picked = [place[int(step)] for step in wanted if int(step) in place] or thinned(len(steps), 6)
    axes.set_xticks([i + 0.5 for i in picked], labels=[str(steps[i]) for i in picked], rotation=0)
    axes.set_xlabel("step")


def whole_steps(axes: Axes) -> None:
    """Steps on a horizontal axis of numbers: whole ones only."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.set_xlabel("step")


def log_scale(axes: Axes, values: Iterable[float], least_decades: float = 1.0) -> None:
    """A logarithmic vertical axis around the positive finite values, at least `least_decades` high."""
    positive = [v for v in values if math.isfinite(v) and v > 0]
    low, high = (math.log10(min(positive)), math.log10(max(positive))) if positive else (-1.0, 0.0)
    # Within what a double holds, whatever was measured.
    low, high = max(low, -300.0), min(max(high, -299.0), 300.0)
    grow = max(least_decades - (high - low), 0) / 2 + 0.06 * max(high - low, least_decades)
    low, high = low - grow, high + grow
    axes.set_yscale("log")
    axes.set_ylim(10**low, 10**high)
    narrow = high - low < 2.2
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=9))
    axes.yaxis.set_major_formatter(FuncFormatter(decade))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", left=False)


def decade(value: float, position: int | None = None) -> str:
    """A tick on a log axis: `10⁻³`, and plainly `0.01` to `1000`.

    >>> decade(1e-7), decade(2e-7), decade(0.05)
    ('10⁻⁷', '2·10⁻⁷', '0.05')
    """
    if value <= 0:
        return ""
    if 0.0099 <= value <= 1001:
        return f"{value:g}"
    power = math.floor(math.log10(value) + 1e-9)
    factor = round(value / 10.0**power)
    raised = f"10{str(power).translate(_RAISED)}"
    return raised if factor == 1 else f"{factor}·{raised}"


def finite(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The values as an array in which everything that an axis cannot hold is missing."""
    array = np.asarray(values, dtype="float64")
    return np.where(np.isfinite(array), array, np.nan)
