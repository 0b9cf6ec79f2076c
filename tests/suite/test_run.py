"""A suite from its first trial to its verdicts, and the folder it leaves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from diag.errors import DiagError
from diag.suite.errors import RunError, SuiteError
from diag.suite.folder import RunFolder, choose_folder
from diag.suite.load import load_suite
from diag.suite.run import Run, open_run, run_suite
from diag.suite.suite import Suite
from tests.suite.conftest import NUMBERS, TRAININGS, Write
from tests.suite.folders import Inline

pytestmark = pytest.mark.slow


def in_order(run: Run) -> pd.DataFrame:
    frame = run.results.frame.sort_values(["case", "seed"], ignore_index=True)
    return frame[sorted(frame)]


def test_trials_verdicts_and_folder(numbers: Suite, tmp_path: Path) -> None:
    run = run_suite(numbers, output=tmp_path / "run", jobs=2)
    assert [one.verdict for one in run.verdicts] == ["holds", "does not hold", "undecided"]
    assert not run.holds
    assert run.results.values("seed_squared", case="low").to_dict() == {0: 0.0, 1: 1.0, 2: 4.0}
    assert run.results.table("path", case="high")["x"].tolist() == [0, 1] * 3
    written = json.loads((tmp_path / "run" / "verdicts.json").read_text())
    assert [one["verdict"] for one in written["claims"]] == ["holds", "does not hold", "undecided"]
    header = RunFolder(tmp_path / "run").header
    assert (header["suite"], header["finished"], header["trials"]) == ("mine", True, 6)
    opened = open_run(tmp_path / "run")
    assert in_order(opened).equals(in_order(run))
    assert [one.verdict for one in opened.verdicts] == [one.verdict for one in run.verdicts]


@pytest.mark.nightly  # that Ray trains the same bits is tested for every change
def test_a_run_is_the_same_with_one_worker_and_with_two(trainings: Suite, tmp_path: Path) -> None:
    one = run_suite(trainings, output=tmp_path / "one", jobs=1)
    two = run_suite(trainings, output=tmp_path / "two", jobs=2)
    assert one.results.frame.equals(two.results.frame)
    for first, second in zip(one.results.records, two.results.records, strict=True):
        for name in ("curves", "layers"):
            assert first.table(name).equals(second.table(name))  # type: ignore[union-attr]
    assert one.results.frame.groupby("lr").size().to_dict() == {0.1: 2, 0.2: 2}
    assert set(one.results.table("layers")["step"]) == {0, 10}


def test_a_follow_up_runs_what_the_first_results_decide(write: Write, tmp_path: Path) -> None:
    follow_up = "lambda r: {'best': diag.Experiment(noisy, shift=float(r.frame['value'].max()))}"
    body = NUMBERS.replace("quick_seeds=2,", f"quick_seeds=2,\n    follow_up={follow_up},")
    run = run_suite(write(body), seeds=2, output=tmp_path / "run")
    assert run.results.values("shift", case="best").iloc[0] == run.results.select(case=["low", "high"])["value"].max()
    assert len(run_suite(tmp_path / "mine.py", seeds=2, output=tmp_path / "run", resume=True).results.records) == 6


def test_what_stands_in_the_way(numbers: Suite, write: Write, tmp_path: Path) -> None:
    run_suite(numbers, quick=True, output=tmp_path / "run")
    records = sorted((tmp_path / "run" / "trials").iterdir())
    other = load_suite(write(TRAININGS, "other"))
    busy = tmp_path / "busy"
    busy.mkdir()
    (busy / "thesis.tex").write_text("x")
    cases = [
        (numbers, {"output": tmp_path / "run"}, "holds a run already"),
        (other, {"output": tmp_path / "run", "resume": True}, "holds a run of the suite 'mine', not of 'other'"),
        (numbers, {"output": tmp_path / "run", "resume": True}, "was begun with quick=True, not with defaults"),
        (numbers, {"output": busy}, "is not empty and holds no run"),
        (numbers, {"output": tmp_path / "mine.py"}, "is a file"),
        (numbers, {"output": tmp_path / "nothing", "resume": True}, "holds no run"),
        (numbers, {"output": "/proc/run"}, "cannot write"),
        (numbers, {"output": tmp_path / "x", "engine": "clowd"}, "no engine 'clowd'"),
        (numbers, {"output": tmp_path / "x", "address": "host:1"}, "add --engine ray"),
    ]
    for suite, options, message in cases:
        with pytest.raises(DiagError, match=message) as caught:
            run_suite(suite, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    assert sorted((tmp_path / "run" / "trials").iterdir()) == records
    assert not (tmp_path / "x").exists()
    assert [*busy.iterdir()] == [busy / "thesis.tex"]


def test_a_changed_file_is_noticed(write: Write, tmp_path: Path) -> None:
    run_suite(write(NUMBERS), quick=True, output=tmp_path / "run")
    seconds = RunFolder(tmp_path / "run").header["seconds"]
    changed = write(NUMBERS.replace("shift=100.0)", "shift=200.0)"))
    with pytest.raises(RunError, match=r"mine\.py has changed since the run"):
        run_suite(changed, quick=True, output=tmp_path / "run", resume=True)
    begun: list[str] = []
    run = run_suite(
        changed,
        quick=True,
        output=tmp_path / "run",
        resume=True,
        accept_change=True,
        watcher=lambda event, *_: begun.append(event.task.case) if event.state == "running" else None,
    )
    assert begun == ["high", "high"]
    assert run.results.values("value", case="high").min() > 190
    assert len(run.results.records) == 4
    assert RunFolder(tmp_path / "run").header["seconds"] > seconds


NETWORK = """
from torch import nn


