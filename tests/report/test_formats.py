from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diag.report.diagnosis import Diagnosis
from diag.report.formats import FORMATS, UnknownFormatError, render
from diag.report.markdown import code, escape
from diag.rules.finding import Finding
from diag.trace import Trace
from tests.report.schemas import gitlab_violations, junit_violations, sarif_violations
from tests.report.synthetic import build_diagnosis

NASTY = "a|b`c<script>alert(1)</script>\x00\x1b\ufffe %,:\r\n::error::x"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("make", ["nasty", "healthy", "empty", "nan"])
def test_every_format_renders_every_diagnosis(name: str, make: str) -> None:
    diagnoses = {
        "nasty": lambda: build_diagnosis(5, 2, rename={0: NASTY}),
        "healthy": lambda: build_diagnosis(5, 2, healthy=True),
        "empty": lambda: Diagnosis([], Trace()),
        "nan": lambda: _without_numbers(build_diagnosis(5, 2)),
    }
    text = render(diagnoses[make](), name)
    assert text.endswith("\n")
    if name != "json":
        assert "\x00" not in text
        assert "\x1b" not in text


@pytest.mark.parametrize("make", ["nasty", "healthy", "empty", "located", "no site"])
def test_what_has_a_schema_satisfies_it(make: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finding = Finding("missing-gradient", "error", "fc", "m", {"file": str(tmp_path / "my model.py"), "line": 12})
    diagnoses = {
        "nasty": build_diagnosis(5, 2, rename={0: NASTY}),
        "healthy": build_diagnosis(5, 2, healthy=True),
        "empty": Diagnosis([], Trace()),
        "located": Diagnosis([finding], Trace(), {"notes": ["no optimizer"]}),
        "no site": Diagnosis([replace(finding, evidence={}, site="")], Trace()),
    }
    assert junit_violations(render(diagnoses[make], "junit")) == []
    assert sarif_violations(render(diagnoses[make], "sarif")) == []
    assert gitlab_violations(render(diagnoses[make], "gitlab")) == []


@pytest.mark.parametrize(
    ("xml", "what"),
    [
        ('<testsuites><testsuite name="a"/></testsuites>', "testsuite needs tests"),
        ('<testsuites skipped="0"/>', "testsuites has no attribute skipped"),
        ("<testsuites><testcase/></testsuites>", "testsuites holds no testcase"),
        ('<testsuites tests="1"/>', "testsuites says tests=1, there are 0"),
    ],
)
def test_the_check_of_junit_can_fail(xml: str, what: str) -> None:
    assert what in junit_violations(xml)


def test_the_check_of_sarif_can_fail() -> None:
    log = json.loads(render(build_diagnosis(5, 2), "sarif"))
    log["runs"][0]["results"][0]["level"] = "grave"
    del log["runs"][0]["results"][1]["message"]
    assert [text.partition(":")[0] for text in sarif_violations(json.dumps(log))] == [
        "$.runs[0].results[0].level",
        "$.runs[0].results[1]",
    ]


def _without_numbers(diagnosis: Diagnosis) -> Diagnosis:
    for column in ("rms", "mean", "var", "zero_fraction", "saturated_fraction", "dead_units", "count"):
        diagnosis.trace.frame[column] = float("nan")
    return diagnosis


def test_an_unknown_format_is_named_with_its_neighbor() -> None:
    with pytest.raises(
        UnknownFormatError, match=r"unknown format 'jsn': expected one of text, .* \(did you mean 'json'\?\)"
    ):
        render(build_diagnosis(1, 1), "jsn")


def test_junit_has_a_case_per_rule_and_fails_on_errors_alone() -> None:
    root = ET.fromstring(render(build_diagnosis(5, 2, rename={0: NASTY}), "junit"))
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "0")
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert list(cases) == ["vanishing-gradient", "saturated-activation", "symmetric-units"]
    failure = cases["vanishing-gradient"].find("failure")
    assert failure is not None
    assert "<script>" in (failure.get("message") or "")
    assert "remedy: use ReLU" in (failure.text or "")
    assert cases["saturated-activation"].find("failure") is None


def test_junit_passes_without_findings_and_skips_without_observations() -> None:
    passed = ET.fromstring(render(build_diagnosis(5, 2, healthy=True), "junit")).find("testsuite/testcase")
    skipped = ET.fromstring(render(Diagnosis([], Trace()), "junit")).find("testsuite/testcase")
    assert passed is not None
    assert skipped is not None
    assert (passed.get("name"), len(passed)) == ("diag.check", 0)
    assert skipped.find("skipped") is not None


def _sarif(diagnosis: Diagnosis) -> dict[str, Any]:
    log = json.loads(render(diagnosis, "sarif"))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    return run


def test_sarif_has_the_structure_that_the_standard_requires() -> None:
    run = _sarif(build_diagnosis(5, 2))
    driver = run["tool"]["driver"]
    assert driver["name"] == "diag"
    assert [rule["id"] for rule in driver["rules"]] == ["vanishing-gradient", "saturated-activation", "symmetric-units"]
    assert "Glorot & Bengio" in driver["rules"][0]["help"]["text"]
    assert [result["level"] for result in run["results"]] == ["error", "warning", "note"]
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        (location,) = result["locations"]
        assert location["logicalLocations"] == [{"fullyQualifiedName": "layers.0", "kind": "module"}]
        assert "physicalLocation" not in location
    assert run["invocations"][0]["executionSuccessful"] is True
    assert run["results"][1]["properties"]["evidence"]["share"] == "nan"


