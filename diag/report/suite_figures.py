"""The pictures that suites draw of their results: curves, panels, heat maps, bars, histograms, trajectories.

Each function takes a data frame and returns a matplotlib figure in the style of all reports; nothing is imported before
it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 5.4, 3.3
"""Inches, of one picture without its legend."""
TALLEST = 6.0
"""Inches, of a map without numbers."""
LEGEND_ROW = 0.2
"""Inches that a row of a legend takes."""


def curves(
    table: pd.DataFrame,
    x: str,
    y: str,
    *,
    hue: str = "case",
    log: str = "",
    theory: pd.DataFrame | None = None,
    **labels: str,
) -> Figure:
    """Lines of y over x, one per `hue`: the mean over seeds and a 95 % band of it; log: "x", "y" or "xy".

    theory: the same columns, drawn as thin dashed lines in the colors of their `hue`. labels: xlabel, ylabel.
    """
    _require(table, y)
    names = list(dict.fromkeys(table[hue]))
    figure, axis = canvas(WIDTH, HEIGHT)
    lines(axis, table, x, y, hue, names)
    if theory is not None:
        for i, name in enumerate(names):
            part = theory[theory[hue] == name].sort_values(x)
            axis.plot(part[x], part[y], color=color(i), linestyle=(0, (1.5, 2.5)), linewidth=2.2, alpha=0.75)
    finish(axis, log, labels.get("xlabel", x), labels.get("ylabel", y))
    legend(figure, [axis], note="dotted: theory" if theory is not None else "")
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
    """`curves`, in one panel per value of `panel`, all with the same axes, colors and legend."""
    _require(table, y)
    names = list(dict.fromkeys(table[panel]))
    hues = list(dict.fromkeys(table[hue]))
    rows = -(-len(names) // columns)
    figure, axes = canvas(3.6 * columns, 2.6 * rows, rows, columns)
    # Too many lines to tell apart, in panels that share none of them: each has colors and a legend of its own.
    apart = len(hues) > 12 and table.groupby(hue, sort=False)[panel].nunique().max() == 1
    for i, (axis, name) in enumerate(zip(axes.flat, names, strict=False)):
        part = table[table[panel] == name]
        lines(axis, part, x, y, hue, list(dict.fromkeys(part[hue])) if apart else hues)
        axis.set_title(str(name), fontsize=8.5)
        lowest = i + columns >= len(names)
        finish(
            axis, log, labels.get("xlabel", x) if lowest else "", labels.get("ylabel", y) if i % columns == 0 else ""
        )
        axis.tick_params(labelbottom=lowest)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    if apart:
        for axis in axes.flat[: len(names)]:
            axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
    else:
        legend(figure, list(axes.flat[: len(names)]))
    return figure


def heat_map(
    table: pd.DataFrame, row: str, column: str, value: str, *, label: str = "", fmt: str = ".2f", numbers: bool = True
) -> Figure:
    """Means of a value over two factors; numbers: in the cells, else a map over many (steps, layers) without them."""
    import numpy as np
    import seaborn
    from matplotlib import colormaps

    from diag.report.text import number

    _require(table, value)
    wide = table.pivot_table(index=row, columns=column, values=value, aggfunc="mean", sort=not numbers)
    if wide.columns.dtype.kind in "iuf":
        wide = wide.sort_index(axis=1)
    if not numbers:
        wide = wide.sort_index(ascending=False)  # depth grows upwards
    # A row a line, so that its number can be read; a map without numbers is a picture, however many rows it has.
    figure, axis = canvas(WIDTH, max(2.0, 0.32 * len(wide) + 0.9 if numbers else min(0.32 * len(wide) + 0.9, TALLEST)))
    finite = wide.to_numpy(float)[np.isfinite(wide.to_numpy(float))]
    share = not finite.size or (not numbers and finite.max() <= 1)
    low, high = (0.0, 1.0) if share else (finite.min(), finite.max())
    # What is infinite has the color of the largest, and says what it is.
    drawn = wide.clip(low, high)
    said = wide.map(lambda one: format(one, fmt) if abs(one) < 1e5 else number(one)) if numbers else False
    seaborn.heatmap(
        drawn, annot=said, fmt="", cmap=colormaps["cividis"].resampled(64 if numbers else 256), ax=axis,
        cbar_kws={"label": label or value}, annot_kws={"fontsize": 7.5},
        xticklabels=True if numbers else max(1, len(wide.columns) // 8),
        linewidths=0.5 if numbers else 0, linecolor="#ffffff", vmin=low, vmax=high,
    )  # fmt: skip
    mesh = axis.collections[0]
    # A dark page turns the colors of what is an image: the map and its bar both are one, or neither is.
    mesh.set_rasterized(not numbers)
    mesh.colorbar.solids.set_rasterized(not numbers)
    cells = [one for one in drawn.to_numpy(float).flat if one == one and numbers]
    for text, cell in zip(axis.texts, cells, strict=True):
        text.set_color(_legible_on(mesh.cmap(mesh.norm(cell))))
    axis.grid(False)
    axis.set_xlabel(column)
    axis.set_ylabel(row)
    axis.tick_params(axis="x", rotation=30 if numbers else 0)
    axis.tick_params(axis="y", rotation=0)
    return figure


def _legible_on(ground: Sequence[float]) -> str:
    """Black or white, whichever has the higher contrast with a color (WCAG 2.2): at least 4.5 with any."""
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in ground[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def bars(
    table: pd.DataFrame, y: str, value: str, *, hue: str | None = None, label: str = "", log: bool = False
) -> Figure:
    """A point with its 95 % interval per `y`, mean over seeds, the largest first; for shares and times alike."""
    import seaborn

    _require(table, value)
    order = list(table.groupby(y)[value].mean().sort_values(ascending=False).index)
    hues = list(dict.fromkeys(table[hue])) if hue else []
    figure, axis = canvas(WIDTH, 0.2 * len(order) * max(1, 0.7 * len(hues)) + 0.8)
    seaborn.pointplot(
        table, y=y, x=value, hue=hue, order=order, errorbar=("se", 2), ax=axis, linestyle="none", markersize=4.5,
        err_kws={"linewidth": 1.3}, dodge=0.4 if len(hues) > 1 else False, legend=bool(hue),
        **(
            {"palette": [color(i) for i in range(len(hues))], "markers": [marker(i) for i in range(len(hues))]}
            if hue
            else {"color": color(0)}
        ),
    )  # fmt: skip
    finish(axis, "x" if log else "", label or value, "")
    axis.grid(True, axis="y")
    if hue:
        legend(figure, [axis])
    return figure


def histograms(table: pd.DataFrame, x: str, *, hue: str, xlabel: str = "", bins: int = 40) -> Figure:
    """The densities of x, one per `hue`, each with an area of 1."""
    import seaborn

    _require(table, x)
    hues = list(dict.fromkeys(table[hue]))
    figure, axis = canvas(WIDTH, HEIGHT)
    seaborn.histplot(
        table, x=x, hue=hue, hue_order=hues, stat="density", common_norm=False, bins=bins, element="step", alpha=0.25,
        palette=[color(i) for i in range(len(hues))], ax=axis,
    )  # fmt: skip
    finish(axis, "", xlabel or x, "density")
    axis.get_legend().set_title("")
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

    figure, axis = canvas(WIDTH, 3.8)
    xs, ys = np.meshgrid(np.linspace(*limits[:2], 200), np.linspace(*limits[2:], 200))
    axis.contour(xs, ys, surface(xs, ys), levels=levels, colors="#8a929c", linewidths=0.5)
    for i, name in enumerate(dict.fromkeys(table[hue])):
        path = table[table[hue] == name]
        axis.plot(
            path["x"], path["y"], color=color(i), linewidth=1, label=str(name), marker=marker(i), markersize=3,
            markevery=max(1, len(path) // 40),
        )  # fmt: skip
    finish(axis, "", "first parameter", "second parameter")
    axis.grid(False)
    axis.set_xlim(*limits[:2])
    axis.set_ylim(*limits[2:])
    legend(figure, [axis])
    return figure


def _require(table: pd.DataFrame, value: str) -> None:
    """Raises: MissingTrialsError if nothing of this was measured: an empty picture would say that there is nothing."""
    from diag.suite.errors import MissingTrialsError

    if value not in table or not table[value].notna().any():
        raise MissingTrialsError(f"no trial has measured {value} yet")


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, *, same_y: bool = True) -> tuple[Figure, Any]:
    """An empty figure and its axes (an array of them, if there are several), part of no global state.

    Several share their horizontal axis, and their vertical one if `same_y`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    single = rows == columns == 1
    axes = figure.subplots(rows, columns, sharex=not single, sharey=not single and same_y, squeeze=single)
    return figure, axes


