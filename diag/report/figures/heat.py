"""Heat maps over sites and steps: saturated shares, zeros, dead units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from diag.report import measured
from diag.report.figures import style, ticks
from diag.report.figures.plot import Plot
from diag.report.figures.svg import inline
from diag.report.text import elide, percent, plain
from diag.trace import Trace

MOST_COLUMNS = 240
"""More steps than this are averaged into as many columns: a screen shows no more."""


def saturation(trace: Trace, name: str) -> Plot | None:
    """Share of saturated elements per nonlinearity and step; relu's are zeros and dead units."""
    return _map(
        measured.saturation(trace).rename(index=measured.displays(trace)),
        name,
        "Saturation over steps",
        "saturated elements",
    )


def dead(trace: Trace, name: str) -> Plot | None:
    """Share of dead units per site and step."""
    return _map(
        measured.dead(trace).rename(index=measured.displays(trace)), name, "Dead units over steps", "dead units"
    )


def zeros(trace: Trace, name: str) -> Plot | None:
    """Share of exact zeros per nonlinearity and step."""
    return _map(
        measured.zeros(trace).rename(index=measured.displays(trace)), name, "Zero outputs over steps", "zero elements"
    )


def _map(shares: pd.DataFrame, name: str, title: str, what: str) -> Plot | None:
    """The shares as a map; None where nothing was measured or nothing is above zero."""
    if shares.empty or not (shares > 0).any(axis=None):
        return None
    caption = _caption(shares, what)
    table = _binned(shares)
    figure, axes = style.blank()
    if table.shape[1] == 1:
        _bars(axes, table.iloc[:, 0], what)
        return Plot(name, title.replace("over steps", "over depth"), caption, inline(figure, name, caption))
    hatched = bool(table.isna().any(axis=None))
    if hatched:
        axes.add_patch(
            Rectangle(
                (0, 0),
                table.shape[1],
                table.shape[0],
                hatch="////",
                fill=False,
                edgecolor=style.SOFT,
                alpha=0.7,
                linewidth=0,
            )
        )
    bar_look = {"label": f"share of {what}", "pad": 0.02, "aspect": 26}
    ceiling = _ceiling(float(np.nanmax(table.to_numpy())))
    plain_look = {"xticklabels": False, "yticklabels": False, "rasterized": True}
    sns.heatmap(table, ax=axes, cmap="mako_r", vmin=0, vmax=ceiling, cbar_kws=bar_look, **plain_look)
    bar = figure.axes[-1]
    bar.yaxis.set_major_locator(MaxNLocator(5))
    bar.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bar.grid(visible=False)
    axes.grid(visible=False)
    ticks.sites_beside(axes, [str(site) for site in table.index])
    ticks.steps_below(axes, list(table.columns))
    axes.tick_params(length=2.5)
    return Plot(name, title, caption, inline(figure, name, caption))


def _bars(axes: Axes, shares: pd.Series, what: str) -> None:
    """One step makes no map: the shares as bars, from input at the top to output."""
    axes.barh([i + 0.5 for i in range(len(shares))], shares.to_numpy(), height=0.8, color=style.SERIES[0], linewidth=0)
    axes.set_ylim(len(shares), 0)
    axes.set_xlim(0, _ceiling(float(shares.max())))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel(f"share of {what}")
    axes.grid(visible=False, axis="y")
    ticks.sites_beside(axes, [str(site) for site in shares.index])


def _binned(table: pd.DataFrame) -> pd.DataFrame:
    if table.shape[1] <= MOST_COLUMNS:
        return table
    groups = [i * MOST_COLUMNS // table.shape[1] for i in range(table.shape[1])]
    binned = table.T.groupby(groups).mean().T
    starts = pd.Series(table.columns).groupby(groups).first()
    return binned.set_axis(list(starts), axis=1)


def _ceiling(most: float) -> float:
    """The smallest round share that holds all: small shares stay visible, and no noise looks like a fire."""
    return next((top for top in (0.1, 0.25, 0.5) if most <= top), 1.0)


def _caption(shares: pd.DataFrame, what: str) -> str:
    end = measured.last(shares).dropna()
    worst = str(end.idxmax())
    text = (
        f"The largest share of {what} {measured.when(shares)} is {percent(end.max())}, at {elide(plain(worst), 40)}; "
    )
    text += f"the median over {len(end)} sites is {percent(end.median())}."
    return text + (" Hatched: not measured." if shares.isna().any(axis=None) else "")
