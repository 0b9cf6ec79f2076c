"""`diag list`: what can be named in a recipe, and which suites there are."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from diag.errors import DiagError, nearest

KINDS = (
    "suites data networks inits activations norms optimizers schedules clipping regularizers starts predictions".split()
)


class ListFormat(StrEnum):
    """How the list is written."""

    text = "text"
    json = "json"


def list_(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help=f"One of: {', '.join(KINDS)}.", show_default="all")
    ] = None,
    format: Annotated[ListFormat, typer.Option("--format", help="Format of the list.")] = ListFormat.text,
) -> None:
    """Name what there is, with one line each."""
    if kind is not None and kind not in KINDS:
        raise DiagError(f"no kind '{kind}'{nearest(kind, KINDS)}; there are {', '.join(KINDS)}")
    content = {one: _entries(one) for one in ([kind] if kind else KINDS)}
    if format is ListFormat.json:
        typer.echo(json.dumps(content, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140)
    for name, entries in content.items():
        table = Table("name", "what", "options", title=name, title_justify="left", box=None, pad_edge=False)
        for entry in entries:
            options = ", ".join(f"{key}={value!r}" for key, value in entry.get("options", {}).items())
            table.add_row(entry["name"], entry["summary"], options)
        console.print(table, markup=False, highlight=False)
        console.print()


def _entries(kind: str) -> list[dict[str, Any]]:
    if kind == "suites":
        from diag.suite.load import suite_files, summary_of

        return [{"name": name, "summary": summary_of(path)} for name, path in suite_files().items()]
    from diag.recipes.kinds import KINDS as registries

    return [
        {"name": one.name, "summary": one.summary, "options": one.options, "source": one.source}
        for one in registries[kind].entries()
    ]
