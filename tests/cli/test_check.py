"""`diag check`: what it passes on, where its report goes, and the exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.conftest import diagnosis


@pytest.mark.parametrize(
    ("severities", "fail_on", "code"),
    [
        ((), "error", 0),
        (("note",), "warning", 0),
        (("warning",), "error", 0),
        (("warning",), "warning", 1),
        (("error",), "error", 1),
        (("note", "error"), "warning", 1),
        (("error", "warning"), "never", 0),
    ],
)
def test_exit_code(run: Any, fake_check: SimpleNamespace, severities: Any, fail_on: str, code: int) -> None:
    fake_check.diagnosis = diagnosis(*severities)
    assert run("check", "m.py:f", "--fail-on", fail_on).code == code


def test_an_error_is_the_default_bar(run: Any, fake_check: SimpleNamespace) -> None:
    fake_check.diagnosis = diagnosis("warning")
    assert run("check", "m.py:f").code == 0
    fake_check.diagnosis = diagnosis("error")
    assert run("check", "m.py:f").code == 1


def test_what_is_passed_on(run: Any, fake_check: SimpleNamespace) -> None:
    run("check", "m.py:f", "--steps", "7", "--input", "2x3;4 x 5")
    run("check", "m.py:g")
    first, second = fake_check.calls
    assert first["workload"] == ("m.py:f", "2x3;4 x 5")
    assert (first["steps"], first["title"]) == (7, "m.py:f")
    assert first["command"] == "diag check m.py:f --steps 7 --input '2x3;4 x 5'"
    assert (second["workload"], second["steps"]) == (("m.py:g", None), 30)
    # capfd is no terminal: nobody would see a bar.
    assert first["progress"] is None


@pytest.mark.parametrize("format", ["text", "json"])
def test_what_the_users_code_prints_goes_to_stderr(run: Any, fake_check: SimpleNamespace, format: str) -> None:
    fake_check.during = lambda: print("epoch 1")
    result = run("check", "m.py:f", "--format", format)
    assert "epoch 1" not in result.out
    assert "epoch 1" in result.err


def test_json_is_alone_on_stdout(run: Any, fake_check: SimpleNamespace) -> None:
    fake_check.diagnosis = diagnosis("error")
    result = run("check", "m.py:f", "--format", "json")
    assert json.loads(result.out) == fake_check.diagnosis.to_dict()
    assert result.err == ""


def test_text_is_for_people(run: Any, fake_check: SimpleNamespace) -> None:
    fake_check.diagnosis = diagnosis("error")
    result = run("check", "m.py:f")
    assert "vanishing-gradient" in result.out
    assert "\x1b" not in result.out


@pytest.mark.parametrize("format", ["text", "json", "markdown", "github", "junit", "sarif"])
def test_output_holds_what_stdout_would(run: Any, fake_check: SimpleNamespace, tmp_path: Path, format: str) -> None:
    fake_check.diagnosis = diagnosis("error", "warning")
    shown = run("check", "m.py:f", "--format", format)
    assert "vanishing-gradient" in shown.out
    file = tmp_path / "new" / "report"
    written = run("check", "m.py:f", "--format", format, "--output", file)
    assert file.read_text().rstrip("\n") == shown.out.rstrip("\n")
    assert written.out == ""
    # A person still sees the verdict, and where the file is.
    assert "vanishing-gradient" in written.err
    assert f"diag: wrote {file}" in written.err


def test_html_and_trace(run: Any, fake_check: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diag.trace
    from diag.report.diagnosis import Diagnosis

    monkeypatch.setattr(Diagnosis, "to_html", lambda self, path: Path(path))
    page, trace = tmp_path / "page.html", tmp_path / "new" / "trace.parquet"
    result = run("check", "m.py:f", "--html", page, "--trace", trace)
    assert result.code == 0
    assert f"diag: wrote {trace}\ndiag: wrote {page}\n" in result.err
    assert diag.trace.load(trace).frame.empty


def test_what_cannot_be_written_takes_nothing_with_it(
    run: Any, fake_check: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diag.atomic
    import diag.trace
    from diag.report.diagnosis import Diagnosis

    def fail(path: Path, text: str) -> None:
        raise diag.atomic.WriteError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(diag.atomic, "write_text", fail)
    monkeypatch.setattr(Diagnosis, "to_html", lambda self, path: Path(path))
    trace, page = tmp_path / "trace.parquet", tmp_path / "page.html"
    fake_check.diagnosis = diagnosis("error")
    result = run("check", "m.py:f", "--output", "r.txt", "--html", page, "--trace", trace)
    assert result.code == 2
    assert diag.trace.load(trace).frame.empty
    assert "vanishing-gradient" in result.err and f"diag: wrote {trace}\ndiag: wrote {page}\n" in result.err
    assert result.err.splitlines()[-1] == "diag: error: cannot write r.txt: No space left on device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_all_that_cannot_be_written_is_named_once(run: Any, fake_check: SimpleNamespace, tmp_path: Path) -> None:
    trace = tmp_path / "trace.parquet"
    result = run("check", "m.py:f", "--output", "/dev/full", "--html", "/dev/full", "--trace", trace)
    assert (result.code, trace.exists()) == (2, True)
    assert result.err.splitlines()[-1] == "diag: error: cannot write /dev/full: No space left on device"


def test_the_trace_is_written_before_it_is_judged(run: Any, fake_check: SimpleNamespace, tmp_path: Path) -> None:
    from diag.trace import Trace

    def keep_and_fail() -> None:
        fake_check.calls[-1]["keep"](Trace())
        raise ZeroDivisionError

    fake_check.during = keep_and_fail
    with pytest.raises(ZeroDivisionError):
        run("check", "m.py:f", "--trace", tmp_path / "trace.parquet")
    assert (tmp_path / "trace.parquet").exists()


@pytest.mark.parametrize("option", ["--output", "--html", "--trace"])
def test_a_file_that_cannot_be_written_is_found_before_the_training(
    run: Any, fake_check: SimpleNamespace, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").touch()
    for bad, why in ((tmp_path, "is a folder"), (tmp_path / "file" / "report", "is no folder")):
        result = run("check", "m.py:f", option, bad)
        assert result.code == 2
        assert result.err.startswith(f"diag: error: {option} {bad}")
        assert why in result.err
    assert fake_check.calls == []


def test_an_unknown_format(run: Any, fake_check: SimpleNamespace) -> None:
    result = run("check", "m.py:f", "--format", "yaml")
    assert result.code == 2
    assert "--format" in result.err
    assert "sarif" in result.err


def test_a_progress_bar_where_there_is_a_terminal(
    run: Any, fake_check: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fake_check.during = lambda: fake_check.calls[-1]["progress"](3, 30, 0.25)
    assert run("check", "m.py:f").code == 0
    assert callable(fake_check.calls[-1]["progress"])
