"""Two runs side by side, for the terminal, as Markdown, as JSON and as a page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pandas as pd

from diag.report.run.document import Table
from diag.report.run.files import rows
from diag.report.run.markdown import frame_lines, text
from diag.report.run.wording import joined
from diag.report.text import number, plain, plural
from diag.suite.comparison import Comparison, Side

if TYPE_CHECKING:
    from rich.table import Table as RichTable


def summary(comparison: Comparison) -> str:
    """What differs, in a few sentences."""
    table, told = comparison.table, comparison.differing
    cases, metrics = table["case"].nunique(), table["metric"].nunique()
    if comparison.identical:
        what = "every measurement is the same in both."
    elif told.empty:
        what = "the seeds tell no measurement apart."
    else:
        what = (
            f"{len(told)} of {plural(len(table), 'measurement')} {'differs' if len(told) == 1 else 'differ'} by more "
            f"than chance explains, in {plural(told['case'].nunique(), 'case')}."
        )
    parts = [f"{plural(cases, 'shared case')}, {plural(metrics, 'metric')}: {what}"]
    if count := len(comparison.changed):
        parts.append(f"{plural(count, 'case')} {'has another recipe' if count == 1 else 'have other recipes'}.")
    for which, names in comparison.alone.items():
        if names:
            parts.append(f"{plural(len(names), 'case')} only in the {which}.")
    if count := len(comparison.verdicts):
        parts.append(f"{plural(count, 'claim')} changed {'its' if count == 1 else 'their'} verdict.")
    return " ".join(parts)


def environment_change(comparison: Comparison) -> list[str]:
    """What differs between where the two were measured."""
    one, other = (_environment(side) for side in (comparison.first, comparison.second))
    return [f"{key}: {one.get(key)} -> {other.get(key)}" for key in {**one, **other} if one.get(key) != other.get(key)]


def _environment(side: Side) -> dict[str, str]:
    """Where its trials ran; several values of one key, as of a run that was resumed elsewhere, joined."""
    several: dict[str, set[str]] = {}
    for record in side.records:
        for key, value in record.environment.items():
            several.setdefault(key, set()).add(str(value))
    return {key: joined(sorted(values)) for key, values in several.items()}


def remarks(comparison: Comparison) -> list[str]:
    """All that is not a number: recipes, environments, verdicts, cases of one side."""
    lines = [f"Measured elsewhere: {joined(found)}." for found in [environment_change(comparison)] if found]
    lines += [f"The recipe of '{case}' differs: {joined(what)}." for case, what in comparison.changed.items()]
    lines += [f"Claim '{what}': {one} -> {other}." for what, one, other in comparison.verdicts]
    lines += [
        f"Only in the {which}: {joined(names[:12])}{', ...' if len(names) > 12 else ''}."
        for which, names in comparison.alone.items()
        if names
    ]
    return lines


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that people read, the interval as one text."""
    interval = [f"[{number(low)}, {number(high)}]" for low, high in zip(frame["low"], frame["high"], strict=True)]
    pairs = ["unpaired" if one == 0 else str(one) for one in frame["pairs"]]
    return pd.DataFrame(
        {
            "case": frame["case"],
            "metric": frame["metric"],
            "first": frame["first"],
            "second": frame["second"],
            "second - first": frame["difference"],
            "95 % interval": interval,
            "p (Holm)": frame["p"],
            "pairs": pairs,
        }
    )


def named(side: Side) -> str:
    """A run in one line."""
    commit = f", commit {side.header['commit']}" if side.header.get("commit") else ""
    return f"{side.path} ({side.header['suite']}, {plural(len(side.records), 'trial')}{commit})"


def terminal(comparison: Comparison, most: int = 20) -> RichTable:
    """The rows that are told apart, at most so many."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    told = comparison.differing
    frame = shown(told.head(most))
    title = "told apart" if len(told) <= most else f"told apart: {most} of {len(told)}"
    table = RichTable(*frame.columns, title=title)
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*(escape(plain(number(one) if isinstance(one, float) else one)) for one in row))
    return table


def markdown(comparison: Comparison) -> str:
    """The comparison: the summary, the rows that are told apart, then all."""
    lines = ["# Two runs side by side", "", text(summary(comparison)), ""]
    lines += [f"- first: {text(named(comparison.first))}", f"- second: {text(named(comparison.second))}"]
    lines += [f"- {text(one)}" for one in remarks(comparison)]
    told = comparison.differing
    if len(told):
        lines += ["", "## Told apart", "", *frame_lines(shown(told))]
    lines += ["", "## All", "", *frame_lines(shown(comparison.table)), "", METHOD, ""]
    return "\n".join(lines)


METHOD = (
    "Paired by seed where a case has the same seeds in both runs (Student's t on the differences), else by Welch's t; "
    "told apart at 5 % after Holm's correction over all rows. Trials of the same seed and code are equal bit for bit, "
    "so any difference between such runs is the code's."
)


def to_json(comparison: Comparison) -> str:
    """The comparison for machines."""
    content = {
        "schema": 1,
        "first": str(comparison.first.path),
        "second": str(comparison.second.path),
        "summary": summary(comparison),
        "rows": rows(comparison.table),
        "changed": comparison.changed,
        "alone": comparison.alone,
        "verdicts": [{"statement": what, "first": one, "second": other} for what, one, other in comparison.verdicts],
        "environment": environment_change(comparison),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def page(comparison: Comparison) -> str:
    """The comparison as one self-contained page."""
    from diag.report.run.page import fill, styled_table

    told = comparison.differing
    tables = [Table("told-apart", "Told apart", "", shown(told))] if len(told) else []
    tables.append(Table("all", "All measurements", "", shown(comparison.table)))
    return fill(
        "compare.html.j2",
        title="Two runs side by side",
        summary=summary(comparison),
        sides=[named(comparison.first), named(comparison.second)],
        remarks=remarks(comparison),
        tables=tables,
        table=styled_table,
        method=METHOD,
    )
