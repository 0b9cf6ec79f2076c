"""What a watched script leaves when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from diag.errors import DiagError
from diag.probe.probe import Probe
from diag.trace import load
from diag.train.keep import VARIABLE, Keeper
from diag.train.script import watch_script

SCRIPT = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
batch, target = torch.randn(16, 6), torch.randint(2, (16,))
for _ in range({steps}):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(batch), target).backward()
    optimizer.step()
"""


def watched(script: Path, trace: Path, seconds: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, VARIABLE: seconds, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "diag", "watch", "--trace", str(trace), str(script)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system")
@pytest.mark.parametrize("later", [0.0, 0.31])
def test_killed_at_any_moment_it_leaves_a_trace_that_opens(later: float, tmp_path: Path) -> None:
    script, trace = tmp_path / "train.py", tmp_path / "out" / "trace.parquet"
    script.write_text(SCRIPT.format(steps=1_000_000))
    process = watched(script, trace, "0.05")
    try:
        until = time.monotonic() + 120
        while not trace.exists() and time.monotonic() < until and process.poll() is None:
            time.sleep(0.01)
        time.sleep(later)
    finally:
        process.kill()
        process.wait()
    left = load(trace)
    assert len(left.steps) >= 1
    script.write_text(SCRIPT.format(steps=5))
    undisturbed = watch_script(script, []).trace
    common = min(5, len(left.steps))
    for one, other in ((left.frame, undisturbed.frame), (left.steps, undisturbed.steps)):
        expected = other[other["step"] < common].reset_index(drop=True)
        pd.testing.assert_frame_equal(one[one["step"] < common].reset_index(drop=True), expected, check_dtype=False)


def test_the_script_goes_on_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(steps=3))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, "0.000001")
    outcome = watch_script(script, [], trace=tmp_path / "file" / "trace.parquet")
    assert outcome.exit_code == 0
    assert len(outcome.trace.steps) == 3
    assert capsys.readouterr().err.count("what is measured will be written when the script ends") == 1


def test_nothing_is_written_before_it_is_time(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(steps=3))
    watch_script(script, [], trace=tmp_path / "trace.parquet")
    assert not (tmp_path / "trace.parquet").exists()


def test_the_first_comes_by_the_asked_time_and_the_next_within_1_percent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, saved = [100.0], []

    def save(trace: object, path: Path) -> None:
        saved.append(now[0])
        now[0] += 0.5

    monkeypatch.setattr("diag.train.keep.save", save)
    monkeypatch.setattr("diag.train.keep.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setenv(VARIABLE, "1")
    probe = Probe()
    Keeper(probe, tmp_path / "trace.parquet")
    while now[0] < 200:
        now[0] += 0.25
        probe.on_closed()
    assert saved == [101.0, 151.5]


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_no_number_of_seconds(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(DiagError, match=f"{VARIABLE} is a number of seconds above 0, such as 30; got '{text}'"):
        Keeper(Probe(), tmp_path / "trace.parquet")
