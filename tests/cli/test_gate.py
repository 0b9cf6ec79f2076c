"""`diag gate` and `diag baseline` as a person, and CI, call them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diag.suite.run import run_suite
from tests.cli.conftest import Run, diagnosis
from tests.gate.runs import InProcess, healthy, standardized, write_run
from tests.suite.conftest import HEADER


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs in the working folder: `old`, what it is held to; `same`; `worse`; and `noisy`, which cannot be told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    values = healthy()
    write_run(tmp_path / "old", values, claims={"it learns": "holds"})
    write_run(tmp_path / "same", values, claims={"it learns": "holds"})
    write_run(tmp_path / "worse", healthy(test_accuracy=-0.2), claims={"it learns": "does not hold"})
    noisy = {case: {**one, "test_loss": standardized(5, 0.31, 0.08)} for case, one in values.items()}
    write_run(tmp_path / "noisy", noisy, claims={"it learns": "holds"})
    entries = [
        {"name": name, "stats": {"median": median, "iqr": 0.01, "rounds": 50}}
        for name, median in (("plain", 1.0), ("watched", 1.5))
    ]
    (tmp_path / "bench.json").write_text(json.dumps({"benchmarks": entries}))
    return tmp_path


def test_a_baseline_is_made_and_held_to(run: Run, folder: Path) -> None:
    made = run("baseline", "old", "--output", "reports/baseline.json")
    assert (made.code, made.out) == (0, "")
    assert made.err == "diag: wrote reports/baseline.json\n"
    passed = run("gate", "same", "--baseline", "reports/baseline.json")
    assert (passed.code, passed.err) == (0, "")
    assert passed.out.startswith("pass: 9 comparisons, none worse")
    failed = run("gate", "worse", "--baseline", "reports")
    assert failed.code == 1
    assert failed.out.startswith(
        "regression: 3 comparisons of 9 worse than reports/baseline.json, 1 claim no longer holds\n"
    )
    assert "- case 1: test_accuracy: 0.9" in failed.out
    assert "- claim no longer holds: it learns" in failed.out
    unsure = run("gate", "noisy", "--baseline", "old")
    assert unsure.code == 2
    assert unsure.out.startswith("cannot tell: too few seeds for the margins; about ")


def test_a_baselines_place(run: Run, folder: Path) -> None:
    assert run("baseline", "old").err == "diag: wrote old/baseline.json\n"
    (folder / "reports").mkdir()
    assert run("baseline", "old", "--output", "reports").err == "diag: wrote reports/baseline.json\n"
    assert (folder / "reports" / "baseline.json").read_text() == (folder / "old" / "baseline.json").read_text()


@pytest.mark.parametrize("format", ["json", "markdown", "github", "junit", "sarif", "gitlab"])
def test_a_machines_verdict_is_alone_on_stdout(run: Run, folder: Path, format: str) -> None:
    arguments = ("gate", "worse", "--baseline", "old", "--format", format)
    bench = ("--benchmark", "bench.json", "--ratio", "watched/plain<=2")
    shown = run(*arguments, *bench)
    assert (shown.code, shown.err.startswith("pass: watched / plain = 1.5 [")) == (1, True)
    if format in ("json", "sarif", "gitlab"):
        json.loads(shown.out)
    elif format == "junit":
        ET.fromstring(shown.out)
    written = run(*arguments, "--output", "out/report")
    assert (written.code, written.out) == (1, "")
    assert (folder / "out" / "report").read_text() == shown.out
    # A person still sees the verdict, and where the file is.
    assert written.err.startswith("regression: 3 comparisons")
    assert written.err.endswith("diag: wrote out/report\n")


def test_margins_and_the_level_are_options(run: Run, folder: Path) -> None:
    write_run(folder / "little", healthy(test_accuracy=-0.01), claims={"it learns": "holds"})
    assert run("gate", "little", "--baseline", "old").code == 0
    assert run("gate", "little", "--baseline", "old", "--margin", "test_accuracy=0.001").code == 1
    assert run("gate", "noisy", "--baseline", "old", "--margin", "test_loss=0.5").code == 0
    wide = ("--margin", "test_accuracy=0.1", "--margin", "test_loss = 9")
    write_run(folder / "worse2", healthy(test_accuracy=-0.2), claims={"it learns": "holds"})
    strict = run("gate", "worse2", "--baseline", "old", *wide, "--false-alarms", "1e-9")
    assert (strict.code, run("gate", "worse2", "--baseline", "old", *wide).code) == (2, 1)


def test_ratios_of_benchmarks(run: Run, folder: Path) -> None:
    fine = run("gate", "--benchmark", "bench.json", "--ratio", "watched/plain<=2", "--ratio", "plain/watched<=1")
    assert (fine.code, fine.err) == (0, "")
    assert [line.partition(" =")[0] for line in fine.out.splitlines()] == [
        "pass: watched / plain",
        "pass: plain / watched",
    ]
    slow = run("gate", "--benchmark", "bench.json", "--ratio", "watched/plain<=1.2", "--ratio", "plain/watched<=1")
    assert slow.code == 1
    assert slow.out.startswith("regression: watched / plain = 1.5 [1.5, 1.5], limit 1.2\n")
    # A regression of either kind fails a gate of both.
    both = ("--benchmark", "bench.json", "--ratio")
    assert run("gate", "same", "--baseline", "old", *both, "watched/plain<=1.2").code == 1
    assert run("gate", "worse", "--baseline", "old", *both, "watched/plain<=2").code == 1
    assert run("gate", "noisy", "--baseline", "old", *both, "watched/plain<=1.2").code == 1
    assert run("gate", "noisy", "--baseline", "old", *both, "watched/plain<=2").code == 2


def test_the_summary_of_a_step(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = folder / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    run("gate", "worse", "--baseline", "old", "--format", "junit")
    assert summary.read_text() == "before\n"
    result = run("gate", "worse", "--baseline", "old", "--format", "github")
    assert result.out.startswith("::error title=diag gate%3A all cases together::test_accuracy")
    run("gate", "same", "--baseline", "old", "--format", "github")
    text = summary.read_text()
    assert text.startswith(
        "before\n### diag gate, mine: regression: 3 comparisons of 9 worse than old, 1 claim no longer holds\n"
    )
    assert "\n\n### diag gate, mine: pass: 9 comparisons, none worse\n" in text


@pytest.mark.parametrize("command", ["check", "watch"])
def test_the_summary_of_a_diagnosis(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, fake_check: SimpleNamespace,
    fake_watch: SimpleNamespace,
) -> None:  # fmt: skip
    fake_check.diagnosis = fake_watch.diagnosis = diagnosis("error")
    plain = run(command, "m.py:f", "--format", "github")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    assert run(command, "m.py:f", "--format", "json").code == 1
    assert not (folder / "summary.md").exists()
    found = run(command, "--format", "github", "m.py:f") if command == "watch" else plain
    run(command, "--format", "github", "m.py:f")
    assert "::error title=vanishing-gradient" in found.out
    assert (folder / "summary.md").read_text().startswith("## a title: 1 error\n\n**error: vanishing-gradient**")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder))
    refused = run(command, "--format", "github", "m.py:f")
    assert refused.code == 2
    assert refused.err.endswith(f"cannot write GITHUB_STEP_SUMMARY={folder}: Is a directory\n")


def test_gitlabs_format_of_a_diagnosis(run: Run, folder: Path, fake_check: SimpleNamespace) -> None:
    fake_check.diagnosis = diagnosis("warning")
    (issue,) = json.loads(run("check", "m.py:f", "--format", "gitlab").out)
    assert (issue["check_name"], issue["severity"]) == ("vanishing-gradient", "major")


WRONG: list[tuple[list[str], str]] = [
    ([], "Usage"),
    (["same"], "a RUN needs a --baseline, and a --baseline a RUN"),
    (["--baseline", "old"], "a RUN needs a --baseline, and a --baseline a RUN"),
    (["--ratio", "a/b<=1"], "nothing to hold: give a RUN with --baseline, or --benchmark FILE with --ratio"),
    (["--benchmark", "bench.json"], "--benchmark FILE needs at least one --ratio 'A/B<=X'"),
    (["same", "--baseline", "old", "--ratio", "a/b<=1"], "and a --ratio a --benchmark"),
    (["--benchmark", "bench.json", "--ratio", "watched/plain<=2", "--format", "json"], "--format, --output and"),
    (["--benchmark", "bench.json", "--ratio", "watched<=2"], "a ratio reads 'A/B<=1.2'"),
    (["--benchmark", "bench.json", "--ratio", "watched/plian<=2"], "(did you mean 'plain'?)"),
    (["--benchmark", "old/run.json", "--ratio", "a/b<=2"], "is no JSON of pytest-benchmark"),
    (["--benchmark", "gone.json", "--ratio", "a/b<=2"], "no file gone.json"),
    (["gone", "--baseline", "old"], "no run at gone: expected the folder of a finished 'diag run'"),
    (["same", "--baseline", "gone"], "no baseline at gone: make one with 'diag baseline RUN --output gone'"),
    (["same", "--baseline", "."], "holds neither baseline.json nor a run"),
    (["same", "--baseline", "bench.json"], "bench.json is no baseline that can be read"),
    (["yours", "--baseline", "old"], "the run is of the suite 'yours', the baseline of 'mine'"),
    (["quicker", "--baseline", "old"], "use the same options"),
    (["fewer", "--baseline", "old"], "the run lacks the case 'case 1'"),
    (["half", "--baseline", "old"], "is unfinished"),
    (["same", "--baseline", "old", "--margin", "test_loss"], "--margin takes METRIC=NUMBER"),
    (["same", "--baseline", "old", "--margin", "test_loss=low"], "--margin takes METRIC=NUMBER"),
    (["same", "--baseline", "old", "--margin", "test_lost=1"], "(did you mean 'test_loss'?)"),
    (["same", "--baseline", "old", "--margin", "test_loss=-1"], "the margin of test_loss is a positive number"),
    (["same", "--baseline", "old", "--margin", "test_loss=nan"], "the margin of test_loss is a positive number"),
    (["same", "--baseline", "old", "--false-alarms", "1"], "the chance of a false alarm lies between 0 and 0.5"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(one) for one, _ in WRONG])
def test_a_mistake_is_one_line_and_never_a_pass(run: Run, folder: Path, arguments: list[str], message: str) -> None:
    write_run(folder / "yours", healthy(), suite="yours")
    write_run(folder / "quicker", healthy(), settings={"quick": True, "seeds": None, "set": {}})
    write_run(folder / "fewer", {"case 0": healthy()["case 0"]})
    write_run(folder / "half", healthy(), finished=None)
    result = run("gate", *arguments)
    assert result.code == 2
    assert message in (result.err if arguments else result.out + result.err)
    if arguments:
        assert result.out == ""
        assert result.err.startswith("diag: error: ")
        assert result.err.count("\n") == 1


@pytest.mark.parametrize(("name", "message"), [("gone", "holds no run"), ("half", "is unfinished")])
def test_no_baseline_of_what_is_no_run(run: Run, folder: Path, name: str, message: str) -> None:
    write_run(folder / "half", healthy(), finished=None)
    result = run("baseline", name, "--output", "b.json")
    assert (result.code, result.err.count("\n"), message in result.err) == (2, 1, True)
    assert not (folder / "b.json").exists()


NET = """
import math
from torch import nn

