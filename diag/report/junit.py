"""The diagnosis as JUnit XML: one test case per rule; an error fails it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from diag.report.diagnosis import Diagnosis
from diag.report.text import label, plain, value
from diag.report.verdict import measured, unobserved, verdict
from diag.rules.finding import Finding


def render(diagnosis: Diagnosis) -> str:
    """The XML document. A rule whose findings are warnings or notes passes and prints them.

    Without any finding the one case `diag.check` passes; it is skipped where nothing was observed.
    """
    by_rule: dict[str, list[Finding]] = {}
    for finding in diagnosis.findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    failures = sum(any(f.severity == "error" for f in findings) for findings in by_rule.values())
    answer = verdict(diagnosis)
    skipped = int(answer.status == "unknown")
    counts = {"tests": str(max(len(by_rule), 1)), "failures": str(failures), "errors": "0", "skipped": str(skipped)}
    # JUnit's schema counts what is skipped by suite only.
    root = ET.Element("testsuites", {"name": "diag", **counts})
    del root.attrib["skipped"]
    suite = ET.SubElement(root, "testsuite", {"name": "diag", **counts})
    classname = f"diag.{legal(diagnosis.title)}"
    for rule, findings in by_rule.items():
        _case(ET.SubElement(suite, "testcase", {"classname": classname, "name": legal(rule)}), findings)
    if not by_rule:
        case = ET.SubElement(suite, "testcase", {"classname": classname, "name": "diag.check"})
        if skipped:
            ET.SubElement(case, "skipped", {"message": answer.text})
    coverage = [
        f"observed: {measured(diagnosis.coverage)}",
        *(f"not observed: {x}" for x in unobserved(diagnosis.coverage)),
    ]
    ET.SubElement(suite, "system-out").text = legal("\n".join(coverage))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def legal(text: str) -> str:
    """The text with what XML 1.0 cannot hold (control characters, surrogates, U+FFFE, U+FFFF) made visible."""
    return "\n".join(plain(line) for line in text.split("\n"))


def _case(case: ET.Element, findings: list[Finding]) -> None:
    errors = [finding for finding in findings if finding.severity == "error"]
    others = [finding for finding in findings if finding.severity != "error"]
    if errors:
        message = "; ".join(f"{f.site}: {f.message}" if f.site else f.message for f in errors)
        failure = ET.SubElement(case, "failure", {"type": legal(errors[0].rule), "message": legal(message)})
        failure.text = legal("\n\n".join(_story(f) for f in errors))
    if others:
        ET.SubElement(case, "system-out").text = legal("\n\n".join(_story(f) for f in others))


def _story(finding: Finding) -> str:
    lines = [f"{finding.severity} at {finding.site or 'the whole model'}: {finding.message}"]
    lines += [f"  {label(key)}: {value(item)}" for key, item in finding.evidence.items()]
    lines += [f"remedy: {finding.remedy}"] if finding.remedy else []
    lines += [f"source: {finding.source}"] if finding.source else []
    lines += [f"therefore: {one.rule} at {one.site}: {one.message}" for one in finding.consequences]
    return "\n".join(lines)
