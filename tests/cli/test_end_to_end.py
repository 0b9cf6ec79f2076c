"""The commands with nothing replaced: real models, real scripts, real files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MODEL = """
import torch
import diag

def net():
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

def workload(loss, batches=None):
    model = net()
    if batches is None:
        batches = [torch.randn(16, 6) for _ in range(3)]
    return diag.Workload(model, batches, loss, torch.optim.SGD(model.parameters(), lr=0.01))

def fine():
    print("building")
    return workload(lambda model, batch: (model(batch) - 1).square().mean())

def vector_loss():
    return workload(lambda model, batch: model(batch).sum(1))

def number_loss():
    return workload(lambda model, batch: model(batch).mean().item())

def detached_loss():
    return workload(lambda model, batch: model(batch).mean().detach())

def no_batches():
    return workload(lambda model, batch: model(batch).mean(), [])

def spent():
    batches = iter([torch.randn(16, 6)])
    next(batches)
    return workload(lambda model, batch: model(batch).mean(), batches)
"""

SCRIPT = """
import sys
import torch

if len(sys.argv) > 1 and sys.argv[1] == "--early":
    sys.exit(int(sys.argv[2]))
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(12):
    x = torch.randn(32, 6)
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 7 and "--raise" in sys.argv:
        raise ValueError("of the script")
print("args", sys.argv[1:], __name__)
sys.exit(int(sys.argv[-1]) if "--exit" in sys.argv else 0)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def test_check_writes_everything(run: Any, folder: Path) -> None:
    result = run(
        "check", "model.py:fine", "--steps", "4", "--format", "json", "--trace", "t.parquet", "--html", "r.html"
    )
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert (report["schema"], report["healthy"]) == (1, True)
    assert "building" in result.err
    from diag.trace import load

    trace = load(folder / "t.parquet")
    assert sorted(trace.steps["step"]) == [0, 1, 2, 3]
    assert {"0", "1", "2", "0.weight"} <= set(trace.frame["site"])
    assert "<html" in (folder / "r.html").read_text()


def test_check_of_a_bare_module(run: Any) -> None:
    result = run("check", "model.py:net", "--input", "32x6", "--format", "json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["findings"] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model.py:vector_loss"], "scalar"),
        (["model.py:number_loss"], "tensor"),
        (["model.py:detached_loss"], "gradient"),
        (["model.py:no_batches"], "batches are empty"),
        (["model.py:spent"], "spent"),
        (["model.py:net"], "--input"),
        (["model.py:net", "--input", "32x7"], "--input 32x7 does not fit Sequential: RuntimeError"),
        (["model.py:net", "--input", "32x6:int64"], "--input 32x6:int64 does not fit Sequential: RuntimeError"),
        (["model.py:net", "--input", "32by6"], "is no shape"),
        (["model.py:nett"], "did you mean 'net'"),
        (["modle.py:net"], "did you mean 'model.py'"),
    ],
)
def test_a_mistake_is_one_line(run: Any, arguments: list[str], expected: str) -> None:
    result = run("check", *arguments)
    assert result.code == 2
    assert result.out == ""
    line = result.err
    assert line.startswith("diag: error: ")
    assert line.count("\n") == 1
    assert expected in line


def test_their_traceback_and_one_line(run: Any, folder: Path) -> None:
    (folder / "broken.py").write_text("def f():\n    return 1 / 0\nf()\n")
    result = run("check", "broken.py:f")
    assert result.code == 2
    lines = result.err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2] == "ZeroDivisionError: division by zero"
    assert lines[-1] == "diag: error: importing broken.py failed: ZeroDivisionError: division by zero"
    assert "diag/" not in "".join(lines[:-1])


RULE = """
import diag

@diag.rule("always-{name}")
def always(evidence):
    steps = len(evidence.trace.steps)
    yield diag.Finding("always-{name}", "error", "0", f"{{steps}} steps were seen", {{"steps": steps}})
"""


@pytest.fixture
def rules() -> Iterator[dict[str, Any]]:
    """The registered rules; what a test adds is taken back."""
    from diag.rules.registry import RULES

    before, path = dict(RULES), list(sys.path)
    yield RULES
    sys.path[:] = path
    for name in set(RULES) - set(before):
        del RULES[name]


def test_a_rule_of_the_users_own(
    run: Any, folder: Path, rules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pyproject.toml").write_text('[tool.diag]\nrules = ["my_rules_for_check"]\n')
    (folder / "my_rules_for_check.py").write_text(RULE.format(name="check"))
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    result = run("check", "../model.py:fine", "--steps", "3", "--format", "json")
    assert result.code == 1, result.err
    (finding,) = [one for one in json.loads(result.out)["findings"] if one["rule"] == "always-check"]
    assert (finding["message"], finding["evidence"]) == ("3 steps were seen", {"steps": 3})


@pytest.mark.parametrize("command", [["check", "model.py:fine"], ["watch", "train.py"]])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("[tool.diag]\nrule = []\n", "did you mean 'rules'"),
        ("[tool.diag.thresholds]\nvanishing_eror = 1\n", "vanishing_error"),
    ],
)
def test_bad_settings_are_found_before_the_training(
    run: Any, folder: Path, command: list[str], settings: str, expected: str
) -> None:
    (folder / "pyproject.toml").write_text(settings)
    result = run(*command)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("diag: error: ")
    assert expected in result.err
    assert "building" not in result.err


def test_watch_leaves_the_script_its_own(run: Any) -> None:
    result = run("watch", "--steps", "9", "train.py", "--lr", "1", "--help")
    assert result.code == 0, result.err
    assert result.out == "args ['--lr', '1', '--help'] __main__\n"
    assert result.err != ""


def test_watch_json_to_a_file(run: Any, folder: Path) -> None:
    result = run("watch", "--format", "json", "--output", "r.json", "train.py")
    assert result.code == 0, result.err
    assert json.loads((folder / "r.json").read_text())["schema"] == 1
    assert result.out == "args [] __main__\n"


@pytest.mark.parametrize(("arguments", "code"), [(["--exit", "3"], 3), (["--early", "4"], 4), (["--early", "0"], 2)])
def test_watch_exit_code(run: Any, arguments: list[str], code: int) -> None:
    assert run("watch", "train.py", *arguments).code == code


def test_watch_reports_what_was_seen_before_the_script_failed(run: Any, folder: Path) -> None:
    result = run("watch", "--trace", "t.parquet", "train.py", "--raise")
    assert result.code == 1
    assert 'raise ValueError("of the script")' in result.err
    assert "diag: train.py failed: ValueError: of the script" in result.err
    from diag.trace import load

    assert load(folder / "t.parquet").steps["step"].max() == 7


def test_watch_without_a_script(run: Any) -> None:
    result = run("watch", "trian.py")
    assert result.code == 2
    assert result.err.startswith("diag: error: ")
    assert "did you mean 'train.py'" in result.err
