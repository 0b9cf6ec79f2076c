"""A run's report as one self-contained HTML page: no network, one small script that sorts tables."""

from __future__ import annotations

import base64
import datetime
import hashlib
import importlib.resources
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag import atomic
from diag.report.run import strip
from diag.report.run.cells import MOST_ROWS, left_out, shown
from diag.report.run.document import Document, Table, counted
from diag.report.run.wording import part_text, true_range
from diag.report.text import MISSING, number, plain

if TYPE_CHECKING:
    from jinja2 import Environment

STATUS = {"holds": "healthy", "does not hold": "error", "undecided": "warning"}
"""Verdicts in the colors of findings."""


def write_page(document: Document, path: Path) -> Path:
    """Write the page, whole or not at all, and return its path. Raises: WriteError if it cannot be written."""
    return atomic.write_text(path, render(document))


def render(document: Document) -> str:
    """The page as text."""
    return fill(
        "run.html.j2",
        document=document,
        title=plain(document.question),
        counted=counted(document.claims),
        status=STATUS,
        strip=strip.draw,
        part=part_text,
        true_range=true_range,
        table=styled_table,
    )


def fill(template: str, **values: Any) -> str:
    """A template of diag's, with the style and the script that all reports of runs share."""
    from diag.report.figures import style

    folder = importlib.resources.files("diag.report") / "templates"
    css = (folder / "page.css").read_text(encoding="utf-8") + (folder / "run.css").read_text(encoding="utf-8")
    script = (folder / "sort.js").read_text(encoding="utf-8")
    return (
        _environment()
        .from_string((folder / template).read_text(encoding="utf-8"))
        .render(
            css=css.replace("/*light*/", style.variables(dark=False)).replace("/*dark*/", style.variables(dark=True)),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            **values,
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(plain=plain, number=number)
    return environment


def styled_table(table: Table) -> str:
    """A table as HTML by pandas' Styler; its cells carry the classes `num`, `best` and `tied`."""
    import pandas as pd

    columns, rows = shown(table.frame.head(MOST_ROWS))
    # By number, since pandas styles no columns of the same name.
    text = pd.DataFrame([[one.text for one in row] for row in rows], columns=range(len(columns)), dtype="str")
    classes = [[f"{'num' if one.numeric else ''} {one.mark}".strip() for one in row] for row in rows]
    style = text.style.hide(axis="index").format(escape="html")
    headings: dict[Any, str] = dict(enumerate(map(escape, columns)))
    style = style.format_index(headings.__getitem__, axis=1)
    if rows:
        style = style.set_td_classes(pd.DataFrame(classes, columns=text.columns, dtype="str"))
    style = style.set_table_attributes('class="sortable"')
    html: str = style.to_html(table_uuid=table.name, cell_ids=False)
    # Styler's own style block is empty: the page's style knows the classes.
    html = html[html.index("<table") :].replace("<th ", '<th scope="col" ')
    for i in range(len(columns)):
        if rows and all(row[i].numeric or row[i].text == MISSING for row in rows):
            html = html.replace(f'class="col_heading level0 col{i}"', f'class="col_heading level0 col{i} num"')
    return html + (f"<p>{rest}</p>" if (rest := left_out(table.frame)) else "")
