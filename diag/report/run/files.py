"""A report's files: the page, Markdown with its figures, every table as CSV and parquet, JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.atomic import write_bytes, write_text
from diag.report.run import markdown
from diag.report.run.cells import missing
from diag.report.run.document import Document
from diag.suite.record import encoded, packed

if TYPE_CHECKING:
    import pandas as pd


def write_report(document: Document, folder: Path) -> Path:
    """Write every form of a report into a folder; returns the page's path.

    `report.html`, `report.md`, `figures/*.svg`, `tables/*.csv` and `tables/*.parquet`. Figures and tables of an earlier
    report that this one does not have are removed. Raises: WriteError if the folder cannot be written.
    """
    from diag.report.run import page

    write_markdown(document, folder)
    earlier = _named(folder / "report.html", r'id="table-([a-z0-9-]+)"')
    for table in document.tables:
        for suffix, data in (
            ("csv", table.frame.to_csv(index=False).encode()),
            ("parquet", packed(plain_types(table.frame))),
        ):
            write_bytes(folder / "tables" / f"{table.name}.{suffix}", data)
    for name in earlier - {one.name for one in document.tables}:
        for suffix in ("csv", "parquet"):
            (folder / "tables" / f"{name}.{suffix}").unlink(missing_ok=True)
    return page.write_page(document, folder / "report.html")


def write_markdown(document: Document, folder: Path) -> Path:
    """Write `report.md` and `figures/*.svg` into a folder; returns the path of the former.

    Raises: WriteError if the folder cannot be written.
    """
    earlier = _named(folder / "report.md", r"\]\(figures/([a-z0-9-]+)\.svg\)")
    for one in document.pictures:
        write_text(folder / "figures" / f"{one.name}.svg", one.file)
    for name in earlier - {one.name for one in document.pictures}:
        (folder / "figures" / f"{name}.svg").unlink(missing_ok=True)
    return write_text(folder / "report.md", markdown.render(document))


def _named(report: Path, pattern: str) -> set[str]:
    """What an earlier report says that it has: the folder may hold figures and tables of the user's own, which stay."""
    try:
        return set(re.findall(pattern, report.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError):
        return set()


def to_json(document: Document) -> str:
    """The report without its pictures: question, answer, claims, tables, notes."""
    content = {
        "schema": 1,
        "suite": document.suite,
        "question": document.question,
        "answer": document.answer,
        "finished": not document.unfinished,
        "claims": [one.to_dict() for one in document.claims],
        "tables": {one.title: rows(one.frame) for one in document.tables},
        "notes": document.notes,
        "absent": document.absent,
        "command": document.command,
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as JSON-safe rows; what is not finite becomes its name, what is missing null."""
    return [{str(key): _plain(value) for key, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if missing(value):
        return None
    if getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float):
        return encoded(value)
    return value if isinstance(value, (bool, int, str)) else str(value)


def plain_types(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with columns of mixed objects and of complex numbers as text, which parquet can hold."""
    import pandas as pd

    found = frame.copy()
    for name in frame:
        if frame[name].dtype == object or frame[name].dtype.kind == "c":
            texts = [None if missing(one) else str(one) for one in frame[name]]
            found[name] = pd.Series(texts, index=frame.index, dtype="string")
    return found
