"""Scripts run as they are: their arguments, output, exit codes and exceptions stay theirs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from diag.errors import TargetError
from diag.train.script import ScriptOutcome, watch_script

TRAIN = """
import sys
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.randn(16, 4), torch.randint(0, 2, (16,))
for step in range({steps}):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
"""


def write(folder: Path, text: str, name: str = "train.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def run(folder: Path, text: str, *argv: str, steps: int | None = None, every: int = 1) -> ScriptOutcome:
    return watch_script(write(folder, text), list(argv), steps=steps, every=every)


def test_finds_model_optimizer_and_loss_by_itself(tmp_path: Path) -> None:
    outcome = run(tmp_path, TRAIN.format(steps=5))
    assert (outcome.exit_code, outcome.error, outcome.interrupted) == (0, None, False)
    assert list(outcome.trace.steps["step"]) == [0, 1, 2, 3, 4]
    assert outcome.trace.steps["loss"].notna().all()
    assert (outcome.trace.steps["lr"] == 0.1).all()
    assert {"0", "1", "2", "0.weight"} <= set(outcome.trace.frame["site"])


def test_runs_as_main_with_its_own_arguments_and_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "VALUE = 41\n", "beside.py")
    text = "import sys, beside\nprint(__name__, sys.argv[1:], beside.VALUE, sys.argv[0] == __file__)\n"
    argv, path, main = list(sys.argv), list(sys.path), sys.modules["__main__"]
    outcome = run(tmp_path, text, "--lr", "3e-4")
    sys.modules.pop("beside")
    assert outcome.exit_code == 0
    assert capsys.readouterr().out == "__main__ ['--lr', '3e-4'] 41 True\n"
    assert (sys.argv, sys.path, sys.modules["__main__"]) == (argv, path, main)


def test_no_future_feature_of_ours_is_in_force_in_the_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "def f(x: int) -> float: ...\nprint(f.__annotations__)\n"
    assert run(tmp_path, text).exit_code == 0
    assert capsys.readouterr().out == "{'x': <class 'int'>, 'return': <class 'float'>}\n"


@pytest.mark.parametrize(("call", "code"), [("sys.exit()", 0), ("sys.exit(3)", 3), ("sys.exit('why')", 1)])
def test_keeps_the_exit_code(tmp_path: Path, call: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(tmp_path, TRAIN.format(steps=2) + call)
    assert outcome.exit_code == code
    assert len(outcome.trace.steps) == 2
    assert ("why" in capsys.readouterr().err) == ("why" in call)


def test_reports_what_was_seen_before_a_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(tmp_path, TRAIN.format(steps=3) + "\nraise ValueError('broken here')\n")
    assert (outcome.exit_code, outcome.error) == (1, "ValueError: broken here")
    assert len(outcome.trace.steps) == 3
    error = capsys.readouterr().err
    assert "train.py" in error and "broken here" in error
    assert "diag/train" not in error, "the traceback is theirs alone"


def test_an_interrupt_is_told_and_reported(tmp_path: Path) -> None:
    outcome = run(tmp_path, TRAIN.format(steps=3) + "\nraise KeyboardInterrupt\n")
    assert outcome.interrupted
    assert outcome.exit_code == 130
    assert len(outcome.trace.steps) == 3


def test_a_syntax_error_is_shown_as_theirs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(tmp_path, "for x in\n")
    assert outcome.exit_code == 1
    assert "SyntaxError" in capsys.readouterr().err
    assert outcome.trace.frame.empty


def test_steps_stops_measuring_but_not_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(tmp_path, TRAIN.format(steps=6) + "\nprint('done', step)\n", steps=2)
    assert list(outcome.trace.steps["step"]) == [0, 1]
    assert "done 5" in capsys.readouterr().out


def test_every_measures_some_steps_and_knows_every_loss(tmp_path: Path) -> None:
    outcome = run(tmp_path, TRAIN.format(steps=7), every=3)
    assert sorted(outcome.trace.frame["step"].unique()) == [0, 3, 6]
    assert outcome.trace.steps["loss"].notna().all()
    assert len(outcome.trace.steps) == 7


def test_two_models_with_two_optimizers_are_told_apart(tmp_path: Path) -> None:
    text = """
