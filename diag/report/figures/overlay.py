"""Several diagnoses in one picture: the same quantity of each network, over depth or over steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from diag.report import measured
from diag.report.diagnosis import Diagnosis
from diag.report.figures import style, ticks
from diag.report.figures.curves import draw_loss
from diag.report.figures.depth import layers, points
from diag.report.figures.plot import Plot
from diag.report.figures.svg import inline
from diag.report.text import elide, number, percent, plain

MOST = len(style.SERIES)
"""So many networks fit one picture."""


def gradients(diagnoses: Sequence[Diagnosis], name: str) -> Plot | None:
    """Gradient rms per layer of every network at its last step, with the range over its steps."""
    tables = [layers(measured.matrix(one.trace, "gradient", "rms"), one.trace) for one in diagnoses]
    return _profile(diagnoses, tables, name, "Gradient per layer", "gradient rms (log)", _ends)


def activations(diagnoses: Sequence[Diagnosis], name: str) -> Plot | None:
    """Activation rms per layer of every network at its last step, with the range over its steps."""
    tables = [layers(measured.matrix(one.trace, "activation", "rms"), one.trace) for one in diagnoses]
    return _profile(diagnoses, tables, name, "Spread of activations per layer", "activation rms (log)", _ends)


def losses(diagnoses: Sequence[Diagnosis], name: str) -> Plot | None:
    """The loss of every network over its steps."""
    figure, axes = style.blank()
    parts = []
    for i, one in enumerate(diagnoses[:MOST]):
        drawn = ticks.finite(one.trace.steps["loss"])
        good = drawn[np.isfinite(drawn)]
        if not len(good):
            continue
        draw_loss(axes, one.trace.steps, _title(one), style.stroke(i))
        parts.append(f"{_title(one)}: {number(good[0], 4)} to {number(good[-1], 4)}")
    if len(parts) < 2:
        return None
    axes.set_ylabel("loss")
    ticks.whole_steps(axes)
    _legend(axes)
    caption = "Loss over steps. " + "; ".join(parts) + "."
    return Plot(name, "Loss", caption, inline(figure, name, caption))


def shares(diagnoses: Sequence[Diagnosis], name: str, which: str) -> Plot | None:
    """Share of saturated elements, or of dead units, over depth at the last step of every network that has them."""
    read = measured.saturation if which == "saturated" else measured.dead
    ends = [measured.last(read(one.trace)).dropna() for one in diagnoses[:MOST]]
    if sum(len(end) > 0 for end in ends) < 2 or not any((end > 0).any() for end in ends):
        return None
    figure, axes = style.blank()
    for i, end in enumerate(ends):
        if len(end):
            _line(axes, np.arange(1, len(end) + 1), end, i, _title(diagnoses[i]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: percent(v)))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("saturated elements" if which == "saturated" else "dead units")
    _depth_axis(axes, "nonlinearity, counted from the input")
    _legend(axes)
    parts = [
        f"{_title(one)}: {percent(end.max())} at most" for one, end in zip(diagnoses, ends, strict=False) if len(end)
    ]
    title = "Saturation" if which == "saturated" else "Dead units"
    caption = f"{title} over depth at the last step. " + "; ".join(parts) + "."
    return Plot(name, title, caption, inline(figure, name, caption))


def _profile(
    diagnoses: Sequence[Diagnosis],
    tables: list[pd.DataFrame],
    name: str,
    title: str,
    quantity: str,
    tell: Callable[[pd.Series], str],
) -> Plot | None:
    tables = [table.where(np.isfinite(table)) if len(table) else table for table in tables[:MOST]]
    if sum(bool(len(table)) and bool((table > 0).any(axis=None)) for table in tables) < 2:
        return None
    figure, axes = style.blank()
    everything: list[float] = []
    parts = []
    for i, table in enumerate(tables):
        if not len(table):
            continue
        positive, at = table.where(table > 0), np.arange(1, len(table) + 1)
        end = measured.last(table)
        kinds = np.array(measured.kinds([str(site) for site in table.index]))
        for kind in dict.fromkeys(kinds):
            own = positive[kinds == kind]
            axes.fill_between(
                at[kinds == kind], own.min(axis=1), own.max(axis=1), color=style.SERIES[i], alpha=0.15, lw=0
            )
        _line(axes, at, end.where(end > 0), i, _title(diagnoses[i]))
        zero = at[(end == 0).to_numpy()]
        axes.plot(
            zero, [0.02] * len(zero), "v", color=style.SERIES[i], transform=axes.get_xaxis_transform(), clip_on=False
        )
        everything += list(positive.to_numpy().ravel())
        parts.append(f"{_title(diagnoses[i])}: {tell(end.dropna())}")
    ticks.log_scale(axes, everything)
    axes.set_ylabel(quantity)
    _depth_axis(axes, "layer, counted from the input")
    _legend(axes)
    caption = f"{title} at the last step, band: all steps. " + "; ".join(parts) + "."
    return Plot(name, f"{title} over depth", caption, inline(figure, name, caption))


def _line(axes: Axes, at: np.ndarray, values: pd.Series, i: int, label: str) -> None:
    sites = [str(site) for site in values.index]
    look = {**points(sites, i), **style.stroke(i)}
    long = pd.DataFrame({"at": at, "value": values.to_numpy(), "kind": measured.kinds(sites)}).dropna()
    sns.lineplot(long, x="at", y="value", units="kind", ax=axes, estimator=None, legend=False, **look)
    axes.plot([], [], label=label, **look)


def _depth_axis(axes: Axes, label: str) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(label)


def _legend(axes: Axes) -> None:
    _, labels = axes.get_legend_handles_labels()
    columns = 2 if sum(map(len, labels)) <= 50 else 1
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=columns, columnspacing=1.2)


def _title(diagnosis: Diagnosis) -> str:
    return elide(plain(diagnosis.title), 48)


def _ends(end: pd.Series) -> str:
    if not len(end):
        return "nothing finite"
    text = f"{number(end.iloc[0], 2)} at its first layer, {number(end.iloc[-1], 2)} at its last"
    return text
