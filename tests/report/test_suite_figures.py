"""Pictures of suites: legible, honest about what is infinite or missing, and the same in light and dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from diag.report import suite_figures as draw
from diag.report.figures import style, svg
from diag.suite.errors import MissingTrialsError

HARD = [0.1, math.inf, math.nan, 3.0, -math.inf, 2.0]


def table(values: list[float], rows: int = 2) -> pd.DataFrame:
    """Values by case, step and rate, filled in turn."""
    return pd.DataFrame(
        {
            "case": [f"case {i % rows}" for i in range(len(values))],
            "step": [i // rows for i in range(len(values))],
            "value": values,
        }
    )


def texts(figure: Figure) -> list[str]:
    """What is written in it, by the SVG."""
    with style.styled():
        text = svg.inline(figure, "figure", "a caption")
    return re.findall(r"<text[^>]*>([^<]*)</text>", text)


KINDS: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "curves": lambda rows: draw.curves(rows, "step", "value"),
    "log curves": lambda rows: draw.curves(rows, "step", "value", log="y"),
    "panels": lambda rows: draw.panels(rows, "step", "value", panel="case"),
    "heat map": lambda rows: draw.heat_map(rows, "case", "step", "value"),
    "large heat map": lambda rows: draw.heat_map(rows, "case", "step", "value", numbers=False),
    "bars": lambda rows: draw.bars(rows, "case", "value"),
    "bars by step": lambda rows: draw.bars(rows, "case", "value", hue="step"),
    "histograms": lambda rows: draw.histograms(rows, "value", hue="case"),
}


@pytest.mark.parametrize("values", [HARD, [0.5], [0.0] * 4, [1e-30, 1e30, 1.0, 1.0]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_what_can_be_measured(kind: str, values: list[float]) -> None:
    with style.styled():
        figure = KINDS[kind](table(values))
        text = svg.inline(figure, "figure", "a caption")
    assert 'role="img" aria-label="a caption"' in text
    assert not re.search(r'(?:points|d|x|y)="[^"]*\b(?:nan|inf)', text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_nothing_waits_for_trials(kind: str) -> None:
    with style.styled(), pytest.raises(MissingTrialsError, match="no trial has measured value yet"):
        KINDS[kind](table([math.nan] * 4))


def test_every_number_on_a_map_is_legible(luminance: Callable[[str], float]) -> None:
    values = list(np.linspace(0, 1, 60))
    rows = pd.DataFrame({"row": [i // 10 for i in range(60)], "column": [i % 10 for i in range(60)], "value": values})
    with style.styled():
        axis = draw.heat_map(rows, "row", "column", "value").axes[0]
        axis.figure.canvas.draw()
    assert [text.get_text() for text in axis.texts] == [f"{one:.2f}" for one in values]
    cells = axis.collections[0].get_facecolors()
    ratios = []
    for text, cell in zip(axis.texts, cells, strict=True):
        low, high = sorted((luminance(to_hex(text.get_color())), luminance(to_hex(cell))))
        ratios.append((high + 0.05) / (low + 0.05))
    assert min(ratios) >= 4.5
    # So many colors that one in the middle is among them, where neither black nor white is far.
    assert min(ratios) < 5.5


def test_what_is_infinite_is_written_and_what_is_missing_is_not() -> None:
    with style.styled():
        figure = draw.heat_map(table(HARD), "case", "step", "value")
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(numbers) == sorted(["0.10", "inf", "3.00", "-inf", "2.00"])
    with style.styled():
        figure = draw.heat_map(table([2.59e26, 4.0, 5.0, 6.0]), "case", "step", "value")
    assert figure.axes[0].texts[0].get_text() == "2.6e+26"


@pytest.mark.parametrize(("numbers", "images"), [(True, 0), (False, 2)])
def test_a_map_and_its_bar_turn_together_when_the_page_is_dark(numbers: bool, images: int) -> None:
    """The page inverts every `<image>`: were the bar one and the map none, it would read backwards."""
    with style.styled():
        figure = draw.heat_map(table([1.0, 2.0, 3.0, 4.0]), "case", "step", "value", numbers=numbers)
        text = svg.inline(figure, "figure", "a caption")
    assert text.count("<image") == images


def test_a_map_of_many_rows_is_no_taller_than_a_page() -> None:
    rows = pd.DataFrame({"layer": np.repeat(np.arange(200), 30), "step": np.tile(np.arange(30), 200), "value": 0.5})
    with style.styled():
        figure = draw.heat_map(rows, "layer", "step", "value", numbers=False)
        figure.canvas.draw()
    assert figure.get_figheight() == draw.TALLEST
    named = [one for one in figure.axes[0].get_yticklabels() if one.get_text()]
    assert 5 <= len(named) <= 50


def test_lines_are_means_and_their_bands_two_standard_errors() -> None:
    values = [1.0, 2.0, 6.0, 10.0, 10.0, 13.0]
    rows = pd.DataFrame({"case": "a", "step": [0, 0, 0, 1, 1, 1], "value": values})
    with style.styled():
        axis = draw.curves(rows, "step", "value").axes[0]
    assert axis.lines[0].get_ydata() == pytest.approx([3.0, 11.0])
    band = axis.collections[0].get_paths()[0].vertices
    low, high = band[band[:, 0] == 0][:, 1].min(), band[band[:, 0] == 0][:, 1].max()
    error = np.std(values[:3], ddof=1) / 3**0.5
    assert (low, high) == pytest.approx((3 - 2 * error, 3 + 2 * error))


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$x_1$", "a & b"])
def test_names_are_drawn_as_they_are(name: str) -> None:
    rows = table([1.0, 2.0, 3.0, 4.0]).replace("case 0", name)
    with style.styled():
        figure = draw.curves(rows, "step", "value")
        text = svg.inline(figure, "figure", name)
    assert "<script" not in text
    shown: Any = texts(figure)
    assert name in [one.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for one in shown]


def test_a_figure_is_the_same_file_each_time() -> None:
    with style.styled():
        first, second = (svg.standalone(draw.curves(table([1.0, 2.0, 3.0, 4.0]), "step", "value"), "x") for _ in "ab")
    assert first == second
    buffer = io.StringIO(first)
    assert buffer.readline().startswith("<?xml")