import torch
from torch import nn
class Maker(nn.Linear): pass
class Judge(nn.Linear): pass
maker, judge = Maker(3, 3), Judge(3, 1)
a = torch.optim.SGD(maker.parameters(), lr=0.1)
b = torch.optim.SGD(judge.parameters(), lr=0.2)
for _ in range(4):
    b.zero_grad()
    (judge(torch.randn(5, 3)).mean() - judge(maker(torch.randn(5, 3)).detach()).mean()).backward()
    b.step()
    a.zero_grad()
    judge(maker(torch.randn(5, 3))).mean().backward()
    a.step()
"""
    outcome = run(tmp_path, text)
    assert set(outcome.trace.coverage["models"]) == {"Judge", "Maker"}
    assert outcome.trace.steps["optimizer"].nunique() == 2
    assert list(outcome.trace.steps["lr"][:4]) == [0.2, 0.1, 0.2, 0.1]
    assert {"Judge", "Maker"} <= {site.split(".")[0] for site in outcome.trace.frame["site"]}


def test_training_is_bit_identical_to_the_plain_script(tmp_path: Path) -> None:
    text = TRAIN.format(steps=8) + "\ntorch.save(model.state_dict(), sys.argv[1])\n"
    script = write(tmp_path, text)
    subprocess.run([sys.executable, str(script), str(tmp_path / "plain.pt")], check=True)
    watch_script(script, [str(tmp_path / "watched.pt")])
    plain, watched = torch.load(tmp_path / "plain.pt"), torch.load(tmp_path / "watched.pt")
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_a_missing_script_suggests_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "", "train.py")
    with pytest.raises(TargetError, match=r"no script at .*trian\.py \(did you mean 'train\.py'\?\)"):
        watch_script(tmp_path / "trian.py", [])


@pytest.mark.slow
def test_a_terminated_script_still_reports(tmp_path: Path) -> None:
    endless = TRAIN.replace("range({steps})", "__import__('itertools').count()") + "    print(step, flush=True)\n"
    script = write(tmp_path, endless)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "diag", "watch", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != "12":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 60
    _, error = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
    assert process.returncode == 128 + signal.SIGTERM
    assert "observed:" in error


def test_a_notebook_is_no_script(tmp_path: Path) -> None:
    (tmp_path / "n.ipynb").write_text('{"cells": []}')
    with pytest.raises(
        TargetError, match=r"n\.ipynb is a notebook, which diag watch does not run: make a script of it"
    ):
        watch_script(tmp_path / "n.ipynb", [])


@pytest.mark.parametrize(("status", "code"), [(0, 2), (3, 3)])
@pytest.mark.parametrize("traced", [True, False])
def test_a_script_that_ends_by_os_exit_says_that_nothing_is_reported(
    tmp_path: Path, status: int, code: int, traced: bool
) -> None:
    """With 0 it would read as a healthy training."""
    (tmp_path / "train.py").write_text(TRAIN.format(steps=3) + f"\nimport os\nos._exit({status})\n")
    words = [sys.executable, "-m", "diag", "watch", *(["--trace", "t.parquet"] if traced else []), "train.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code
    assert f"diag: train.py ends by os._exit({status}), which ends diag too: no report" in done.stderr
    assert (tmp_path / "t.parquet").exists() == traced
    assert ("--trace FILE keeps" in done.stderr) != traced


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("end", ["sys.exit(0)", "os._exit(0)", "pass"])
def test_a_child_that_is_forked_reports_nothing(tmp_path: Path, end: str) -> None:
    child = f"\nimport os, sys\nif os.fork() == 0:\n    {end}\nelse:\n    os.wait()\n"
    (tmp_path / "train.py").write_text(TRAIN.format(steps=3) + child)
    words = [sys.executable, "-m", "diag", "watch", "--trace", "t.parquet", "train.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    told = done.stdout + done.stderr
    assert (told.count("observed: "), told.count("wrote t.parquet"), told.count("os._exit")) == (1, 1, 0)


def test_a_script_that_goes_elsewhere_takes_no_report_along(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "train.py").write_text("import os\nos.chdir('away')\n" + TRAIN.format(steps=3))
    words = [sys.executable, "-m", "diag", "watch", "--trace", "t.parquet", "--html", "page.html", "train.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (tmp_path / "t.parquet").exists() and (tmp_path / "page.html").exists(), done.stderr
    assert list((tmp_path / "away").iterdir()) == []