def lines(axis: Axes, table: pd.DataFrame, x: str, y: str, hue: str, names: list[Any]) -> None:
    """`curves` on given axes; names: all values of `hue` that the legend has, so that colors agree between panels."""
    import seaborn
    from matplotlib.ticker import MaxNLocator

    rows = table[table[y].notna()]
    present = [name for name in names if name in set(rows[hue])]
    if not present:
        return
    if rows[x].dtype.kind in "iu":
        axis.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    dashed = len(names) <= 12
    # A band of two standard errors: a bootstrap of every point takes seconds and says the same.
    seaborn.lineplot(
        rows, x=x, y=y, hue=hue, hue_order=present, errorbar=("se", 2), ax=axis, legend="full",
        palette={name: color(i) for i, name in enumerate(names)},
        **(
            {"style": hue, "style_order": present, "dashes": {n: dash(i) for i, n in enumerate(names)}}
            if dashed
            else {}
        ),
    )  # fmt: skip


def finish(axis: Axes, log: str, xlabel: str, ylabel: str) -> None:
    """Scales and labels; log: the axes that are logarithmic."""
    import math

    # An axis without a positive value has no logarithm.
    if "x" in log and math.isfinite(axis.dataLim.minposx):
        axis.set_xscale("log")
        _decades(axis.xaxis)
    if "y" in log and math.isfinite(axis.dataLim.minposy):
        axis.set_yscale("log")
        _decades(axis.yaxis)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.grid(True)


