"""The diagnosis as workflow commands of GitHub Actions: annotations on the run and, where a line is known, the diff."""

from __future__ import annotations

import os
from pathlib import Path

from diag.atomic import WriteError
from diag.report.diagnosis import Diagnosis
from diag.report.text import plain
from diag.report.verdict import unobserved, verdict
from diag.rules.finding import Finding

COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}
SUMMARY = "GITHUB_STEP_SUMMARY"
"""The environment variable by which GitHub Actions names the file of a step's summary."""


def render(diagnosis: Diagnosis) -> str:
    """One command per finding; without any, one notice that carries the verdict."""
    lines = [_command(finding) for finding in diagnosis.findings]
    if not lines:
        answer = verdict(diagnosis)
        kind = "notice" if answer.status == "healthy" else "warning"
        missing = "".join(f"\nnot observed: {line}" for line in unobserved(diagnosis.coverage))
        lines = [f"::{kind} title=diag::{data(f'{plain(diagnosis.title)}: {answer.text}{missing}')}"]
    return "\n".join(lines) + "\n"


def append_summary(markdown: str) -> None:
    """Add Markdown to the step's summary; nothing where there is none.

    Raises: WriteError if the file cannot be written.
    """
    file = os.environ.get(SUMMARY)
    if not file:
        return
    try:
        with Path(file).open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(markdown.rstrip("\n") + "\n\n")
    except (OSError, ValueError) as error:
        raise WriteError(f"cannot write {SUMMARY}={file}: {getattr(error, 'strerror', None) or error}") from None


def data(text: str) -> str:
    """Escaped as the message of a command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def attribute(text: str) -> str:
    """Escaped as the value of a command's property."""
    return data(text).replace(":", "%3A").replace(",", "%2C")


def _command(finding: Finding) -> str:
    place = f" at {plain(finding.site)}" if finding.site else ""
    properties = {"title": f"{finding.rule}{place}"}
    if finding.evidence.get("file"):
        properties["file"] = plain(finding.evidence["file"])
        if isinstance(finding.evidence.get("line"), int):
            properties["line"] = str(finding.evidence["line"])
    listed = ",".join(f"{name}={attribute(text)}" for name, text in properties.items())
    lines = [finding.message]
    lines += [f"remedy: {finding.remedy}"] if finding.remedy else []
    lines += [f"therefore: {one.rule} at {one.site}: {one.message}" for one in finding.consequences]
    return f"::{COMMANDS[finding.severity]} {listed}::{data(chr(10).join(plain(line) for line in lines))}"
