"""How long the command line and the import take: CPU time over that of an interpreter that does nothing, and of a
short check over that of importing torch."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

# `import torch` alone takes some hundred times as long as doing nothing.
CEILING = 30.0
CEILING_CHECK = 2.5
PAIRS = 7


def _cpu_time(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _compared(benchmark, base: list[str], arguments: list[str]) -> tuple[float, float, float]:
    """CPU time of the second over that of the first, in pairs, and the medians of both."""
    plain: list[float] = []
    ours: list[float] = []
    for one in (base, arguments):
        _cpu_time(one)
    benchmark.pedantic(
        lambda: ours.append(_cpu_time(arguments)),
        setup=lambda: plain.append(_cpu_time(base)),
        rounds=PAIRS,
        iterations=1,
    )
    ratio = statistics.median(o / p for o, p in zip(ours, plain, strict=True))
    benchmark.extra_info.update(ratio=ratio)
    return ratio, statistics.median(plain), statistics.median(ours)


@pytest.mark.benchmark(disable_gc=False)
@pytest.mark.parametrize("arguments", [["-m", "diag", "--help"], ["-c", "import diag"]], ids=["help", "import"])
def test_start(arguments: list[str], benchmark, report) -> None:
    ratio, _, ours = _compared(benchmark, ["-c", "pass"], arguments)
    report(f"{ratio:5.2f}x   {1e3 * ours:6.1f} ms")
    assert ratio < CEILING


@pytest.mark.benchmark(disable_gc=False)
def test_check(tmp_path: Path, benchmark, report) -> None:
    target = tmp_path / "small.py"
    target.write_text("from torch import nn\nmodel = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3))\n")
    check = ["-m", "diag", "check", f"{target}:model", "--input", "32x20"]
    ratio, torch_alone, ours = _compared(benchmark, ["-c", "import torch"], check)
    report(f"{ratio:5.2f}x   {ours:6.2f} s, of which torch {torch_alone:.2f} s")
    assert ratio < CEILING_CHECK
