"""Curves over steps: the loss, and how large updates are beside their weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from diag.report import measured
from diag.report.figures import style, ticks
from diag.report.figures.plot import Plot
from diag.report.figures.svg import inline
from diag.report.text import elide, number, plain
from diag.trace import Trace

FEW = 5
"""Up to so many parameters get a line each; more are shown by thirds of the depth."""
_LONG_LABEL = 12
GUIDE = 1e-3
"""Updates of about a thousandth of the weight: Karpathy, CS231n notes, `Ratio of weights:updates`."""


def loss(trace: Trace, name: str) -> Plot | None:
    """The loss per step; steps whose loss is NaN or infinite are marked at the top."""
    steps = trace.steps[trace.steps["loss_known"].astype(bool)]
    values = steps["loss"].astype("float64")
    drawn = ticks.finite(values)
    if not np.isfinite(drawn).any():
        return None
    figure, axes = style.blank()
    turns = steps[steps["optimizer"] >= 0].groupby("optimizer")
    if turns.ngroups > 1:
        for place, (turn, own) in enumerate(turns):
            draw_loss(axes, own, f"steps of optimizer {turn}", style.stroke(place))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3, columnspacing=1.0)
    else:
        draw_loss(axes, steps, "", {"color": style.STEPS[2]})
    axes.set_ylabel("loss")
    ticks.whole_steps(axes)
    good = drawn[np.isfinite(drawn)]
    caption = (
        f"The loss goes from {number(good[0], 4)} to {number(good[-1], 4)} over {len(values)} steps; "
        f"its smallest value is {number(good.min(), 4)}."
    )
    broken = int((~np.isfinite(drawn)).sum())
    caption += f" {broken} steps without a finite loss are marked at the top." if broken else ""
    return Plot(name, "Loss over steps", caption, inline(figure, name, caption))


def draw_loss(axes: Axes, steps: pd.DataFrame, label: str, look: dict[str, Any]) -> None:
    """One loss curve on `axes`, in the color and dashes of `look`."""
    drawn = ticks.finite(steps["loss"])
    at = steps["step"].to_numpy()
    marker = "o" if len(at) <= 12 else None
    sns.lineplot(x=at, y=drawn, ax=axes, estimator=None, marker=marker, markeredgewidth=0, label=label or None, **look)
    bad = at[~np.isfinite(drawn)]
    if len(bad):
        axes.plot(bad, [0.98] * len(bad), "x", **style.CROSS, transform=axes.get_xaxis_transform())


def updates(trace: Trace, name: str) -> Plot | None:
    """Update ratio (norm of the update over norm of the weight) per parameter over steps, with a guide at 1e-3."""
    table = update_ratios(trace)
    if not (table > 0).any(axis=None):
        return None
    figure, axes = style.blank()
    names = list(table.index)
    if len(names) <= FEW:
        groups = {elide(plain(site), 18): table.loc[[site]] for site in names}
    else:
        cut = np.array_split(np.arange(len(names)), 3)
        groups = {
            label: table.iloc[rows] for label, rows in zip(("first third", "middle", "last third"), cut, strict=True)
        }
    for i, (label, rows) in enumerate(groups.items()):
        _ratio_line(axes, rows, label, i)
    axes.axhline(GUIDE, color=style.SOFT, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1, label="guide 10⁻³")
    drawn = [rows.quantile(share).to_numpy() for rows in groups.values() for share in (0.25, 0.75)]
    ticks.log_scale(axes, [*np.concatenate(drawn), GUIDE])
    axes.set_ylabel("update norm / weight norm (log)")
    ticks.whole_steps(axes)
    # A legend that is wider than the picture would squeeze the axes.
    columns = 2 if max(map(len, groups)) > _LONG_LABEL else 3 if len(groups) != 3 else 4
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=columns, columnspacing=1.0)
    caption = _update_caption(table, len(names) > FEW)
    return Plot(name, "Update ratio over steps", caption, inline(figure, name, caption))


def update_ratios(trace: Trace) -> pd.DataFrame:
    """Update ratio per weight and step, in forward order; of biases, which start at zero, only without a weight."""
    ratios = trace.parameters
    if ratios.empty or "update_ratio" not in ratios:
        return pd.DataFrame()
    table = ratios.assign(site=ratios["site"].astype(str)).pivot_table(
        index="site", columns="step", values="update_ratio", aggfunc="last"
    )
    order = measured.matrix(trace, "weight", "rms").index
    table = table.reindex([site for site in order if site in table.index])
    table = table.where(np.isfinite(table))
    ops = {str(site): str(op) for site, op in zip(trace.sites["site"], trace.sites["op"], strict=True)}
    weights = [site for site in table.index if ops.get(site, "weight") != "bias"]
    return table.loc[weights] if weights else table


def _ratio_line(axes: Axes, rows: pd.DataFrame, label: str, i: int) -> None:
    """The median over the parameters of a group, with the range between their quartiles."""
    positive = rows.where(rows > 0)
    long = positive.T.rename_axis(index="step").reset_index().melt("step", value_name="ratio").dropna(subset=["ratio"])
    if long.empty:
        return
    look = {"marker": "o" if rows.shape[1] == 1 else None, "markeredgewidth": 0, **style.stroke(i)}
    spread = {"errorbar": ("pi", 50) if len(rows) > 1 else None, "err_kws": {"alpha": 0.18, "linewidth": 0}}
    sns.lineplot(long, x="step", y="ratio", ax=axes, label=label, estimator="median", **spread, **look)


def _update_caption(table: pd.DataFrame, grouped: bool) -> str:
    end = measured.last(table).dropna()
    low, high = (elide(plain(site), 40) for site in (end.idxmin(), end.idxmax()))
    text = (
        f"The median update {measured.when(table)} is {number(end.median(), 2)} of its weight over {len(end)} "
        f"parameters; smallest {number(end.min(), 2)} at {low}, largest {number(end.max(), 2)} at {high}."
    )
    return text + (" Lines: medians by third of the depth; bands: quartiles." if grouped else "")
