"""The formats' own schemas: what a report for machines has to satisfy."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator

COUNTS = {"tests", "failures", "errors"}
STORY = ({"type", "message"}, set[str](), set[str]())
SUITE = COUNTS | {
    "name", "group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url",
}  # fmt: skip
JUNIT: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (COUNTS | {"name", "time"}, set(), {"testsuite"}),
    "testsuite": (
        SUITE, COUNTS | {"name"}, {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name", "time", "classname", "group"}, {"name"},
        {"skipped", "error", "failure", "rerunFailure", "rerunError", "flakyFailure", "flakyError", "system-out",
         "system-err"},
    ),
    "skipped": STORY,
    "error": STORY,
    "failure": STORY,
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, {"name", "value"}, set()),
    "system-out": (set(), set(), set()),
    "system-err": (set(), set(), set()),
}  # fmt: skip
"""By element: the attributes it may have, those it must have, and the elements inside of it: Jenkins' `junit-10.xsd`.
It knows no order within a suite or a test case."""

GITLAB = {"info", "minor", "major", "critical", "blocker"}


def junit_violations(text: str) -> list[str]:
    """What the XML has that JUnit's schema does not, or lacks; counts that are not those of its elements too."""
    root = ET.fromstring(text)
    if root.tag != "testsuites":
        return [f"the root is {root.tag}"]
    found = [one for element in root.iter() for one in _violations(element)]
    for element in root.iter():
        if element.tag in ("testsuites", "testsuite"):
            counted = {
                "tests": element.findall(".//testcase"), "failures": element.findall(".//failure"),
                "errors": element.findall(".//error"), "skipped": element.findall(".//skipped"),
            }  # fmt: skip
            found += [
                f"{element.tag} says {key}={element.get(key)}, there are {len(one)}"
                for key, one in counted.items()
                if element.get(key) not in (None, str(len(one)))
            ]
    return found


def _violations(element: ET.Element) -> list[str]:
    if element.tag not in JUNIT:
        return [f"no element {element.tag}"]
    allowed, required, children = JUNIT[element.tag]
    found = [f"{element.tag} has no attribute {one}" for one in set(element.attrib) - allowed]
    found += [f"{element.tag} needs {one}" for one in required - set(element.attrib)]
    return found + [f"{element.tag} holds no {one.tag}" for one in element if one.tag not in children]


def sarif_violations(text: str) -> list[str]:
    """Where the log departs from the schema of SARIF 2.1.0."""
    schema = json.loads((Path(__file__).parent / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    Draft4Validator.check_schema(schema)
    return [f"{error.json_path}: {error.message}" for error in Draft4Validator(schema).iter_errors(json.loads(text))]


def gitlab_violations(text: str) -> list[str]:
    """What GitLab's documentation of code quality reports asks of each issue."""
    issues = json.loads(text)
    if not isinstance(issues, list):
        return ["the report is no list"]
    return [f"issue {i}: {what}" for i, issue in enumerate(issues) for what in _gitlab(issue)]


def _gitlab(issue: dict[str, Any]) -> list[str]:
    place = issue.get("location", {})
    path, begin = place.get("path", ""), place.get("lines", {}).get("begin")
    wrong = [f"{key} is no text" for key in ("description", "check_name", "fingerprint") if not issue.get(key)]
    wrong += [] if issue.get("severity") in GITLAB else ["severity is none of GitLab's"]
    wrong += [] if path and not path.startswith(("/", "./")) else [f"{path!r} is no path in a repository"]
    return wrong + ([] if isinstance(begin, int) and begin >= 1 else ["no line"])
