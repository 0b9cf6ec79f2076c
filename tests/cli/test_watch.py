"""`diag watch`: the script's arguments, streams and exit code are its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diag.trace import Trace
from tests.cli.conftest import Script, diagnosis


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--help"],
        ["-h", "--version"],
        ["--steps", "3", "--lr=1e-3", "-x", "data file"],
        ["--", "--a", "--"],
        ["--format", "json", "--output"],
    ],
)
def test_what_stands_after_the_script_is_the_scripts(run: Any, fake_watch: SimpleNamespace, argv: list[str]) -> None:
    assert run("watch", "train.py", *argv).code == 0
    assert fake_watch.calls[0] == {"script": "train.py", "argv": argv, "steps": None, "every": 1, "trace": None}


def test_what_stands_before_the_script_is_ours(run: Any, fake_watch: SimpleNamespace) -> None:
    run("watch", "--steps", "5", "--every", "2", "train.py", "--steps", "9", "a b")
    assert fake_watch.calls[0] == {
        "script": "train.py",
        "argv": ["--steps", "9", "a b"],
        "steps": 5,
        "every": 2,
        "trace": None,
    }
    assert fake_watch.calls[1]["command"] == "diag watch --steps 5 --every 2 train.py --steps 9 'a b'"
    assert fake_watch.calls[1]["title"] == "train.py"


def test_help_before_the_script_is_ours(run: Any, fake_watch: SimpleNamespace) -> None:
    result = run("watch", "--help")
    assert "SCRIPT" in result.out
    assert fake_watch.calls == []


@pytest.mark.parametrize(
    ("script", "severities", "code"),
    [
        ({}, (), 0),
        ({}, ("error",), 1),
        ({"exit_code": 3}, (), 3),
        ({"exit_code": 3}, ("error",), 3),
        ({"exit_code": 1, "error": "ValueError: x"}, (), 1),
        ({"exit_code": 130, "error": "KeyboardInterrupt", "interrupted": True}, ("error",), 130),
    ],
)
def test_exit_code(run: Any, fake_watch: SimpleNamespace, script: dict[str, Any], severities: Any, code: int) -> None:
    fake_watch.outcome = Script(fake_watch.outcome.trace, **script)
    fake_watch.diagnosis = diagnosis(*severities)
    result = run("watch", "train.py")
    assert result.code == code
    assert ("diag: train.py failed: ValueError: x\n" in result.err) == (script.get("error") == "ValueError: x")
    assert ("interrupted" in result.err) == ("interrupted" in script)


@pytest.mark.parametrize("code", [0, 3])
def test_a_rank_for_which_another_reports_says_nothing(
    code: int, run: Any, fake_watch: SimpleNamespace, tmp_path: Any
) -> None:
    fake_watch.outcome = Script(fake_watch.outcome.trace, exit_code=code, rank=1, silent=True)
    fake_watch.diagnosis = diagnosis("error")
    result = run("watch", "--html", tmp_path / "page.html", "train.py")
    assert (result.code, result.out, result.err) == (code, "", "")
    assert len(fake_watch.calls) == 1
    assert not list(tmp_path.iterdir())


def test_a_rank_that_speaks_for_itself_writes_beside_the_first(
    run: Any, fake_watch: SimpleNamespace, tmp_path: Any
) -> None:
    fake_watch.outcome = Script(fake_watch.outcome.trace, rank=1)
    fake_watch.diagnosis = diagnosis("error")
    paths = tmp_path / "page.html", tmp_path / "report.txt", tmp_path / "kept.parquet"
    result = run("watch", "--html", paths[0], "--output", paths[1], "--trace", paths[2], "train.py")
    assert result.code == 0, "or its launcher would kill the others"
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["kept.rank1.parquet", "page.rank1.html", "report.rank1.txt"]
    assert "vanishing-gradient" in result.err


def test_a_rank_that_has_seen_nothing_leaves_it_to_the_first(run: Any, fake_watch: SimpleNamespace) -> None:
    fake_watch.outcome = Script(Trace(), rank=1, error="ValueError: x", exit_code=1)
    result = run("watch", "train.py")
    assert (result.code, result.err) == (1, "diag: train.py failed on rank 1: ValueError: x\n")


def test_stdout_is_the_scripts(run: Any, fake_watch: SimpleNamespace) -> None:
    fake_watch.during = lambda: print("epoch 1")
    fake_watch.diagnosis = diagnosis("error")
    result = run("watch", "train.py")
    assert result.out == "epoch 1\n"
    assert "vanishing-gradient" in result.err


def test_json_follows_the_scripts_output(run: Any, fake_watch: SimpleNamespace, tmp_path: Any) -> None:
    fake_watch.during = lambda: print("epoch 1")
    shown = run("watch", "--format", "json", "train.py")
    first, _, rest = shown.out.partition("\n")
    assert first == "epoch 1"
    assert json.loads(rest)["schema"] == 1
    written = run("watch", "--format", "json", "--output", tmp_path / "r.json", "train.py")
    assert written.out == "epoch 1\n"
    assert json.loads((tmp_path / "r.json").read_text()) == json.loads(rest)


def test_the_trace_is_written_before_it_is_judged(
    run: Any, fake_watch: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(trace: Trace, **options: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys.modules["diag.watch"], "diagnose", fail)
    with pytest.raises(ZeroDivisionError):
        run("watch", "--trace", tmp_path / "trace.parquet", "train.py")
    assert (tmp_path / "trace.parquet").exists()


def test_steps_on_what_no_module_call_was_seen_of_are_told(run: Any, fake_watch: SimpleNamespace) -> None:
    fake_watch.outcome = Script(Trace(coverage={"steps_elsewhere": 80}))
    result = run("watch", "train.py")
    assert result.code == 2
    assert "train.py took 80 optimizer steps" in result.err and "__call__" in result.err


@pytest.mark.parametrize(
    ("script", "code", "last"),
    [
        ({}, 2, "diag: error: no training was seen in train.py: expected"),
        ({"exit_code": 5}, 5, "diag: train.py ended itself with exit code 5 before it trained anything"),
        ({"exit_code": 1, "error": "ValueError: x"}, 2, "diag: error: train.py raised before it trained anything"),
        (
            {"exit_code": 130, "error": "KeyboardInterrupt", "interrupted": True},
            130,
            "diag: interrupted before train.py",
        ),
    ],
)
def test_a_script_that_never_trains(
    run: Any, fake_watch: SimpleNamespace, script: dict[str, Any], code: int, last: str
) -> None:
    fake_watch.outcome = Script(Trace(), **script)
    result = run("watch", "train.py")
    assert result.code == code
    assert result.err.splitlines()[-1].startswith(last)
    assert len(fake_watch.calls) == 1
    assert result.out == ""
