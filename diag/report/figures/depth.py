"""Profiles over depth: the spread of activations and the size of gradients, from input to output."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from diag.report import measured
from diag.report.figures import style, ticks
from diag.report.figures.plot import Plot
from diag.report.figures.svg import inline
from diag.report.text import elide, number, plain
from diag.rules.prediction import Prediction, predict
from diag.trace import Trace

SIGNAL = ("layer", "recurrent", "attention", "embedding", "normalization")
"""Roles whose output is a new signal; a nonlinearity's is drawn apart, pooling and dropout not at all."""


THEORY: dict[str, Any] = {"color": style.SERIES[2], "linestyle": (0, (3, 1.5)), "linewidth": 1.3, "zorder": 4}
"""The line of what should have been."""


def activations(trace: Trace, name: str) -> Plot | None:
    """Activation rms per site over depth: the last step as a line, the range over all steps as a band."""
    table = measured.matrix(trace, "activation", "rms").map(_drawable)
    groups = _groups(table, measured.roles(trace))
    grouped = set().union(*groups.values())
    shown, names = [site for site in table.index if site in grouped], measured.displays(trace)
    table = table.loc[shown]
    if not (table > 0).any(axis=None):
        return None
    figure, axes = style.blank()
    for i, (label, sites) in enumerate(groups.items()):
        _line_and_band(axes, table.loc[sites], shown, label, i)
    prediction = predict(trace)
    expected = _theory(axes, prediction, "predicted", groups.values(), shown)
    ticks.log_scale(axes, [*table.to_numpy().ravel(), *expected])
    _marks(axes, trace, "activation", table)
    ticks.sites_below(axes, [names.get(site, site) for site in shown])
    axes.set_ylabel("activation rms")
    _legend(axes)
    return Plot(
        name,
        "Spread of activations over depth",
        caption := _activation_caption(table.rename(index=names))
        + _joined(table.loc[next(iter(groups.values()))])
        + _theory_caption(prediction, expected),
        inline(figure, name, caption),
    )


def gradients(trace: Trace, name: str) -> Plot | None:
    """Gradient rms per layer on a log axis: light at the first step, darker later; a band spans all steps."""
    table = layers(measured.matrix(trace, "gradient", "rms").map(_drawable), trace)
    if not (table >= 0).any(axis=None):
        return None
    shown, names = list(table.index), measured.displays(trace)
    figure, axes = style.blank()
    steps = [table.columns[i] for i in ticks.thinned(table.shape[1], 4)]
    colors = style.STEPS if len(steps) == 4 else style.STEPS[-len(steps) :]
    _band(axes, table, shown, style.STEPS[1])
    long = _long(table[steps], shown)
    if len(long):
        palette = dict(zip(steps, colors, strict=True))
        sns.lineplot(
            long, x="position", y="value", hue="step", units="kind", palette=palette, ax=axes, estimator=None,
            legend=False, **points(shown),
        )  # fmt: skip
    for step, color in zip(steps, colors, strict=True):
        axes.plot([], [], color=color, label=f"step {step}")
    prediction = predict(trace)
    expected = _theory(axes, prediction, "gradient_predicted", [shown], shown)
    ticks.log_scale(axes, [*table.to_numpy().ravel(), *expected])
    _marks(axes, trace, "gradient", table)
    ticks.sites_below(axes, [names.get(site, site) for site in shown])
    axes.set_ylabel("gradient rms (log)")
    _legend(axes)
    return Plot(
        name,
        "Gradient per layer over depth",
        caption := _gradient_caption(table.rename(index=names)) + _theory_caption(prediction, expected),
        inline(figure, name, caption),
    )


def layers(table: pd.DataFrame, trace: Trace) -> pd.DataFrame:
    """The rows of layers alone, if there are two: a nonlinearity's own slope would make a saw of the profile."""
    role = measured.roles(trace)
    own = [site for site in table.index if role.get(site) in SIGNAL[:4]]
    return table.loc[own] if len(own) >= 2 else table


def _groups(table: pd.DataFrame, role: dict[str, str]) -> dict[str, list[str]]:
    signal = [site for site in table.index if role.get(site) in SIGNAL]
    bent = [site for site in table.index if role.get(site) == "nonlinearity"]
    groups = {"layers": signal, "nonlinearities": bent}
    groups = {label: sites for label, sites in groups.items() if sites}
    return groups or ({"all sites": list(table.index)} if len(table) else {})


def _line_and_band(axes: Axes, table: pd.DataFrame, shown: list[str], label: str, i: int) -> None:
    _band(axes, table, shown, style.SERIES[i])
    end = _long(measured.last(table).to_frame(table.columns[-1]), shown)
    if end.empty:
        return
    look = {**points(list(table.index), i), **style.stroke(i)}
    sns.lineplot(end, x="position", y="value", units="kind", ax=axes, estimator=None, legend=False, **look)
    axes.plot([], [], label=label, **look)


