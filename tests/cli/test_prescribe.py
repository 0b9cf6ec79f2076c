"""`diag prescribe`: what it passes on, where its report goes, and the exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.report.test_prescription import prescription, trial

SICK = """
import torch
from torch import nn
from torch.nn import functional as F
import diag

def build(lr=1e-8):
    print("building")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    x = torch.randn(32, 8)
    batches = [(x, (x[:, 0] > 0).long())] * 20
    loss = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])
    return diag.Workload(model, batches, loss, torch.optim.SGD(model.parameters(), lr=lr))

def fine():
    return build(0.3)
"""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`.found` is what is prescribed, `.calls` says how it was asked for."""
    state = SimpleNamespace(found=prescription(trial()), calls=[])

    def prescribe(*arguments: Any, **options: Any) -> Any:
        state.calls.append((arguments, options))
        print("epoch 1")
        return state.found

    for name, content in (
        ("diag.prescribe.prescribe", {"prescribe": prescribe, "Prescription": type(state.found)}),
        ("diag.train.target", {"load_target": lambda spec, *, input_shape=None: (spec, input_shape)}),
    ):
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return state


@pytest.mark.parametrize(
    ("verdict", "findings", "code"), [("helped", 1, 0), ("did not help", 1, 1), ("diverged", 1, 1), ("diverged", 0, 0)]
)
def test_exit_code(run: Any, fake: SimpleNamespace, verdict: Any, findings: int, code: int) -> None:
    fake.found = prescription(trial(verdict), findings=findings)
    assert run("prescribe", "m.py:f").code == code


def test_what_is_passed_on(run: Any, fake: SimpleNamespace) -> None:
    run("prescribe", "m.py:f")
    numbers = ["--steps", "9", "--seeds", "2", "--most", "4", "--budget", "5.5"]
    run("prescribe", "m.py:f", *numbers, "--all", "--input", "2x3")
    first, second = fake.calls
    assert first == ((("m.py:f", None), 60, 3, 8), {"everything": False, "budget": None, "progress": None})
    assert second == ((("m.py:f", "2x3"), 9, 2, 4), {"everything": True, "budget": 5.5, "progress": None})


@pytest.mark.parametrize("format", ["text", "json", "markdown"])
def test_stdout_is_the_reports_alone(run: Any, fake: SimpleNamespace, tmp_path: Path, format: str) -> None:
    shown = run("prescribe", "m.py:f", "--format", format)
    assert "epoch 1" not in shown.out and "epoch 1" in shown.err
    assert "learning rate 0.14" in shown.out
    if format == "json":
        assert json.loads(shown.out) == fake.found.to_dict()
    file = tmp_path / "new" / "report"
    written = run("prescribe", "m.py:f", "--format", format, "--output", file)
    assert file.read_text() == shown.out
    assert written.out == ""
    assert "helped most" in written.err and f"diag: wrote {file}" in written.err


def test_html(run: Any, fake: SimpleNamespace, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run("prescribe", "m.py:f", "--seeds", "4", "--html", page)
    assert f"diag: wrote {page}" in result.err
    assert "diag prescribe m.py:f --steps 60 --seeds 4 --most 8" in page.read_text()


def test_a_file_that_cannot_be_written_is_found_before_the_training(
    run: Any, fake: SimpleNamespace, tmp_path: Path
) -> None:
    result = run("prescribe", "m.py:f", "--html", tmp_path)
    assert result.code == 2
    assert result.err.startswith(f"diag: error: --html {tmp_path} is a folder")
    assert fake.calls == []


@pytest.mark.parametrize(("option", "value"), [("--steps", "4"), ("--seeds", "0"), ("--format", "yaml")])
def test_usage(run: Any, fake: SimpleNamespace, option: str, value: str) -> None:
    result = run("prescribe", "m.py:f", option, value)
    assert result.code == 2
    assert option in result.err
    assert fake.calls == []


def test_from_a_file_to_its_cure(run: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(SICK)
    result = run("prescribe", f"{tmp_path}/model.py:build", "--steps", "20", "--most", "1", "--format", "json")
    assert result.code == 0
    content = json.loads(result.out)
    first = content["remedies"][0]
    assert first["helped"] and first["name"].startswith("learning rate")
    assert first["effect"]["high"] < 0
    assert "stalled-update" in first["findings_gone"]
    assert "building" in result.err


def test_a_healthy_one(run: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(SICK)
    result = run("prescribe", f"{tmp_path}/model.py:fine", "--steps", "20")
    assert (result.code, result.out.split("   ")[0].strip()) == (0, "healthy: nothing was tried")


def test_a_mistake_is_one_line(run: Any, tmp_path: Path) -> None:
    result = run("prescribe", f"{tmp_path}/missing.py:build")
    assert result.code == 2
    assert result.err.startswith("diag: error: no file")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_an_output_that_cannot_be_written_loses_no_report(run: Any, fake: SimpleNamespace, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    shown = run("prescribe", "m.py:f").out
    result = run("prescribe", "m.py:f", "--output", "/dev/full", "--html", page)
    assert result.code == 2 and page.exists()
    assert shown in result.err
    assert result.err.splitlines()[-1] == "diag: error: cannot write /dev/full: No space left on device"
