"""How a network scales, for people: a table in the terminal, Markdown, a page with pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import pandas as pd

from diag.report.run.document import Picture, Table, file_name
from diag.report.run.markdown import frame_lines, text
from diag.report.text import number, plain, plural
from diag.scaling.scale import SOURCE, Scaling
from diag.scaling.slopes import LEVEL

if TYPE_CHECKING:
    from diag.scaling.slopes import Slope

STYLES = {"level": "green", "changes": "red", "cannot tell": "yellow"}
MOST = 15
"""Sites that the terminal shows."""


def headline(found: Scaling) -> str:
    """The answer in a sentence."""
    sizes = ", ".join(map(str, found.sizes))
    if found.answer == "level":
        meant = any(one.verdict == "shrinks" for which in found.intended.values() for one in which)
        but = ", or shrink as they are meant to," if meant else ""
        return f"level: activations and gradients keep their size{but} over {found.axis} {sizes}"
    if found.answer == "cannot tell":
        if found.seeded:
            return f"cannot tell: one network of each size leaves some slopes open over {found.axis} {sizes}"
        leave = f"{plural(found.seeds, 'seed')} {'leaves' if found.seeds == 1 else 'leave'}"
        return f"cannot tell: {leave} some slopes open over {found.axis} {sizes}; give more --seeds"
    return (
        f"changes: {len(found.troubles)} of {len(found.judged)} slopes of activations and gradients are not level over"
        f" {found.axis} {sizes}"
    )


def table(slopes: list[Slope]) -> pd.DataFrame:
    """A row per slope."""
    return pd.DataFrame(
        {
            "verdict": [one.verdict for one in slopes],
            "quantity": [one.quantity for one in slopes],
            "site": [plain(one.site) for one in slopes],
            "step": [one.step for one in slopes],
            "slope": [one.slope for one in slopes],
            "95 % interval": [f"[{number(one.low)}, {number(one.high)}]" for one in slopes],
        }
    )


def show(found: Scaling, file: TextIO) -> None:
    """For a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    console = Console(file=file, width=None if file.isatty() else 120)
    console.print(f"[{STYLES[found.answer]}]{escape(headline(found))}[/]")
    for line in found.advice():
        console.print(f"- {line}", markup=False)
    rows = found.troubles or [one for one in found.judged if one.verdict == "cannot tell"]
    if rows:
        frame = table(rows[:MOST])
        shown = RichTable(*frame.columns, title=f"{min(MOST, len(rows))} of {len(rows)}")
        for row in frame.itertuples(index=False):
            shown.add_row(*(escape(number(one) if isinstance(one, float) else str(one)) for one in row))
        console.print(shown)


def method(found: Scaling) -> str:
    """How it was measured."""
    return (
        f"{len(found.sizes)} sizes with {found.seeds} seeds each, {found.steps} steps; value ~ {found.axis}^slope by "
        f"least squares on logarithms, Student's interval; level is a slope within {LEVEL:g} of 0. Activations are rms "
        "per element, gradients norms over all elements; both are judged, but for those that are meant to shrink. "
        f"Updates, relative to their weight, are shown. Source: {SOURCE}."
    )


def markdown(found: Scaling) -> str:
    """The answer, what to do, and every slope."""
    lines = [f"### diag scale: {text(headline(found))}", "", *(f"- {text(one)}" for one in found.advice()), ""]
    return "\n".join([*lines, *frame_lines(table(found.slopes)), "", method(found), ""])


def page(found: Scaling, title: str) -> str:
    """One self-contained page."""
    from diag.report.run.page import fill, styled_table

    return fill(
        "scale.html.j2",
        title=f"How {plain(title)} scales with {found.axis}",
        summary=headline(found),
        advice=found.advice(),
        pictures=_pictures(found),
        tables=[Table("slopes", "Every slope", "", table(found.slopes))],
        table=styled_table,
        method=method(found),
    )


def _pictures(found: Scaling) -> list[Picture]:
    from diag.report.figures.style import styled
    from diag.report.figures.svg import inline
    from diag.report.suite_figures import curves

    pictures = []
    last = found.table["step"].max()
    with styled():
        for quantity, step in (("activation", 0), ("activation", last), ("gradient", 0), ("update", last)):
            rows = found.table[(found.table["quantity"] == quantity) & (found.table["step"] == step)]
            if rows.empty:
                continue
            sites = list(dict.fromkeys(rows["site"]))
            few = [sites[round(i * (len(sites) - 1) / 7)] for i in range(8)] if len(sites) > 8 else sites
            figure = curves(
                rows[rows["site"].isin(few)], "size", "value", hue="site", log="xy", xlabel=found.axis, ylabel=quantity
            )
            name = f"{quantity}, step {step}"
            caption = (
                f"{quantity.capitalize()} over {found.axis} at step {step}, {len(set(few))} of {len(sites)} sites."
            )
            pictures.append(Picture(file_name(name), name, caption, inline(figure, file_name(name), caption), ""))
    return pictures
