"""The diagnosis in a terminal: the verdict, the findings, the sites, and what was not observed."""

from __future__ import annotations

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from diag.report.diagnosis import Diagnosis
from diag.report.site_table import SiteTable
from diag.report.sites import site_rows
from diag.report.text import plain
from diag.report.verdict import measured, theory, unobserved, verdict
from diag.rules.finding import Finding

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan", "healthy": "bold green", "unknown": "bold yellow"}
MARKS = {"error": "ERROR  ", "warning": "WARNING", "note": "NOTE   "}
INDENT = 8
WIDEST = 140
"""Lines longer than this are hard to read, however wide the terminal."""


def render(diagnosis: Diagnosis, console: Console) -> None:
    """Print the diagnosis; ornaments are ASCII where the console is no terminal or cannot show more."""
    width = min(console.width, WIDEST)
    ascii_text = console.options.ascii_only
    ascii_ornaments = ascii_text or not console.is_terminal
    parts: list[Panel | Group | Table | Text] = [
        _panel(diagnosis, width, ascii_ornaments),
        *(_finding(one) for one in diagnosis.findings),
    ]
    rows = site_rows(diagnosis)
    if rows:
        parts += [Text(), *SiteTable(rows, width, ascii_ornaments, ascii_text).parts()]
    parts += [Text(), *_coverage(diagnosis)]
    for part in parts:
        _print(console, part, width, ascii_text)


def _print(console: Console, part: Panel | Group | Table | Text, width: int, ascii_text: bool) -> None:
    """Print one part; what the console's encoding lacks is sent as an escape, since a name must not end the report."""
    options = console.options.update(width=width, highlight=False)
    if not ascii_text:
        console.print(part, width=width, highlight=False)
        return
    for line in console.render_lines(part, options, pad=False):
        text = Text.assemble(*((segment.text, segment.style or "") for segment in line))
        console.print(_ascii(text), width=width, highlight=False, no_wrap=True, overflow="ignore", crop=False)


def _ascii(text: Text) -> Text:
    if text.plain.isascii():
        return text
    return Text(text.plain.encode("ascii", "backslashreplace").decode("ascii"))


def _panel(diagnosis: Diagnosis, width: int, ascii_ornaments: bool) -> Panel:
    answer = verdict(diagnosis)
    style = STYLES[answer.status]
    line = Text.assemble((answer.text, style), "   ", (plain(diagnosis.title), "dim"))
    return Panel(line, box=box.ASCII if ascii_ornaments else box.ROUNDED, border_style=style, width=width)


def _finding(finding: Finding) -> Group:
    """Severity, rule, site and message on one line; below it the remedy, the source, and what follows from it."""
    head = Text.assemble(
        (MARKS[finding.severity], STYLES[finding.severity]),
        " ",
        (plain(finding.rule), "bold"),
        (f" at {plain(finding.site)}" if finding.site else "", "cyan"),
        f": {plain(finding.message)}",
    )
    lines: list[Text | Padding] = [head]
    if finding.remedy:
        lines.append(_indented("remedy: ", finding.remedy, "bold green"))
    if finding.source:
        lines.append(_indented("source: ", finding.source, "dim"))
    for one in finding.consequences:
        place = f"{one.rule} at {one.site}" if one.site else one.rule
        lines.append(_indented("therefore: ", f"{place}: {one.message}", "dim"))
    return Group(*lines)


def _indented(mark: str, content: str, style: str) -> Padding:
    return Padding(Text.assemble((mark, style), plain(content)), (0, 0, 0, INDENT))


def _coverage(diagnosis: Diagnosis) -> list[Text]:
    """What was observed in one line, what was not in another."""
    lines = []
    seen = measured(diagnosis.coverage)
    if seen:
        lines.append(Text.assemble(("observed: ", "bold"), seen))
    predicted = theory(diagnosis.coverage)
    if predicted:
        lines.append(Text.assemble(("theory: ", "bold"), predicted))
    missing = unobserved(diagnosis.coverage)
    if missing:
        lines.append(Text.assemble(("not observed: ", "bold yellow"), "; ".join(missing)))
    return lines
