"""A gate's verdict in every format, against the formats' own schemas."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from diag.gate.gate import Verdict, compare
from diag.gate.metrics import METRICS
from diag.report.gate import formats
from diag.report.gate.wording import headline, needed, sentence
from tests.gate.runs import ENVIRONMENT, baseline_of, healthy, standardized
from tests.report.schemas import gitlab_violations, junit_violations, sarif_violations

NASTY = "a|b`c<script>alert(1)</script> @team \x00\x1b\ufffe\ud800 %,:\r\n::error::x [y](z)"
NAMES = ("text", "json", "markdown", "github", "junit", "sarif", "gitlab")


def verdict(kind: str, case: str = "case 1", claim: str = "a claim", origin: str = "reports/baseline.json") -> Verdict:
    values = healthy()
    values[case] = values.pop("case 1")
    old, new = copy.deepcopy(values), copy.deepcopy(values)
    changes: dict[str, Any] = {}
    if kind in ("regression", "claim"):
        changes = {"claims": {claim: "does not hold"}, "environment": ENVIRONMENT | {"torch": "2.14.0"}}
    if kind == "regression":
        new[case]["test_accuracy"] = [one - 0.2 for one in new[case]["test_accuracy"]]
    if kind == "improvement":
        new[case]["test_loss"] = [one - 0.2 for one in new[case]["test_loss"]]
    if kind == "cannot tell":
        for one in new.values():
            one["test_loss"] = standardized(5, 0.31, 0.08)
    before = baseline_of(old, claims={claim: "holds"} if changes else {}, origin=origin)
    return compare(baseline_of(new, **changes), before, 0.01, METRICS)


KINDS = ("pass", "regression", "claim", "improvement", "cannot tell")


@pytest.mark.parametrize("kind", KINDS)
def test_the_verdicts_that_are_shown_here(kind: str) -> None:
    assert verdict(kind).answer == {"claim": "regression"}.get(kind, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_format_shows_every_verdict(name: str, kind: str) -> None:
    text = formats.render(verdict(kind, NASTY, NASTY, NASTY), name)
    assert text.endswith("\n")
    assert text.encode("utf-8")
    if name != "json":
        assert "\x00" not in text
        assert "\x1b" not in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["case 1", NASTY])
def test_junit_is_valid(kind: str, name: str) -> None:
    assert junit_violations(formats.junit(verdict(kind, name, name))) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["case 1", NASTY])
def test_sarif_is_valid(kind: str, name: str) -> None:
    assert sarif_violations(formats.sarif(verdict(kind, name, name, "/repo/a b.json"))) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["case 1", NASTY])
def test_gitlab_is_what_gitlab_reads(kind: str, name: str) -> None:
    assert gitlab_violations(formats.gitlab(verdict(kind, name, name))) == []


def test_junit_fails_what_regressed_and_skips_what_cannot_be_told() -> None:
    suite = ET.fromstring(formats.junit(verdict("regression"))).find("testsuite")
    assert suite is not None
    assert [suite.get(key) for key in ("name", "tests", "failures", "skipped")] == ["mine", "10", "3", "0"]
    failed = [(one.get("classname"), one.get("name")) for one in suite.findall("testcase") if len(one)]
    assert failed == [("all cases together", "test_accuracy"), ("case 1", "test_accuracy"), ("claims", "a claim")]
    output = suite.findtext("system-out") or ""
    assert "torch was 2.13.0 and is 2.14.0" in output
    skipped = ET.fromstring(formats.junit(verdict("cannot tell"))).findall(".//skipped")
    assert len(skipped) == 3
    assert "seeds would settle it" in (skipped[0].get("message") or "")


def test_sarif_points_at_the_baseline() -> None:
    (run,) = json.loads(formats.sarif(verdict("regression", origin="reports/my base.json")))["runs"]
    assert [one["ruleId"] for one in run["results"]] == ["gate/test_accuracy"] * 2 + ["gate/claim"]
    place = run["results"][1]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "reports/my%20base.json"
    assert place["logicalLocations"] == [{"fullyQualifiedName": "case 1"}]
    assert {one["id"] for one in run["tool"]["driver"]["rules"]} == {"gate/test_accuracy", "gate/claim"}
    assert len({one["partialFingerprints"]["ruleAndPlace/v1"] for one in run["results"]}) == 3
    (healthy_run,) = json.loads(formats.sarif(verdict("pass")))["runs"]
    assert healthy_run["results"] == []


def test_gitlab_has_an_issue_per_regression() -> None:
    issues = json.loads(formats.gitlab(verdict("regression")))
    assert [one["check_name"] for one in issues] == ["gate/test_accuracy"] * 2 + ["gate/claim"]
    assert issues[1]["location"] == {"path": "reports/baseline.json", "lines": {"begin": 1}}
    assert issues[1]["description"].startswith("case 1: test_accuracy: 0.9")
    assert len({one["fingerprint"] for one in issues}) == 3
    assert json.loads(formats.gitlab(verdict("pass"))) == []
    # The same trouble next time is the same issue, whatever its numbers.
    assert [one["fingerprint"] for one in json.loads(formats.gitlab(verdict("regression")))] == [
        one["fingerprint"] for one in issues
    ]


def test_github_annotates_each_regression_and_cannot_be_forged() -> None:
    lines = formats.github(verdict("regression")).splitlines()
    assert [line.partition("::")[2].split(" ")[0] for line in lines] == ["error"] * 3
    assert lines[1].startswith("::error title=diag gate%3A case 1::test_accuracy: 0.9")
    assert lines[2] == "::error title=diag gate: a claim no longer holds::a claim"
    for kind, command in (("pass", "notice"), ("improvement", "notice"), ("cannot tell", "warning")):
        assert formats.github(verdict(kind)).startswith(f"::{command} title=diag gate::mine: {kind}")
    assert "%0Aall cases together: test_loss" in formats.github(verdict("cannot tell")), "it says what it cannot tell"
    forged = formats.github(verdict("regression", NASTY, NASTY)).splitlines()
    assert [line for line in forged if not line.startswith("::error title=diag gate")] == []
    assert len(forged) == 3


def test_markdown_is_a_comment_that_mentions_nobody() -> None:
    text = formats.markdown(verdict("regression", NASTY, NASTY))
    headline = "regression: 2 comparisons of 9 worse than reports/baseline.json, 1 claim no longer holds"
    assert text.startswith(f"### diag gate, mine: {headline}\n")
    assert "<script>" not in text
    assert "@team" not in text
    assert "[y](" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {8}
    assert "\n- all cases together: test\\_accuracy: 0.9" in text


def test_json_is_everything() -> None:
    content = json.loads(formats.render(verdict("regression"), "json"))
    assert (content["schema"], content["answer"], content["exit_code"]) == (1, "regression", 1)
    assert (len(content["checks"]), len(content["pooled"]), content["claims"]) == (6, 3, ["a claim"])
    assert content["checks"][3]["harm"] == pytest.approx(0.2)


def test_text_names_what_failed_and_shows_the_table() -> None:
    text = formats.render(verdict("regression"), "text")
    assert "regression: 2 comparisons of 9 worse than reports/baseline.json, 1 claim no longer holds" in text
    assert "- case 1: test_accuracy: 0.9" in text
    assert "- claim no longer holds: a claim" in text
    assert "worse by (90 % interval)" in text


def test_many_regressions_do_not_fill_a_screen() -> None:
    values = healthy(cases=30)
    worse = healthy(cases=30, test_accuracy=-0.3)
    found = compare(baseline_of(worse), baseline_of(values), 0.01, METRICS)
    assert len(found.regressions) == 31
    text = formats.render(found, "text")
    assert "- and 11 more: --format json has them all" in text
    assert text.count("\n- case ") == 19
    assert "- and 11 more" in formats.markdown(found)


def test_the_sentence_says_what_was_measured() -> None:
    found = verdict("regression")
    said = sentence(found.regressions[1])
    assert "0.2 worse (90 % interval 0.198 to 0.202, margin 0.02, 5 seeds, paired by seed)" in said
    better = next(one for one in verdict("improvement").checks if one.answer == "improvement")
    assert "0.2 better" in sentence(better)


def test_the_headline_says_how_many_seeds_would_do() -> None:
    found = verdict("cannot tell")
    assert needed(found) == max(one.needed or 0 for one in found.undecided)
    assert headline(found) == f"cannot tell: too few seeds for the margins; about {needed(found)} would do"
    assert headline(verdict("improvement")) == "improvement: 9 comparisons, none worse, 2 better"
