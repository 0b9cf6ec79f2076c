"""`diag run` and `diag list` as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.suite.conftest import HEADER, NUMBERS

HOLDS = NUMBERS.replace("below=50", "below=500")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(HEADER + HOLDS)
    return path


@pytest.mark.slow
def test_a_run_and_what_it_says(run: Run, suite: Path, tmp_path: Path) -> None:
    result = run("run", suite, "--output", tmp_path / "run", "--seeds", 2)
    assert result.code == 0
    assert "high is larger" in result.out and "holds" in result.out and "n=2" in result.out
    assert "diag: 4 of 4 trials" in result.err
    report = (tmp_path / "run" / "report.md").read_text()
    assert report.startswith("# Which is larger?\n\nOf 3 claims, 2 hold, 0 do not, and 1 is undecided.")
    assert "diag run mine --seeds 2" in report
    failing = suite.with_name("failing.py")
    failing.write_text(HEADER + NUMBERS)
    assert run("run", failing, "--output", tmp_path / "other", "--jobs", 1).code == 1


@pytest.mark.slow
def test_several_suites_have_a_folder_each(run: Run, suite: Path, tmp_path: Path) -> None:
    second = suite.with_name("second.py")
    second.write_text(HEADER + HOLDS)
    assert run("run", suite, second, "--quick", "--output", tmp_path / "runs").code == 0
    assert sorted(one.name for one in (tmp_path / "runs").iterdir()) == ["mine", "second"]


@pytest.mark.slow
def test_a_failing_trial_is_exit_2_and_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    body = "def bad(seed):\n    raise ValueError('no good')\n\n"
    body += "suite = diag.Suite('Why?', {'bad': diag.Experiment(bad)}, seeds=1)\n"
    path.write_text(HEADER + body)
    result = run("run", path, "--output", tmp_path / "run")
    assert result.code == 2
    assert "diag: failed: bad seed 0: ValueError: no good" in result.err
    assert result.err.splitlines()[-1].startswith("diag: error: 1 trial failed")
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "no suite 'nosuch'"),
        (["quick", "nosuch"], "no suite 'nosuch'"),
        (["SUITE", "--set", "scale"], "--set takes FIELD=VALUE"),
        (["SUITE", "--set", "scael=2"], "did you mean 'scale'"),
        (["SUITE", "--set", "shift=2"], "what the suite compares"),
        (["SUITE", "--address", "host:1"], "add --engine ray"),
        (["SUITE", "--resume"], "there is no run of 'mine'"),
        (["quick", "--set", "steps=abc"], "steps is a whole number from 0, got 'abc'"),
    ],
)
def test_a_mistake_is_one_line(
    run: Run, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("run", *[str(suite) if one == "SUITE" else one for one in arguments])
    assert result.code == 2
    assert message in result.err.splitlines()[-1]
    assert "Traceback" not in result.err
    assert not (tmp_path / "diag-runs").exists()


def test_list_names_everything(run: Run) -> None:
    content = json.loads(run("list", "--format", "json").out)
    assert {"digits", "mnist1d", "shapeset", "adding"} <= {one["name"] for one in content["data"]}
    assert {"glorot_uniform", "he_normal", "lsuv"} <= {one["name"] for one in content["inits"]}
    for kind, entries in content.items():
        assert entries, kind
        assert all(one["summary"] for one in entries), kind
    shown = run("list", "clipping").out
    assert "max_norm=1.0" in shown and "he_normal" not in shown


def test_list_of_what_is_no_kind(run: Run) -> None:
    result = run("list", "init")
    assert result.code == 2
    assert "no kind 'init' (did you mean 'inits'?)" in result.err
