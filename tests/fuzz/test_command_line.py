"""Any command line, and any damage to a run's folder: one clear line and exit code 2, never a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diag.cli.app import main
from tests.gate.runs import healthy, write_run

QUIET = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
COMMANDS = "check watch demo run list report compare gate baseline scale prescribe".split()
OPTIONS = """
--help --format --output --html --trace --fail-on --steps --seeds --baseline --margin --false-alarms --quick --resume
--engine --workers --set --gallery --trust --width --depth --budget --ratio --benchmark --every -x --
""".split()
VALUES = """
text json markdown github junit sarif gitlab nothing -1 0 1e9 nan inf test_loss=0.1 test_loss=x a=b=c missing missing.py
missing.py:build broken.py broken.py:build :: : - . .. /nowhere/at/all ./run ./baseline.json ./empty
""".split()
WORDS = st.sampled_from(OPTIONS + VALUES) | st.text(max_size=12).filter(lambda text: "\0" not in text)


def run(*arguments: str) -> tuple[object, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as ended:
            return ended.code, out.getvalue(), err.getvalue()
    return None, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place with a run, its baseline, a suite that cannot be loaded and an empty folder."""
    path = tmp_path_factory.mktemp("fuzz")
    write_run(path / "run", healthy())
    (path / "broken.py").write_text("this is no Python")
    (path / "empty").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert run("baseline", "run", "--output", "baseline.json")[0] == 0
        yield path


@QUIET
@given(st.sampled_from([*COMMANDS, "chekc"]), st.lists(WORDS, max_size=5))
def test_any_command_line(folder: Path, command: str, words: list[str]) -> None:
    if command == "demo" and "--help" not in words:
        words = [*words, "--no-such-option"]  # it needs nothing, and would train for a minute
    code, out, err = run(command, *words)
    assert code in (0, 1, 2), (code, err)
    if command == "watch":  # what a file raises that is run as a script is shown as Python shows it
        err = re.sub(r"^Traceback .*\n(?:  File \"(?:\./)?[\w.]+\", line .*\n(?:    .*\n)*)+\w+Error: .*\n", "", err)
    assert "Traceback" not in err
    if code == 2:
        assert (out + err).strip()


def damaged(data: bytes, kind: str, place: float) -> bytes:
    """Cut off, overwritten in the middle, or replaced."""
    at = int(place * len(data))
    if kind == "cut":
        return data[:at]
    if kind == "zeros":
        return data[:at] + b"\0" * 40 + data[at + 40 :]
    return {"empty": b"", "text": b"not what it was", "json": b"[1, 2]", "null": b"null"}[kind]


@QUIET
@given(
    st.data(), st.sampled_from(["cut", "zeros", "empty", "text", "json", "null", "gone", "folder"]), st.floats(0, 0.95)
)
def test_any_damage_to_a_run(folder: Path, data: st.DataObject, kind: str, place: float) -> None:
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "run", copy)
    needed = sorted(one for one in copy.rglob("*") if one.is_file() and one.suffix in (".json", ".parquet", ".zip"))
    file = data.draw(st.sampled_from(needed))
    whole = file.read_bytes()
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind != "gone":
        file.write_bytes(damaged(whole, kind, place))
    for arguments in (
        ("gate", "copy", "--baseline", "run"),
        ("gate", "run", "--baseline", "copy"),
        ("baseline", "copy", "--output", os.devnull),
        ("report", "copy", "--format", "markdown"),
        ("compare", "run", "copy"),
    ):
        code, _out, err = run(*arguments)
        assert "Traceback" not in err, (arguments, file)
        assert code in (0, 1, 2)
        if arguments[0] in ("gate", "baseline"):
            assert code == 2, (arguments, file.relative_to(copy), kind, err)
            assert len(err.strip().splitlines()) == 1
