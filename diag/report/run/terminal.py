"""A run's verdicts in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diag.report.run.wording import STYLES, measured
from diag.report.text import plain

if TYPE_CHECKING:
    from rich.table import Table

    from diag.suite.run import Run


def verdict_table(run: Run) -> Table:
    """One row per claim: verdict, statement, what was measured, source."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("verdict", "claim", "measured (95 % interval, seeds)", "source", title=run.suite.name)
    for one in run.verdicts:
        style = STYLES[one.verdict]
        cells = (escape(plain(text)) for text in (one.statement, measured(one), one.source))
        table.add_row(f"[{style}]{one.verdict}[/]", *cells)
    return table
