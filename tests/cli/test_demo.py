"""`diag demo`: real digits, two networks, one page; the numbers it prints are the ones it measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from diag import demo


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> demo.Demo:
    return demo.run_demo(tmp_path_factory.mktemp("demo") / "new", steps=20)


def test_the_sigmoid_stack_vanishes_and_the_relu_stack_holds(result: demo.Demo) -> None:
    sigmoid, relu = result.diagnoses
    first, last = demo.gradient_rms(sigmoid)
    # Each layer passes on at most 1/4 (the sigmoid's slope) times 1/sqrt(3) (the init's gain): (0.144)^10 = 4e-9.
    assert first / last < 1e-7
    first, last = demo.gradient_rms(relu)
    assert 0.05 < first / last < 20
    assert relu.healthy


def test_the_verdict_on_the_sigmoid_stack(result: demo.Demo) -> None:
    sigmoid = result.diagnoses[0]
    assert not sigmoid.healthy
    assert "vanishing-gradient" in [one.rule for one in sigmoid.at_least("error")]


def test_one_page_shows_both(result: demo.Demo) -> None:
    text = result.page.read_text()
    assert result.page.is_absolute()
    for diagnosis in result.diagnoses:
        assert diagnosis.title in text


def test_legacy_init_has_variance_one_over_three_fan_in() -> None:
    weight = torch.empty(400, 300)
    demo.legacy_uniform_(weight, torch.Generator().manual_seed(1))
    # The variance of 120,000 uniform draws is known to about 0.3 %.
    assert float(weight.var()) == pytest.approx(1 / 900, rel=0.02)
    assert float(weight.abs().max()) <= 1 / 300**0.5


def test_the_same_numbers_every_time() -> None:
    models = [demo.network(torch.nn.ReLU, demo.he_normal_, torch.Generator().manual_seed(3)) for _ in range(2)]
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_digits_are_standardized_and_complete() -> None:
    batches = demo.digit_batches(torch.Generator().manual_seed(0))
    pixels = torch.cat([pixels for pixels, _ in batches])
    assert pixels.shape == (1792, 64)
    assert float(pixels.mean()) == pytest.approx(0, abs=0.01)
    assert set(torch.cat([labels for _, labels in batches]).tolist()) == set(range(10))


def test_the_command(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(Path.cwd() / ".venv" / "bin" / "diag")])
    shown = run("demo", "--output", tmp_path / "page", "--steps", "5")
    assert shown.code == 0
    assert f"{tmp_path / 'page' / 'report.html'}\n" in shown.out
    assert (tmp_path / "page" / "report.html").is_file()
    assert "first layer" in shown.out
    assert ".venv/bin/diag check path/to/model.py:build --html report.html" in shown.out


def test_without_scikit_learn(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    shown = run("demo", "--output", tmp_path / "page")
    assert shown.code == 2
    assert shown.err == (
        "diag: error: the demonstration needs scikit-learn, which is not installed: pip install 'diag[suites]'\n"
    )
    assert not (tmp_path / "page").exists()
