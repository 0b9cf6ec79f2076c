"""The local engine: workers that die, fail, print, and are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diag.errors import DiagError
from diag.suite import local
from diag.suite.errors import SuiteError
from diag.suite.load import load_suite
from diag.suite.local import LocalEngine
from diag.suite.run import run_suite
from tests.suite.conftest import NUMBERS, Write

pytestmark = pytest.mark.slow

DIES = """
def dies(seed, always=False):
    mark = os.path.join(os.environ["MARKS"], f"{always}-{seed}")
    if always or not os.path.exists(mark):
        open(mark, "a").write("x")
        os.kill(os.getpid(), 9)
    return {"value": seed}

def lives(seed):
    print("this is no answer")
    return {"threads": torch.get_num_threads()}

suite = diag.Suite(
    "Who lives?",
    {"once": diag.Experiment(dies), "always": diag.Experiment(dies, always=True), "lives": diag.Experiment(lives)},
    seeds=1,
)
"""
SLOW = """
def slow(seed):
    open(os.path.join(os.environ["MARKS"], f"began-{seed}"), "w").close()
    time.sleep(0.2 if seed < 2 or os.environ.get("FAST") else 60)
    return {"value": float(torch.randn(()))}

suite = diag.Suite("How long?", {"slow": diag.Experiment(slow)}, seeds=4)
"""


def test_a_worker_that_is_killed_is_replaced(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKS", str(tmp_path))
    states: list[tuple[str, str]] = []
    run = run_suite(
        write(DIES),
        output=tmp_path / "run",
        jobs=2,
        watcher=lambda event, *_: states.append((event.task.case, event.state)),
    )
    assert run.results.values("value", case="once").to_dict() == {0: 0.0}
    assert run.results.values("threads", case="lives").to_dict() == {0: 1.0}
    assert list(run.failures.errors) == ["always seed 0"]
    assert "died 3 times (exit code -9)" in run.failures.errors["always seed 0"]
    assert states.count(("once", "lost")) == 1
    assert states.count(("always", "lost")) == local.ATTEMPTS - 1


def test_a_trial_that_fails_does_not_end_the_others_and_is_run_again(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
def fragile(seed):
    if seed == 1 and "MENDED" not in os.environ:
        raise ValueError("seed 1\\nis bad")
    return {"value": seed}

suite = diag.Suite("Who fails?", {"fragile": diag.Experiment(fragile)}, seeds=3)
"""
    run = run_suite(write(body), output=tmp_path / "run", jobs=1)
    assert run.failures.errors == {"fragile seed 1": "ValueError: seed 1"}
    assert "fragile" in run.failures.tracebacks["fragile seed 1"]
    assert run.results.values("value", case="fragile").to_dict() == {0: 0.0, 2: 2.0}
    monkeypatch.setenv("MENDED", "1")
    begun: list[int] = []
    run = run_suite(
        tmp_path / "mine.py",
        output=tmp_path / "run",
        resume=True,
        watcher=lambda event, *_: begun.append(event.task.seed) if event.state == "running" else None,
    )
    assert begun == [1]
    assert not run.failures.errors
    assert len(run.results.records) == 3


def _wait_for(path: Path, seconds: float = 150) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "how", [*(pytest.param(one, marks=pytest.mark.nightly) for one in (signal.SIGINT, signal.SIGTERM)), signal.SIGKILL]
)
def test_an_interrupted_run_is_resumed_where_it_was(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    suite, output = write(SLOW), tmp_path / "run"
    command = [sys.executable, "-m", "diag", "run", str(suite), "--jobs", "1", "--output", str(output)]
    environment = {**os.environ, "MARKS": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    _wait_for(tmp_path / "began-2")
    if how is signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: to every process of the group
    else:
        process.send_signal(how)
    _, said = process.communicate(timeout=30)
    if how is not signal.SIGKILL:
        assert process.returncode == 128 + how
        assert said.splitlines()[-1].startswith("diag: interrupted: 2 trials are kept in ")
        assert "Traceback" not in said
    # The worker has noticed, too.
    end = time.monotonic() + 10
    while _group_lives(process.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _group_lives(process.pid)
    assert len(list((output / "trials").iterdir())) == 2  # whole records, and no temporary file

    monkeypatch.setenv("MARKS", str(tmp_path))
    monkeypatch.setenv("FAST", "1")
    begun: list[int] = []
    resumed = run_suite(
        suite,
        output=output,
        resume=True,
        jobs=2,
        watcher=lambda event, *_: begun.append(event.task.seed) if event.state == "running" else None,
    )
    whole = run_suite(suite, output=tmp_path / "undisturbed", jobs=1)
    assert sorted(begun) == [2, 3]
    assert resumed.results.frame.equals(whole.results.frame)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_full_disk_ends_the_run_in_one_line_and_loses_nothing(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker imports a stand-in for a disk that has room for two records.
    full = """
import errno, pathlib, diag.atomic as atomic
_write = atomic._replace
def _full(target, data):
    if len([*target.parent.glob("*.trial")]) >= 2:
        raise OSError(errno.ENOSPC, "No space left on device")
    _write(target, data)
if "FULL" in os.environ:
    atomic._replace = _full
"""
    suite = load_suite(write(full + NUMBERS))
    from diag import atomic

    monkeypatch.setattr(atomic, "_replace", atomic._replace)  # put back what loading the suite here may replace
    monkeypatch.setenv("FULL", "1")
    with pytest.raises(DiagError, match=r"cannot write .*: No space left on device; .*--resume goes on") as caught:
        run_suite(suite, output=tmp_path / "run", jobs=1)
    assert "\n" not in str(caught.value)
    assert len(list((tmp_path / "run" / "trials").glob("*.trial"))) == 2
    monkeypatch.delenv("FULL")
    assert len(run_suite(suite, output=tmp_path / "run", resume=True).results.records) == 6


def test_jobs() -> None:
    assert LocalEngine().jobs == local.default_jobs() >= 1
    with pytest.raises(SuiteError, match="jobs is a whole number from 1, got 0"):
        LocalEngine(0)