def _decades(axis: Axis) -> None:
    """Ticks at powers of ten; at 2 and 5 times them too where the axis is short."""
    import math

    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from diag.report.figures.ticks import decade

    low, high = axis.get_view_interval()
    short = low > 0 and math.log10(high / low) < 2.2
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if short else (1.0,), numticks=7))
    axis.set_major_formatter(FuncFormatter(decade))
    axis.set_minor_formatter(NullFormatter())


def legend(figure: Figure, axes: list[Axes], note: str = "") -> None:
    """One legend for all axes, below them, where it covers nothing."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
        own = axis.get_legend()
        if own is not None:
            own.remove()
    if note:
        from matplotlib.lines import Line2D

        from diag.report.figures.style import SOFT

        handles[note] = Line2D([], [], color=SOFT, linestyle=(0, (1.5, 2.5)), linewidth=2.2)
    if not handles or (len(handles) == 1 and not note):
        return
    longest = max(map(len, handles))
    columns = max(1, min(len(handles), int(figure.get_figwidth() / (0.42 + 0.062 * longest))))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * -(-len(handles) // columns))


def color(i: int) -> str:
    """The color of the i-th line: those the color-blind can tell apart, in turn."""
    from diag.report.figures.style import SERIES

    return SERIES[i % len(SERIES)]


def dash(i: int) -> tuple[float, ...]:
    """The dashes of the i-th line, as seaborn takes them; a color that comes again has others."""
    from diag.report.figures.style import DASHES

    found = DASHES[(i + i // 6) % len(DASHES)]
    return found if found else (1, 0)


def marker(i: int) -> str:
    """The marker of the i-th line."""
    from diag.report.figures.style import MARKERS

    return MARKERS[i % len(MARKERS)]
