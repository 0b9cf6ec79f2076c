"""A report as Markdown, with its figures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from diag.report.markdown import escape
from diag.report.run.cells import MOST_ROWS, Cell, left_out, shown
from diag.report.run.document import Document, Table, counted
from diag.report.run.wording import measured
from diag.report.text import plain

if TYPE_CHECKING:
    import pandas as pd

    from diag.suite.claim import ClaimVerdict


def render(document: Document, figures: str = "figures") -> str:
    """The report; figures: the folder of the pictures, as the Markdown file sees it."""
    lines = [f"# {text(document.question)}", "", text(document.answer), ""]
    if document.unfinished:
        lines += [f"> **{text(document.unfinished)}**", ""]
    lines += ["## Claims", "", text(counted(document.claims)), "", *claims_table(document.claims)]
    if document.notes:
        lines += ["", "To be read beside the verdicts:", "", *(f"- {text(note)}" for note in document.notes)]
    for picture in document.pictures:
        lines += ["", f"## {text(picture.title)}", "", f"![{text(picture.caption)}]({figures}/{picture.name}.svg)", ""]
        lines += [text(picture.caption)]
    for table in document.tables:
        lines += ["", f"## {text(table.title)}", "", *table_lines(table)]
    if document.absent:
        lines += ["", "## Left out", "", *(f"- {text(one)}" for one in document.absent)]
    if document.techniques:
        lines += ["", "## The techniques", ""]
        for one in document.techniques:
            lines += [f"### {text(one.title)}", "", *([f"$${one.latex}$$", ""] if one.latex else [])]
            lines += [text(one.text) + (f" ({text(one.source)})" if one.source else ""), ""]
    lines += [
        "",
        "## How it was measured",
        "",
        text(document.how),
        "",
        "```console",
        plain(document.command),
        "```",
        "",
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def claims_table(claims: Iterable[ClaimVerdict]) -> list[str]:
    """A row per claim."""
    head = ["| verdict | claim | measured (95 % interval over seeds) | source |", "|---|---|---|---|"]
    return head + [
        f"| **{one.verdict}** | {text(one.statement)} | {text(measured(one))} | {text(one.source)} |" for one in claims
    ]


def table_lines(table: Table) -> list[str]:
    """A table, with its caption before it."""
    return [*([text(table.caption), ""] if table.caption else []), *frame_lines(table.frame)]


def frame_lines(frame: pd.DataFrame) -> list[str]:
    """A data frame as the lines of a Markdown table; numbers to the right, what is best in bold."""
    columns, rows = shown(frame.head(MOST_ROWS))
    numeric = [bool(rows) and all(row[i].numeric or row[i].text == "-" for row in rows) for i in range(len(columns))]
    lines = ["| " + " | ".join(map(text, columns)) + " |", "|" + "".join("--:|" if one else "---|" for one in numeric)]
    lines += ["| " + " | ".join(map(_marked, row)) + " |" for row in rows]
    return [*lines, *(["", text(rest)] if (rest := left_out(frame)) else [])]


def _marked(one: Cell) -> str:
    return f"**{text(one.text)}**" if one.mark else text(one.text)


def text(value: str) -> str:
    """A user's words on one line, in a table too, in which nothing is read as HTML, as a link or as mathematics."""
    return escape(value)