def own(inputs, outputs, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, outputs))
"""
OWN = """
suite = diag.Suite(
    question="Does it learn?",
    cases={"own": diag.Recipe(network="nets.py:own", width=16, steps=3)},
    seeds=2,
)
"""


def test_a_network_lies_beside_the_suite_and_is_noticed_when_it_changes(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, elsewhere = tmp_path / "nets.py", tmp_path / "elsewhere"
    file.write_text(NETWORK)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run = run_suite(write(OWN), output=tmp_path / "run", engine=Inline())
    assert (len(run.results.records), run.failures.errors) == (2, {})
    file.write_text(NETWORK.replace("nn.ReLU()", "nn.Tanh()"))
    with pytest.raises(RunError, match=r"^nets\.py, which holds a network, has changed since the run in"):
        run_suite(tmp_path / "mine.py", output=tmp_path / "run", resume=True, engine=Inline())
    again = run_suite(tmp_path / "mine.py", output=tmp_path / "run", resume=True, accept_change=True, engine=Inline())
    assert len(again.results.records) == 2
    run_suite(tmp_path / "mine.py", output=tmp_path / "run", resume=True, engine=Inline())


def test_default_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_folder("mine", None, False).path == Path("diag-runs/mine-001")
    with pytest.raises(RunError, match="no run of 'mine'"):
        choose_folder("mine", None, True)
    for name in ("mine-001", "mine-009", "mine-old", "other-020"):
        (tmp_path / "diag-runs" / name).mkdir(parents=True)
    assert choose_folder("mine", None, False).path == Path("diag-runs/mine-010")
    assert choose_folder("mine", None, True).path == Path("diag-runs/mine-009")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no run.json"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"schema": 99, "suite": "a", "hash": "b", "settings": {}}', "newer diag"),
    ],
)
def test_a_folder_that_cannot_be_opened(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=re.escape(message)):
        open_run(tmp_path)


def test_a_suite_without_a_file_cannot_be_run() -> None:
    from diag.recipes.recipe import Recipe

    with pytest.raises(SuiteError, match="run from its file"):
        run_suite(Suite("Why?", {"a": Recipe()}))