def test_sarif_names_a_file_where_the_evidence_has_a_line() -> None:
    finding = Finding("missing-gradient", "error", "fc", "m", {"file": "src/my model.py", "line": 12})
    located = _sarif(Diagnosis([finding], Trace()))["results"][0]["locations"][0]
    assert located["physicalLocation"] == {
        "artifactLocation": {"uri": "src/my%20model.py"},
        "region": {"startLine": 12},
    }
    without = _sarif(Diagnosis([replace(finding, evidence={"file": "model.py"})], Trace()))["results"][0]
    assert "physicalLocation" not in without["locations"][0]
    assert "locations" not in _sarif(Diagnosis([replace(finding, evidence={}, site="")], Trace()))["results"][0]


def test_sarif_fingerprints_follow_rule_and_site_alone() -> None:
    one, other = (Finding("r", "error", "fc", message) for message in ("3 dead", "4 dead"))
    elsewhere = replace(one, site="fc2")
    prints = [
        result["partialFingerprints"]["ruleAndSite/v1"]
        for result in _sarif(Diagnosis([one, other, elsewhere], Trace()))["results"]
    ]
    assert prints[0] == prints[1] != prints[2]


def test_gitlab_names_the_file_of_the_evidence_or_what_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finding = Finding("missing-gradient", "error", "fc", "no gradient", {"file": "src/m.py", "line": 12}, "remove it")

    def place(evidence: dict[str, Any], title: str) -> tuple[str, int]:
        (issue,) = json.loads(render(Diagnosis([replace(finding, evidence=evidence)], Trace(), title=title), "gitlab"))
        assert issue["description"] == "fc: no gradient; remedy: remove it"
        assert (issue["check_name"], issue["severity"]) == ("missing-gradient", "critical")
        return issue["location"]["path"], issue["location"]["lines"]["begin"]

    assert place({"file": "src/m.py", "line": 12}, "t") == ("src/m.py", 12)
    assert place({"file": str(tmp_path / "src" / "m.py"), "line": 12}, "t") == ("src/m.py", 12)
    assert place({"file": "src/m.py"}, "t") == ("src/m.py", 1)
    assert place({}, "models/net.py:build") == ("models/net.py", 1)
    assert place({}, "train.py") == ("train.py", 1)


def test_gitlab_severities_and_fingerprints() -> None:
    issues = json.loads(render(build_diagnosis(5, 2), "gitlab"))
    assert [issue["severity"] for issue in issues] == ["critical", "major", "info"]
    assert "therefore: stalled-update at layers.0.weight" in issues[0]["description"]
    assert len({issue["fingerprint"] for issue in issues}) == 3
    assert json.loads(render(build_diagnosis(5, 2, healthy=True), "gitlab")) == []


def test_github_commands_cannot_be_forged_by_a_name() -> None:
    finding = Finding(
        "rule", "error", "a,b:c\n::warning::x", "50% dead\nnext", {"file": "m,1.py", "line": 3}, "lower it"
    )
    text = render(Diagnosis([finding], Trace()), "github")
    assert text == (
        "::error title=rule at a%2Cb%3Ac %3A%3Awarning%3A%3Ax,file=m%2C1.py,line=3"
        "::50%25 dead next%0Aremedy: lower it\n"
    )


def test_github_levels_and_the_notice_of_a_healthy_network() -> None:
    commands = [line.split(" ")[0] for line in render(build_diagnosis(5, 2), "github").splitlines()]
    assert commands == ["::error", "::warning", "::notice"]
    assert render(build_diagnosis(5, 2, healthy=True), "github").startswith(
        "::notice title=diag::ReLU, He initialization: healthy"
    )
    assert render(Diagnosis([], Trace()), "github").startswith("::warning title=diag::")


def test_markdown_escapes_names_in_text_and_in_tables() -> None:
    text = render(build_diagnosis(5, 2, rename={0: NASTY}), "markdown")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = {row.replace("\\|", "").count("|") for row in rows}
    assert cells == {8}, "every row of the table has the same cells"
    assert escape("<b>*x* @team [y](z)") == "&lt;b&gt;\\*x\\* &#64;team \\[y\\]\\(z\\)"
    assert code("a`b``c") == "``` a`b``c ```"
    assert code("a|b") == "`a|b`"


def test_markdown_of_many_sites_fits_a_comment() -> None:
    text = render(build_diagnosis(300, 2, decay=0.9), "markdown")
    assert len(text) < 65536
    assert "of 300 sites are left out." in text
    assert text.startswith("## sigmoid, legacy uniform: 1 error, 1 warning, 1 note")


def test_json_is_the_contract() -> None:
    held = json.loads(render(build_diagnosis(5, 2), "json"))
    assert held["schema"] == 1
    assert held["healthy"] is False
    assert held["findings"][0]["consequences"][0]["rule"] == "stalled-update"