def _theory(
    axes: Axes, prediction: Prediction, column: str, groups: Iterable[list[str]], shown: list[str]
) -> list[float]:
    """What theory predicts of the first step, dashed, a line per group; what was drawn, for the axis."""
    known = prediction.table[["site", column]].dropna()
    # A function that is called several times is one site; what is drawn of it is their mean square, too.
    rms = (known[column] ** 2).groupby(known["site"].astype(str)).mean() ** 0.5
    drawn: list[float] = []
    for sites in groups:
        own = [site for site in sites if rms.get(site, 0.0) > 0]
        values = [float(rms[site]) for site in own]
        axes.plot([shown.index(site) for site in own], values, **THEORY, label="theory" if own and not drawn else None)
        drawn += values
    return drawn


def _theory_caption(prediction: Prediction, drawn: list[float]) -> str:
    return f" Dashed: what theory predicts for step {prediction.step}." if drawn else ""


def points(sites: list[str], i: int = 0) -> dict[str, Any]:
    """Marks on a line: for few sites, and for blocks, where a site that does not repeat would be no line at all."""
    blocks = in_blocks(sites)
    marker = style.MARKERS[i] if blocks or len(sites) <= 30 else None
    return {"marker": marker, "markersize": 2.8 if blocks else 3.5, "markeredgewidth": 0}


def in_blocks(sites: list[str]) -> bool:
    """Whether the profile is drawn as one line per kind of site."""
    return len(set(measured.kinds(sites))) > 1


def _band(axes: Axes, table: pd.DataFrame, shown: list[str], color: str) -> None:
    if table.shape[1] < 2:
        return
    positive = table.where(table > 0)
    kinds = pd.Series(measured.kinds(list(table.index)), index=table.index)
    for kind in kinds.unique():
        own = positive[kinds == kind]
        place = [shown.index(site) for site in own.index]
        axes.fill_between(place, own.min(axis=1), own.max(axis=1), color=color, alpha=0.18, linewidth=0)


def _long(table: pd.DataFrame, shown: list[str]) -> pd.DataFrame:
    place = {site: i for i, site in enumerate(shown)}
    long = table.where(table > 0).rename_axis(index="site", columns="step").reset_index().melt("site", var_name="step")
    kind = dict(zip(table.index, measured.kinds(list(table.index)), strict=True))
    return long.assign(position=long["site"].map(place), kind=long["site"].map(kind)).dropna(subset=["value"])


def _marks(axes: Axes, trace: Trace, kind: str, table: pd.DataFrame) -> None:
    """Exact zeros at the floor of the log axis, sites that ever held NaN or infinity at its ceiling."""
    across = axes.get_xaxis_transform()
    end = measured.last(table)
    zero = [i for i, site in enumerate(table.index) if end[site] == 0]
    if zero:
        axes.plot(
            zero,
            [0.02] * len(zero),
            "v",
            markersize=4.5,
            color=style.BAD,
            transform=across,
            clip_on=False,
            label="exactly 0",
        )
    broken = measured.matrix(trace, kind, "nonfinite").sum(axis=1)
    bad = [i for i, site in enumerate(table.index) if broken.get(site, 0) > 0]
    if bad:
        axes.plot(bad, [0.98] * len(bad), "x", **style.CROSS, transform=across, label="NaN or infinite")


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    own = axes.get_legend()
    if own is not None:
        own.remove()
    if len(handles) > 1:
        # Five short words fit one row; more are spread evenly over two.
        one_row = len(handles) <= 4 or (len(handles) == 5 and sum(map(len, labels)) <= 32)
        columns = len(handles) if one_row else math.ceil(len(handles) / 2)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=columns, columnspacing=1.2)


def _drawable(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _activation_caption(table: pd.DataFrame) -> str:
    end = measured.last(table).dropna()
    low, high = str(end.idxmin()), str(end.idxmax())
    band = f"; the band spans all {table.shape[1]} steps" if table.shape[1] > 1 else ""
    return (
        f"Rms of every output {measured.when(table)}: from {number(end[low])} at {_name(low)} "
        f"to {number(end[high])} at {_name(high)}{band}."
    )


def _gradient_caption(table: pd.DataFrame) -> str:
    end = measured.last(table).dropna()
    head, tail = str(end.index[0]), str(end.index[-1])
    low, high = float(end.iloc[0]), float(end.iloc[-1])
    band = f" The band spans all {table.shape[1]} steps." if table.shape[1] > 1 else ""
    text = (
        f"{_sentence(measured.when(table))} the gradient of the loss has rms {number(high)} at {_name(tail)}, "
        f"nearest the loss, and {number(low)} at {_name(head)}, nearest the input"
    )
    if low > 0 and high > 0:
        text += f": a ratio of {number(low / high, 2)}"
    return f"{text}.{band}{_joined(table)}"


def _joined(table: pd.DataFrame) -> str:
    """In blocks, what the lines are, and which of them lies lowest."""
    sites = [str(site) for site in table.index]
    if not in_blocks(sites):
        return ""
    medians = measured.last(table).groupby(measured.kinds(sites)).median().dropna()
    lowest = ".".join(str(medians.idxmin()).split(".")[-2:])
    return (
        f" Lines join the same site of successive blocks; the lowest is {plain(lowest)}, at {number(medians.min(), 2)}."
    )


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _name(site: object) -> str:
    return elide(plain(site), 40)
