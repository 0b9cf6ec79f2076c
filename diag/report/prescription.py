"""A prescription for people: what is wrong, what to do, what it would bring, and the lines to paste."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any, TextIO

from diag.prescribe.prescribe import Prescription
from diag.report.markdown import code, escape
from diag.report.prescription_words import COLUMNS, VERDICTS, cells, headline, method, pasting, simpler_text
from diag.report.terminal import INDENT, MARKS, STYLES
from diag.report.text import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from diag.prescribe.remedy import Remedy
    from diag.rules.finding import Finding


def show(found: Prescription, file: TextIO, title: str) -> None:
    """For a terminal: findings, the table, the winner's code, and what was not tried."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file, width=None if file.isatty() else 120)
    style = STYLES["healthy" if found.best or found.watched.clean else "error" if not found.watched.healthy else "note"]
    parts: list[RenderableType] = [Text.assemble((headline(found), style), "   ", (plain(title), "dim"))]
    parts += [line for finding in found.watched.findings for line in _finding(finding)]
    if found.trials:
        parts += [Text(), _table(found), Text(method(found), "dim")]
    if found.best is not None:
        parts += [Text(), Text(found.best.remedy.change, "bold"), *_to_paste(found.best.remedy)]
    if found.simpler is not None:
        parts += [Text(), Text(f"{simpler_text(found)} {found.simpler.remedy.change}", "bold")]
        parts += _to_paste(found.simpler.remedy)
    remarks = _remarks(found)
    parts += [Text(), *(Text(plain(f"- {one}")) for one in remarks)] if remarks else []
    for one in parts:
        console.print(one, highlight=False, soft_wrap=isinstance(one, Text) and bool(one.no_wrap))


def text(found: Prescription, title: str) -> str:
    """What a terminal shows, without color, 120 columns wide."""
    file = io.StringIO()
    show(found, file, title)
    return file.getvalue()


def _finding(finding: Finding) -> list[RenderableType]:
    """What, where and why; what to do; what follows from it."""
    from rich.padding import Padding
    from rich.text import Text

    where = f" at {plain(finding.site)}" if finding.site else ""
    head = Text.assemble(
        (MARKS[finding.severity], STYLES[finding.severity]), " ", (finding.rule, "bold"), (where, "cyan"),
        f": {plain(finding.message)}",
    )  # fmt: skip
    marked = [("what to do: ", finding.remedy)] if finding.remedy else []
    marked += [("therefore: ", f"{one.rule}: {one.message}") for one in finding.consequences]
    return [head, *(Padding(Text(f"{mark}{plain(text)}"), (0, 0, 0, INDENT)) for mark, text in marked)]


def _to_paste(remedy: Remedy) -> list[RenderableType]:
    """A remedy's code in parts, each behind what is to be done with it."""
    from rich.text import Text

    shown: list[RenderableType] = []
    for said, lines in pasting(remedy):
        shown += [Text(), Text(said, "bold"), *([Text()] if lines else [])]
        # A line that is broken by the terminal's width no longer is the code.
        whole = [Text(f"    {plain(line)}", "green", no_wrap=True) for line in lines.splitlines()]
        shown += whole
    return shown


def _table(found: Prescription) -> RenderableType:
    from rich import box
    from rich.markup import escape as mark_up
    from rich.table import Table

    table = Table(*COLUMNS, box=box.ASCII, title="what it would bring")
    for one in found.trials:
        style = STYLES[VERDICTS[one.verdict]]
        table.add_row(*(mark_up(plain(cell)) for cell in cells(one, found.seeds)[:-1]), f"[{style}]{one.verdict}[/]")
    return table


def _remarks(found: Prescription) -> list[str]:
    """What was not tried, and why."""
    lines = [f"not tried: {one.change.rstrip('.')}: {one.why}" for one in found.advice]
    lines += [f"not tried, beyond the number or the time allowed: {', '.join(found.untried)}"] if found.untried else []
    return [*lines, *found.notes]


def markdown(found: Prescription, title: str) -> str:
    """For a comment on a pull request."""
    out = [f"### diag prescribe, {escape(title)}: {escape(headline(found))}", ""]
    for one in found.watched.findings:
        where = f" at {code(one.site)}" if one.site else ""
        out += [f"- **{one.severity}: {escape(one.rule)}**{where}: {escape(one.message)} {escape(one.remedy)}"]
    if found.trials:
        out += ["", "| " + " | ".join(COLUMNS) + " |", "|---|---|---|---|---|"]
        out += ["| " + " | ".join(map(escape, cells(one, found.seeds))) + " |" for one in found.trials]
        out += ["", escape(method(found))]
    if found.best is not None:
        out += ["", escape(found.best.remedy.change), *_fenced(found.best.remedy)]
    if found.simpler is not None:
        out += ["", f"{escape(simpler_text(found))} {escape(found.simpler.remedy.change)}"]
        out += _fenced(found.simpler.remedy)
    remarks = _remarks(found)
    out += ["", *(f"- {escape(one)}" for one in remarks)] if remarks else []
    return "\n".join([*out, ""])


def _fenced(remedy: Remedy) -> list[str]:
    parts = [["", escape(said), *(["", "```python", lines, "```"] if lines else [])] for said, lines in pasting(remedy)]
    return [line for part in parts for line in part]


def page(found: Prescription, title: str, command: str) -> str:
    """One self-contained page."""
    from diag.report.run.page import fill

    values: dict[str, Any] = {"found": found, "remarks": _remarks(found), "method": method(found), "command": command}
    return fill(
        "prescribe.html.j2",
        title=f"What helps {plain(title)}",
        summary=" ".join(filter(None, (headline(found) + ("." if found.simpler else ""), simpler_text(found)))),
        columns=COLUMNS,
        cells=functools.partial(cells, seeds=found.seeds),
        status=VERDICTS,
        pasting=pasting,
        **values,
    )
