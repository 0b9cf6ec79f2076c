"""The pictures that suites draw of their results: curves, profiles over depth, heat maps, trajectories.

Each function takes a data frame and returns a matplotlib figure; nothing is imported before it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 7.0, 3.6
"""Inches."""


def curves(
    table: pd.DataFrame, x: str, y: str, *, hue: str = "case", style: str | None = None, log: str = "", **labels: str
) -> Figure:
    """Lines of y over x, one per `hue`, mean over seeds with a 95 % band; log: "x", "y" or "xy"."""
    import seaborn

    figure, axis = _figure()
    rows = table[table[y].notna()]
    # With a band of two standard errors: a bootstrap of every point takes seconds and says the same.
    seaborn.lineplot(
        rows, x=x, y=y, hue=hue, style=style, errorbar=("se", 2), ax=axis, palette=palette(rows[hue].nunique())
    )
    _finish(axis, log, labels.get("xlabel", x), labels.get("ylabel", y))
    return figure


def panels(
    table: pd.DataFrame,
    x: str,
    y: str,
    *,
    panel: str,
    hue: str = "case",
    log: str = "",
    columns: int = 2,
    **labels: str,
) -> Figure:
    """`curves`, in one panel per value of `panel`, all with the same axes."""
    import matplotlib.pyplot as plt
    import seaborn

    names = list(dict.fromkeys(table[panel]))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH * columns / 1.6, HEIGHT * rows / 1.2), sharex=True, sharey=True, squeeze=False
    )
    for axis, name in zip(axes.flat, names, strict=False):
        part = table[(table[panel] == name) & table[y].notna()]
        colors = palette(part[hue].nunique())
        seaborn.lineplot(part, x=x, y=y, hue=hue, errorbar=("se", 2), ax=axis, palette=colors)
        axis.set_title(str(name), fontsize=9)
        _finish(axis, log, labels.get("xlabel", x), labels.get("ylabel", y))
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    figure.tight_layout()
    return figure


def heat_map(table: pd.DataFrame, row: str, column: str, value: str, *, label: str = "", fmt: str = ".2f") -> Figure:
    """Means of a value over two factors, with the numbers in the cells."""
    import seaborn

    wide = table.pivot_table(index=row, columns=column, values=value, aggfunc="mean", sort=False)
    figure, axis = _figure(height=0.5 * len(wide) + 1.2)
    seaborn.heatmap(wide, annot=True, fmt=fmt, cmap="cividis", cbar_kws={"label": label or value}, ax=axis)
    axis.tick_params(axis="x", rotation=30)
    axis.tick_params(axis="y", rotation=0)
    return figure


def bars(
    table: pd.DataFrame, y: str, value: str, *, hue: str | None = None, label: str = "", log: bool = False
) -> Figure:
    """A horizontal bar per `y`, mean over seeds with two standard errors."""
    import seaborn

    kinds = table[hue].nunique() if hue else 1
    figure, axis = _figure(height=0.28 * table[y].nunique() * kinds + 1.0)
    seaborn.barplot(
        table, y=y, x=value, hue=hue, errorbar=("se", 2), ax=axis, orient="h",
        **({"palette": palette(kinds)} if hue else {"color": palette(1)[0]}),
    )  # fmt: skip
    if log:
        axis.set_xscale("log")
    axis.set_xlabel(label or value)
    axis.set_ylabel("")
    return figure


def trajectories(
    surface: Callable[[np.ndarray, np.ndarray], np.ndarray],
    table: pd.DataFrame,
    limits: tuple[float, float, float, float],
    *,
    hue: str = "case",
    levels: Sequence[float] | int = 25,
) -> Figure:
    """Paths (columns x, y) on the contours of a function of two variables; limits: x from, to, y from, to."""
    import numpy as np

    figure, axis = _figure(height=4.2)
    xs, ys = np.meshgrid(np.linspace(*limits[:2], 200), np.linspace(*limits[2:], 200))
    axis.contour(xs, ys, surface(xs, ys), levels=levels, colors="0.75", linewidths=0.7)
    names = list(dict.fromkeys(table[hue]))
    for name, color in zip(names, palette(len(names)), strict=True):
        path = table[table[hue] == name]
        axis.plot(path["x"], path["y"], "o-", color=color, markersize=2.5, linewidth=1, label=str(name))
    axis.set_xlim(*limits[:2])
    axis.set_ylim(*limits[2:])
    axis.legend(fontsize=8, framealpha=0.9)
    axis.set_xlabel("first parameter")
    axis.set_ylabel("second parameter")
    return figure


def palette(count: int) -> list[Any]:
    """Colors that the color-blind can tell apart; beyond ten, a sequence from dark to light."""
    import seaborn

    return list(seaborn.color_palette("colorblind", count) if count <= 10 else seaborn.color_palette("viridis", count))


def _figure(height: float = HEIGHT) -> tuple[Figure, Any]:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(WIDTH, height))
    return figure, axis


def _finish(axis: Any, log: str, xlabel: str, ylabel: str) -> None:
    if "x" in log:
        axis.set_xscale("log")
    if "y" in log:
        axis.set_yscale("log")
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.grid(True, alpha=0.25)
    if axis.get_legend() is not None:
        axis.get_legend().set_title(None)
        for text in axis.get_legend().get_texts():
            text.set_fontsize(8)
