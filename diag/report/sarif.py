"""The diagnosis as SARIF 2.1.0 (OASIS standard), for code scanning services and editors."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from diag.report.diagnosis import Diagnosis
from diag.report.text import plain
from diag.report.verdict import measured, unobserved
from diag.rules.finding import Finding

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(diagnosis: Diagnosis) -> str:
    """The log as JSON text: one run, one result per finding, consequences in its message."""
    rules = list(dict.fromkeys(finding.rule for finding in diagnosis.findings))
    driver: dict[str, Any] = {"name": "diag", "rules": [_rule(rule, diagnosis.findings) for rule in rules]}
    if version():
        driver["version"] = version()
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, rules.index(finding.rule)) for finding in diagnosis.findings],
        "properties": {"title": plain(diagnosis.title), "observed": measured(diagnosis.coverage)},
    }
    invocation: dict[str, Any] = {"executionSuccessful": True}
    if diagnosis.command:
        invocation["commandLine"] = plain(diagnosis.command)
    missing = unobserved(diagnosis.coverage)
    if missing:
        invocation["toolExecutionNotifications"] = [
            {"level": "note", "message": {"text": f"not observed: {line}"}} for line in missing
        ]
    run["invocations"] = [invocation]
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False) + "\n"


def version() -> str:
    """That of diag as it is installed; empty where it is not."""
    try:
        return importlib.metadata.version("diag")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _rule(rule: str, findings: list[Finding]) -> dict[str, Any]:
    """A reporting descriptor; its help is the remedy and the source of the rule's first finding that has them."""
    own = [finding for finding in findings if finding.rule == rule]
    remedy = next((plain(f.remedy) for f in own if f.remedy), "")
    source = next((plain(f.source) for f in own if f.source), "")
    text = " ".join(
        part for part in (f"Remedy: {remedy}." if remedy else "", f"Source: {source}." if source else "") if part
    )
    return {
        "id": rule,
        "name": "".join(word.capitalize() for word in rule.split("-")),
        "shortDescription": {"text": rule.replace("-", " ")},
        "help": {"text": text or rule.replace("-", " ")},
        "defaultConfiguration": {"level": own[0].severity},
    }


def _result(finding: Finding, index: int) -> dict[str, Any]:
    lines = [finding.message, *(f"Therefore: {one.rule} at {one.site}: {one.message}" for one in finding.consequences)]
    if finding.remedy:
        lines.append(f"Remedy: {finding.remedy}")
    whole = finding.to_dict()
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": "\n".join(plain(line) for line in lines)},
        "partialFingerprints": {"ruleAndSite/v1": fingerprint(finding.rule, finding.site)},
        "properties": {
            key: json.loads(json.dumps(whole[key], default=str)) for key in ("site", "evidence", "remedy", "source")
        },
    }
    location = _location(finding)
    if location:
        result["locations"] = [location]
    return result


def fingerprint(rule: str, place: str) -> str:
    """The same for the same trouble at the same place, whatever its numbers."""
    return hashlib.sha256(f"{rule}\0{place}".encode("utf-8", "replace")).hexdigest()[:32]


def _location(finding: Finding) -> dict[str, Any]:
    """A place in a file where the evidence names one; the site as a logical location otherwise."""
    file, line = finding.evidence.get("file"), finding.evidence.get("line")
    location: dict[str, Any] = {}
    if file and isinstance(line, int) and line >= 1:
        path = PurePath(str(file))
        uri = path.as_uri() if path.is_absolute() else quote(str(file).replace("\\", "/"), errors="replace")
        location["physicalLocation"] = {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}
    elif finding.site:
        location["logicalLocations"] = [{"fullyQualifiedName": plain(finding.site), "kind": "module"}]
    return location
