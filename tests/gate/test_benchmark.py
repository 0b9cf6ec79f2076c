"""Ratios between benchmarks of one run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diag.gate.benchmark import hold_ratios
from diag.gate.metrics import GateError


def entry(name: str, median: float, iqr: float = 0.0, rounds: int = 100, module: str = "bench_a.py") -> dict[str, Any]:
    return {
        "name": name, "fullname": f"{module}::{name}",
        "stats": {"median": median, "iqr": iqr, "rounds": rounds, "mean": 99.0},
    }  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bench.json"
    entries = [entry("plain", 2.0), entry("watched", 3.0), entry("step[a/b]", 4.0), entry("noisy", 3.0, 2.0, 4)]
    path.write_text(json.dumps({"benchmarks": entries}))
    return path


@pytest.mark.parametrize(
    ("text", "ratio", "answer"),
    [
        ("watched/plain<=1.6", 1.5, "pass"),
        ("watched/plain<1.4", 1.5, "regression"),
        (" watched / plain <= 1.5 ", 1.5, "pass"),
        ("plain/watched<=0.5", 2 / 3, "regression"),
        ("step[a/b]/plain<=1.9", 2.0, "regression"),
        ("plain/step[a/b]<=5e-1", 0.5, "pass"),
        ("bench_a.py::watched/bench_a.py::plain<=1.4", 1.5, "regression"),
    ],
)
def test_a_ratio_is_of_medians(file: Path, text: str, ratio: float, answer: str) -> None:
    (found,) = hold_ratios(file, [text])
    assert (found.ratio, found.answer) == (pytest.approx(ratio), answer)
    assert f"= {ratio:.3g} [" in found.text


def test_a_noisy_machine_is_no_regression(file: Path) -> None:
    sure, noisy, fine = hold_ratios(file, ["watched/plain<=1.4", "noisy/plain<=1.4", "noisy/plain<=1.6"])
    assert (sure.answer, noisy.answer, fine.answer) == ("regression", "cannot tell", "pass")
    # iqr 2 of 4 rounds: 1.25 / 1.35 * 2 / 2, a third of 3; two of these either way, of the logarithm.
    factor = math.exp(2 * 1.25 / 1.35 / 3)
    assert (noisy.low, noisy.high) == pytest.approx((1.5 / factor, 1.5 * factor))
    assert hold_ratios(file, ["noisy/plain<=0.5"])[0].answer == "regression"


def test_the_interval_holds_the_ratio_about_as_often_as_it_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path, inside, runs = tmp_path / "bench.json", 0, 200
    for _ in range(runs):
        entries = []
        for name, median in (("a", 3.0), ("b", 2.0)):
            times = median * np.exp(0.1 * rng.standard_normal(60))
            low, middle, high = np.percentile(times, [25, 50, 75])
            entries.append(entry(name, float(middle), float(high - low), len(times)))
        path.write_text(json.dumps({"benchmarks": entries}))
        (found,) = hold_ratios(path, ["a/b<=1"])
        inside += found.low < 1.5 < found.high
    # Two standard errors: 95.4 %, with 200 tries 0.90 to 0.99.
    assert 0.90 < inside / runs < 0.99


def test_two_modules_may_use_one_name(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    entries = [entry("step", 1.0), entry("step", 9.0, module="bench_b.py"), entry("plain", 3.0)]
    path.write_text(json.dumps({"benchmarks": entries}))
    with pytest.raises(GateError, match="no benchmark 'step' in the file, or several of that name"):
        hold_ratios(path, ["step/plain<=5"])
    assert hold_ratios(path, ["bench_b.py::step/plain<=5"])[0].ratio == pytest.approx(3.0)


@pytest.mark.parametrize(
    "text",
    ["watched", "watched<=1", "watched/plain", "watched/plain<=", "watched/plain<=x", "watched/plain<=-1",
     "watched/plain<=0", "watched/plain<=1e999", "watched/plain>=1", "/<=1", ""],
)  # fmt: skip
def test_what_is_no_ratio(file: Path, text: str) -> None:
    with pytest.raises(GateError, match=r"a ratio reads 'A/B<=1\.2', with the names|no benchmark ''"):
        hold_ratios(file, [text])


def test_an_unknown_benchmark_is_named_with_its_neighbor(file: Path) -> None:
    with pytest.raises(GateError, match=r"no benchmark 'wached' in the file.* \(did you mean 'watched'\?\)"):
        hold_ratios(file, ["wached/plain<=1"])
    with pytest.raises(GateError, match=r"no benchmark 'plane'"):
        hold_ratios(file, ["watched/plane<=1"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"is no JSON of pytest-benchmark \(JSONDecodeError"),
        ("[]", r"is no JSON of pytest-benchmark \(TypeError"),
        ("{}", r"is no JSON of pytest-benchmark \(KeyError"),
        ('{"benchmarks": [{"name": "a"}]}', r"is no JSON of pytest-benchmark \(KeyError"),
    ],
)
def test_another_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content)
    with pytest.raises(GateError, match=message):
        hold_ratios(path, ["a/b<=1"])
    with pytest.raises(GateError, match=r"no file .*gone.json: make one with 'pytest --benchmark-json="):
        hold_ratios(tmp_path / "gone.json", ["a/b<=1"])


@pytest.mark.parametrize("stats", [{"rounds": 1}, {"median": 0.0}, {"iqr": math.nan}, {"median": -1.0}])
def test_what_gives_no_interval_is_no_pass(tmp_path: Path, stats: dict[str, Any]) -> None:
    path = tmp_path / "bench.json"
    odd = entry("odd", 1.0)
    odd["stats"] |= stats
    path.write_text(json.dumps({"benchmarks": [odd, entry("plain", 1.0)]}))
    for text in ("odd/plain<=9", "plain/odd<=9"):
        with pytest.raises(GateError, match=r"the benchmark 'odd' has .* needs at least two rounds that took time"):
            hold_ratios(path, [text])
    del odd["stats"]["iqr"]
    path.write_text(json.dumps({"benchmarks": [odd, entry("plain", 1.0)]}))
    with pytest.raises(GateError, match=r"the benchmark 'odd' has no median, iqr and rounds \(KeyError\)"):
        hold_ratios(path, ["odd/plain<=9"])
