"""A suite's run for people: the verdicts in the terminal, and a Markdown report with its tables and figures."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.atomic import write_text
from diag.report.text import number
from diag.suite.claim import ClaimVerdict, Part
from diag.suite.errors import MissingTrialsError
from diag.suite.folder import RunFolder
from diag.suite.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

_STYLES = {"holds": "green", "does not hold": "red", "undecided": "yellow"}


def verdict_table(run: Run) -> Table:
    """One row per claim: verdict, statement, what was measured, source."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("verdict", "claim", "measured (95 % interval, seeds)", "source", title=run.suite.name)
    for one in run.verdicts:
        style = _STYLES[one.verdict]
        table.add_row(f"[{style}]{one.verdict}[/]", escape(one.statement), escape(measured(one)), escape(one.source))
    return table


def measured(verdict: ClaimVerdict) -> str:
    """What was measured of a claim, and the range in which it would be true, in one line."""
    if not verdict.parts:
        return verdict.why
    unit = f" {verdict.unit}" if verdict.unit else ""
    return f"{'; '.join(_part(part) for part in verdict.parts)}{unit} (true {_range(verdict)})"


def _part(part: Part) -> str:
    label = f"{part.name}: " if part.name else ""
    why = f" ({part.why})" if part.why else ""
    if part.seeds == 0:
        return f"{label}{number(part.estimate)}{why}"
    ends = f"[{number(part.low)}, {number(part.high)}]"
    return f"{label}{number(part.estimate)} {ends}, n={part.seeds}{why}"


def _range(verdict: ClaimVerdict) -> str:
    parts = [f"> {number(verdict.above)}"] if verdict.above is not None else []
    return " and ".join(parts + ([f"< {number(verdict.below)}"] if verdict.below is not None else []))


def write_report(run: Run) -> Path:
    """Write `report.md`, with `figures/*.svg` beside it, into the run's folder; returns its path."""
    suite = run.suite
    header = RunFolder(run.folder).header
    lines = [f"# {suite.question}", "", _answer(run), "", "## Claims", ""]
    lines += ["| verdict | claim | measured (95 % interval over seeds) | source |", "|---|---|---|---|"]
    lines += [
        f"| **{one.verdict}** | {_cell(one.statement)} | {_cell(measured(one))} | {_cell(one.source)} |"
        for one in run.verdicts
    ]
    for title, function in suite.figures.items():
        lines += ["", *_figure(run, title, function)]
    for title, function in suite.tables.items():
        lines += ["", f"## {title}", "", *_table(run, function)]
    lines += ["", "## How it was measured", "", _how(run, header), "", "```console", _command(header), "```", ""]
    return write_text(run.folder / "report.md", "\n".join(lines))


def _answer(run: Run) -> str:
    counts = {answer: sum(one.verdict == answer for one in run.verdicts) for answer in _STYLES}
    text = f"Of {len(run.verdicts)} claims {counts['holds']} hold, {counts['does not hold']} do not, "
    text += f"{counts['undecided']} are undecided."
    if run.failures.errors:
        text += f" **Unfinished: {len(run.failures.errors)} trials failed.**"
    return text


def _figure(run: Run, title: str, function: Callable[[Any], Any]) -> list[str]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    try:
        figure = function(run.results)
    except MissingTrialsError as error:
        return [f"## {title}", "", f"Not drawn: {error}."]
    name = "".join(one if one.isalnum() else "-" for one in title.lower()).strip("-")
    path = run.folder / "figures" / f"{name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Fixed, so that the same results draw the same file.
    with matplotlib.rc_context({"svg.hashsalt": "diag"}):
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    text = (function.__doc__ or title).strip().partition("\n\n")[0].replace("\n", " ")
    return [f"## {title}", "", f"![{_cell(' '.join(text.split()))}](figures/{name}.svg)", "", " ".join(text.split())]


def _table(run: Run, function: Callable[[Any], pd.DataFrame]) -> list[str]:
    try:
        frame = function(run.results)
    except MissingTrialsError as error:
        return [f"Not shown: {error}."]
    return markdown_table(frame)


def markdown_table(frame: pd.DataFrame) -> list[str]:
    """A data frame as the lines of a Markdown table; its index is left out."""
    columns = [str(one) for one in frame.columns]
    lines = ["| " + " | ".join(map(_cell, columns)) + " |", "|" + "---|" * len(columns)]
    for row in frame.itertuples(index=False):
        cells = [number(one) if isinstance(one, float) else _cell(str(one)) for one in row]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _how(run: Run, header: dict[str, Any]) -> str:
    records = run.results.records
    environment = records[0].environment if records else {}
    where = ", ".join(f"{key} {value}" for key, value in environment.items())
    seconds = header.get("seconds", run.seconds)
    return (
        f"{len(records)} trials, {run.suite.seeds} seeds a case, {seconds:.0f} s in all; {where}. A claim holds "
        "if its whole interval (Student's t over seeds; joint by Bonferroni where it has parts) lies in the range in "
        "which it is true, does not hold if the interval lies outside, and is undecided otherwise."
    )


def _command(header: dict[str, Any]) -> str:
    settings = header["settings"]
    words = ["diag", "run", header["suite"]]
    words += ["--quick"] if settings["quick"] else []
    words += ["--seeds", str(settings["seeds"])] if settings["seeds"] else []
    for name, value in settings["set"].items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)
