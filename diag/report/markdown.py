"""The diagnosis as Markdown, for a comment on a pull request."""

from __future__ import annotations

import math
import re

from diag.report.diagnosis import Diagnosis
from diag.report.sites import SiteRow, selected, site_rows
from diag.report.text import label, number, percent, plain, value
from diag.report.verdict import measured, theory, unobserved, verdict
from diag.rules.finding import Finding

LONGEST_TABLE = 24
"""Rows; a comment on GitHub holds 65,536 characters."""


def render(diagnosis: Diagnosis) -> str:
    """The verdict, the findings, the table of sites, and what was not observed."""
    parts = [f"## {escape(diagnosis.title)}: {verdict(diagnosis).text}"]
    parts += [_finding(finding) for finding in diagnosis.findings]
    rows = site_rows(diagnosis)
    if rows:
        parts.append(_table(rows))
    parts += _coverage(diagnosis)
    return "\n\n".join(parts) + "\n"


def escape(text: object) -> str:
    """Text in which Markdown, HTML and mentions mean nothing."""
    safe = re.sub(r"([\\`*_{}\[\]()#|~!$])", r"\\\1", plain(text))
    return safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")


def code(text: object, in_table: bool = False) -> str:
    """A code span that holds any text, backticks included; in a table, pipes too."""
    safe = plain(text).replace("|", "\\|") if in_table else plain(text)
    longest = max((len(run) for run in re.findall(r"`+", safe)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest or not safe.strip() else ""
    return f"{fence}{pad}{safe}{pad}{fence}"


def _finding(finding: Finding) -> str:
    where = f" at {code(finding.site)}" if finding.site else ""
    lines = [f"**{finding.severity}: {escape(finding.rule)}**{where}", "", escape(finding.message)]
    points = []
    if finding.evidence:
        points.append(
            "Evidence: " + ", ".join(f"{escape(label(k))} = {escape(value(v))}" for k, v in finding.evidence.items())
        )
    if finding.remedy:
        points.append(f"**Remedy: {escape(finding.remedy)}**")
    if finding.source:
        points.append(f"Source: {escape(finding.source)}")
    for one in finding.consequences:
        place = f" at {code(one.site)}" if one.site else ""
        points.append(f"Therefore: {escape(one.rule)}{place}: {escape(one.message)}")
    return "\n".join(lines + ([""] if points else []) + [f"- {point}" for point in points])


def _table(rows: list[SiteRow]) -> str:
    shown = selected(rows, LONGEST_TABLE)
    lines = [
        "| site | operation | activation rms | gradient rms | saturated | zero | dead units |",
        "|:--|:--|--:|--:|--:|--:|--:|",
    ]
    for row in shown:
        dead = (
            number(row.dead) if math.isnan(row.dead) or math.isnan(row.units) else f"{row.dead:.0f} of {row.units:.0f}"
        )
        cells = [code(row.site, in_table=True), escape(row.op), number(row.activation_rms), number(row.gradient_rms)]
        lines.append("| " + " | ".join([*cells, percent(row.saturated), percent(row.zero), dead]) + " |")
    if len(shown) < len(rows):
        lines += ["", f"{len(rows) - len(shown)} of {len(rows)} sites are left out."]
    return "\n".join(lines)


def _coverage(diagnosis: Diagnosis) -> list[str]:
    parts = []
    seen, missing = measured(diagnosis.coverage), unobserved(diagnosis.coverage)
    if seen:
        parts.append(f"Observed: {escape(seen)}.")
    predicted = theory(diagnosis.coverage)
    if predicted:
        parts.append(f"Theory: {escape(predicted)}.")
    if missing:
        parts.append("Not observed:\n" + "\n".join(f"- {escape(line)}" for line in missing))
    if diagnosis.command:
        parts.append(f"Run it again: {code(diagnosis.command)}")
    return parts