def build(inputs, outputs, width):
    first, last = nn.Linear(math.prod(inputs), width), nn.Linear(width, outputs)
    return nn.Sequential(nn.Flatten(), first, nn.Tanh(), last)
"""
SUITE = """
suite = diag.Suite(
    question="Does it learn?",
    cases={"user": diag.Recipe(network="net.py:build", width=16, lr=0.3, steps=40)},
    seeds=5,
    looks=2,
    validations=2,
    claims=[diag.Claim("it learns", "-", lambda r: r.values("test_accuracy", case="user"), above=0.3)],
)
"""


@pytest.mark.slow
def test_a_layer_frozen_by_mistake_in_two_trained_runs(run: Run, folder: Path) -> None:
    (folder / "net.py").write_text(NET)
    (folder / "mine.py").write_text(HEADER + SUITE)
    assert run_suite("mine.py", output="first", engine=InProcess()).holds
    assert run("baseline", "first", "--output", "baseline.json").code == 0
    content: dict[str, Any] = json.loads((folder / "baseline.json").read_text())
    assert set(content["cases"]["user"]) - {"content", "seeds"} == {
        "test_accuracy", "test_loss", "train_loss", "diverged", "gradient_decay", "activation_decay", "update_ratio",
        "saturated", "dead", "findings_error", "unmoved",
    }  # fmt: skip
    assert run("gate", "first", "--baseline", "baseline.json").code == 0
    # Such as a fine-tuning's freeze that was left in: it still learns, only worse.
    (folder / "net.py").write_text(NET.replace("    return", "    first.requires_grad_(False)\n    return"))
    assert run_suite("mine.py", output="second", engine=InProcess()).holds
    result = run("gate", "second", "--baseline", "baseline.json", "--format", "json")
    assert result.code == 1
    (unmoved,) = [one for one in json.loads(result.out)["checks"] if one["metric"] == "unmoved"]
    assert (unmoved["answer"], unmoved["baseline"], unmoved["new"]) == ("regression", 0.0, 2.0)
