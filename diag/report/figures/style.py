"""The one look of all figures: sizes, fonts, and colors legible on light and dark paper and to color-blind eyes.

Figures are drawn in the light colors. In the SVG each color that has a token becomes `var(--token, #light)`, so that
one picture serves light, dark and print; a file outside a page shows the light colors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SIZE = (4.5, 3.3)
"""Inches. Small on purpose: three abreast on a desk, one on a telephone at three quarters of its size."""

# token: (light, dark). Series are Okabe & Ito's colors, darkened or lightened to at least 3:1 on their paper.
TOKENS: dict[str, tuple[str, str]] = {
    "fig-ink": ("#23272e", "#e4e7eb"),
    "fig-soft": ("#59616d", "#a7afba"),
    "fig-grid": ("#e3e6ea", "#363c45"),
    "fig-step-0": ("#8fbbdd", "#3d6f9e"),
    "fig-step-1": ("#5596c9", "#5593c9"),
    "fig-step-2": ("#2870ab", "#86bdeb"),
    "fig-step-3": ("#0b3d70", "#d5eaff"),
    "fig-bad": ("#b3261e", "#ff8a80"),
    "fig-a": ("#0072b2", "#56b4e9"),
    "fig-b": ("#c04f00", "#f0904a"),
    "fig-c": ("#00795a", "#2cc295"),
    "fig-d": ("#a8467f", "#e39ac4"),
    "fig-e": ("#6b6100", "#d8c84a"),
    "fig-f": ("#4a4e57", "#b9bfc9"),
}
STEPS = [TOKENS[f"fig-step-{i}"][0] for i in range(4)]
SERIES = [TOKENS[f"fig-{letter}"][0] for letter in "abcdef"]
DASHES: list[tuple[float, ...]] = [(), (4, 1.5), (1.5, 1.2), (5, 1.5, 1.5, 1.5), (7, 2), (1, 1)]
"""Lines differ in their dashes too: color is never the only sign."""
MARKERS = ["o", "s", "^", "D", "v", "P"]
INK, SOFT, GRID, BAD = (TOKENS[f"fig-{name}"][0] for name in ("ink", "soft", "grid", "bad"))
CROSS: dict[str, Any] = {"color": BAD, "markersize": 5, "markeredgewidth": 1.4, "clip_on": False}
"""The mark of what is not finite."""

RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "diag",
    # A `$` in the name of a module is a `$`.
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.borderaxespad": 0.2,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "axes.linewidth": 0.7,
    "grid.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.bottom": True,
    "ytick.left": True,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "hatch.linewidth": 0.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """The style, for drawing and for saving; what the user has set in matplotlib comes back afterwards."""
    settings: dict[Any, Any] = {**sns.axes_style("white"), **RC}
    with matplotlib.rc_context(settings):
        yield


def blank() -> tuple[Figure, Axes]:
    """An empty figure of the house's size; it belongs to no global state."""
    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def stroke(i: int) -> dict[str, Any]:
    """Color and dashes of the i-th line of a picture."""
    dashes = DASHES[i % len(DASHES)]
    return {"color": SERIES[i % len(SERIES)], "linestyle": (0, dashes) if dashes else "-"}


def variables(dark: bool) -> str:
    """The tokens as CSS declarations."""
    return "".join(f"--{token}:{pair[dark]};" for token, pair in TOKENS.items())
