"""A gate's verdict in every format: terminal, JSON, Markdown, GitHub, JUnit, SARIF, GitLab."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from diag.gate.gate import Verdict
from diag.gate.judge import Check
from diag.report.gate.wording import headline, lines, sentence, where
from diag.report.github import attribute, data
from diag.report.gitlab import issue
from diag.report.junit import legal
from diag.report.markdown import escape
from diag.report.sarif import SCHEMA, fingerprint, version
from diag.report.text import number, plain

if TYPE_CHECKING:
    from rich.table import Table

STYLES = {"pass": "green", "improvement": "cyan", "regression": "red", "cannot tell": "yellow"}
MOST = 20
"""Rows that a terminal or a comment shows."""


def render(verdict: Verdict, format: str) -> str:
    """The verdict as text in one of the formats."""
    if format == "text":
        import io

        file = io.StringIO()
        show(verdict, file)
        return file.getvalue()
    makers = {
        "json": to_json, "markdown": markdown, "github": github, "junit": junit, "sarif": sarif, "gitlab": gitlab,
    }  # fmt: skip
    return makers[format](verdict)


def show(verdict: Verdict, file: TextIO) -> None:
    """For a terminal: the means over all cases, then what failed."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(file=file, width=None if file.isatty() else 120)
    console.print(f"[{STYLES[verdict.answer]}]{escape(headline(verdict))}[/]")
    for one in lines(verdict)[:MOST]:
        console.print(f"- {one}", markup=False)
    rest = len(lines(verdict)) - MOST
    if rest > 0:
        console.print(f"- and {rest} more: --format json has them all", markup=False)
    console.print(_table(verdict.pooled or verdict.checks))


def _table(checks: list[Check]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("verdict", "metric", "where", "baseline", "now", "worse by (90 % interval)", "margin")
    for one in checks[:MOST]:
        interval = f"{number(one.harm)} [{number(one.low)}, {number(one.high)}]"
        cells = [one.metric, plain(where(one)), number(one.baseline), number(one.new), interval, number(one.margin)]
        table.add_row(f"[{STYLES[one.answer]}]{one.answer}[/]", *map(escape, cells))
    return table


def to_json(verdict: Verdict) -> str:
    """Everything."""
    return json.dumps(verdict.to_dict(), indent=2, allow_nan=False) + "\n"


def markdown(verdict: Verdict) -> str:
    """For a comment on a pull request."""
    out = [f"### diag gate, {escape(verdict.suite)}: {escape(headline(verdict))}", ""]
    out += [f"- {escape(one)}" for one in lines(verdict)[:MOST]]
    rest = len(lines(verdict)) - MOST
    out += [f"- and {rest} more"] if rest > 0 else []
    out += ["", "| verdict | metric | where | baseline | now | worse by (90 % interval) | margin |"]
    out += ["|---|---|---|--:|--:|--:|--:|"]
    for one in (verdict.pooled or verdict.checks)[:MOST]:
        interval = f"{number(one.harm)} [{number(one.low)}, {number(one.high)}]"
        cells = [one.metric, where(one), number(one.baseline), number(one.new), interval, number(one.margin)]
        out.append(f"| **{one.answer}** | " + " | ".join(map(escape, cells)) + " |")
    return "\n".join([*out, ""])


def github(verdict: Verdict) -> str:
    """Workflow commands: an error per regression, or one notice or warning."""
    out = [
        f"::error title={attribute(f'diag gate: {plain(where(one))}')}::{data(sentence(one))}"
        for one in verdict.regressions
    ]
    out += [f"::error title=diag gate: a claim no longer holds::{data(plain(one))}" for one in verdict.claims]
    if not out:
        kind = "warning" if verdict.answer == "cannot tell" else "notice"
        told = [f"{verdict.suite}: {headline(verdict)}", *(lines(verdict)[:MOST] if verdict.undecided else [])]
        out = [f"::{kind} title=diag gate::{data(chr(10).join(map(plain, told)))}"]
    return "\n".join([*out, ""])


def junit(verdict: Verdict) -> str:
    """JUnit XML: a test case per comparison and per broken claim; one that cannot be told is skipped."""
    checks = [*verdict.pooled, *verdict.checks]
    failures = len(verdict.regressions) + len(verdict.claims)
    skipped = sum(one.answer == "cannot tell" for one in checks)
    counts = {
        "tests": str(len(checks) + len(verdict.claims)), "failures": str(failures), "errors": "0",
        "skipped": str(skipped),
    }  # fmt: skip
    root = ET.Element("testsuites", {"name": "diag gate", **counts})
    del root.attrib["skipped"]
    suite = ET.SubElement(root, "testsuite", {"name": legal(verdict.suite), **counts})
    for one in checks:
        case = ET.SubElement(suite, "testcase", {"classname": legal(where(one)), "name": one.metric})
        if one.answer == "regression":
            ET.SubElement(case, "failure", {"type": "regression", "message": legal(sentence(one))})
        elif one.answer == "cannot tell":
            ET.SubElement(case, "skipped", {"message": legal(sentence(one))})
    for statement in verdict.claims:
        case = ET.SubElement(suite, "testcase", {"classname": "claims", "name": legal(statement)})
        ET.SubElement(case, "failure", {"type": "claim", "message": "it held in the baseline and does not hold now"})
    ET.SubElement(suite, "system-out").text = legal("\n".join([headline(verdict), *verdict.remarks]))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def sarif(verdict: Verdict) -> str:
    """SARIF 2.1.0: a result per regression; its place is the baseline's file, which a reviewer can open."""
    failed = verdict.regressions
    rules = list(dict.fromkeys([*(one.metric for one in failed), *(["claim"] if verdict.claims else [])]))
    results = [_result(f"gate/{one.metric}", f"{where(one)}: {sentence(one)}", where(one), verdict) for one in failed]
    results += [_result("gate/claim", f"claim no longer holds: {one}", one, verdict) for one in verdict.claims]
    driver: dict[str, Any] = {
        "name": "diag gate",
        "rules": [
            {"id": f"gate/{name}", "shortDescription": {"text": f"{name.replace('_', ' ')} regressed"}}
            for name in rules
        ],
    }
    if version():
        driver["version"] = version()
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": results,
        "properties": {"answer": verdict.answer, "suite": plain(verdict.suite)},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False) + "\n"


def _result(rule: str, message: str, place: str, verdict: Verdict) -> dict[str, Any]:
    from urllib.parse import quote

    path = Path(verdict.baseline)
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix(), errors="replace")
    return {
        "ruleId": rule,
        "level": "error",
        "message": {"text": plain(message)},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}},
                "logicalLocations": [{"fullyQualifiedName": plain(place)}],
            }
        ],
        "partialFingerprints": {"ruleAndPlace/v1": fingerprint(rule, place)},
    }


def gitlab(verdict: Verdict) -> str:
    """GitLab's code quality JSON."""
    issues = [
        issue(f"gate/{one.metric}", f"{where(one)}: {sentence(one)}", where(one), "error", verdict.baseline)
        for one in verdict.regressions
    ]
    issues += [
        issue("gate/claim", f"claim no longer holds: {one}", one, "error", verdict.baseline) for one in verdict.claims
    ]
    return json.dumps(issues, indent=2) + "\n"
