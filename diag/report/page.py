"""One self-contained HTML page for one or several diagnoses: no script, no network, figures inside."""

from __future__ import annotations

import datetime
import importlib.resources
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from diag import atomic
from diag.report.diagnosis import Diagnosis
from diag.report.sites import SiteRow, log_share, selected, site_rows
from diag.report.text import label, number, percent, plain, value
from diag.report.verdict import Verdict, measured, theory, unobserved, verdict
from diag.trace import schema

if TYPE_CHECKING:
    from diag.report.figures import Plot

LONGEST_TABLE = 40
"""Sites; a longer table shows a selection first and folds the whole."""
GLOSSARY = ("rms", "saturated_fraction", "zero_fraction", "dead_units", "nonfinite")


@dataclass(frozen=True)
class Section:
    """What the page shows of one diagnosis."""

    anchor: str
    title: str
    verdict: Verdict
    diagnosis: Diagnosis
    plots: list[Plot]
    rows: list[SiteRow]
    few: list[SiteRow]
    observed: str
    theory: str
    unobserved: list[str]
    meta: dict[str, Any]


def write_page(diagnoses: Sequence[Diagnosis], path: Path, title: str) -> Path:
    """Write the page, whole or not at all, and return its path.

    Several diagnoses open with a comparison. Raises: WriteError if the page cannot be written.
    """
    return atomic.write_text(path, render(diagnoses, title))


def render(diagnoses: Sequence[Diagnosis], title: str) -> str:
    """The page as text."""
    # The figures bring matplotlib and seaborn, which take longer to load than all else together.
    from jinja2 import Environment, StrictUndefined

    from diag.report.figures import compare, overlay, style

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        number=number, percent=percent, plain=plain, value=value, label=label, breakable=_breakable
    )
    folder = importlib.resources.files("diag.report") / "templates"
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    css = (folder / "page.css").read_text(encoding="utf-8")
    sections = [_section(diagnosis, i) for i, diagnosis in enumerate(diagnoses)]
    return template.render(
        title=plain(title),
        css=css.replace("/*light*/", style.variables(dark=False)).replace("/*dark*/", style.variables(dark=True)),
        sections=sections,
        comparison=compare(diagnoses) if len(sections) > 1 else [],
        glossary=[(column.name, column.meaning) for column in schema.FRAME if column.name in GLOSSARY],
        written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        bar=_bar,
        most=overlay.MOST,
        missing=math.isnan,
    )


def _section(diagnosis: Diagnosis, index: int) -> Section:
    from diag.report.figures import draw

    rows = site_rows(diagnosis)
    return Section(
        anchor=f"network-{index + 1}",
        title=plain(diagnosis.title),
        verdict=verdict(diagnosis),
        diagnosis=diagnosis,
        plots=draw(diagnosis, f"figure-{index + 1}"),
        rows=rows,
        few=selected(rows, LONGEST_TABLE),
        observed=measured(diagnosis.coverage),
        theory=theory(diagnosis.coverage),
        unobserved=unobserved(diagnosis.coverage, longest=40),
        meta={label(key): value(item) for key, item in diagnosis.trace.meta.items()},
    )


def _breakable(name: str) -> Markup:
    """A site's name that may break its line after a dot or colon."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[.:])", plain(name)))


def _bar(row: SiteRow, rows: list[SiteRow]) -> str:
    """How far the bar of a row's gradient reaches, in percent, on the log scale that all rows span; or empty."""
    share = log_share(row.gradient_rms, [one.gradient_rms for one in rows])
    return "" if math.isnan(share) else f"{100 * share:.1f}"
