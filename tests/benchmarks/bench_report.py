"""What a report costs: time and memory of a run with many trials, and of a trial with a large table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.suite.folders import trial, write_run

MIB = 2**20
# Twice what is measured on an idle machine and more, so that a busy one does not fail.
MOST_SECONDS = {0: 20.0, 1_000_000: 60.0}
MOST_BYTES = 2**30
CASES, SEEDS, LAYERS = 40, 5, 20

SUITE = """
import diag
from diag.report import suite_figures

NAMES = [f"case {i}" for i in range(CASES)]

def made(seed):
    return {}

def learning(results):
    return suite_figures.curves(results.table("curves"), "step", "valid_loss")

def depth(results):
    return suite_figures.heat_map(results.table("layers"), "layer", "step", "rms", numbers=False)

def panels(results):
    rows = results.table("layers", case=NAMES[:6])
    rows = rows[rows["step"] < 4]
    return suite_figures.panels(rows, "layer", "rms", panel="case", hue="step", log="y")

suite = diag.Suite(
    question="What does a report cost?",
    cases={name: diag.Experiment(made) for name in NAMES},
    seeds=5,
    figures={"Learning": learning, "Depth": depth, "Panels": panels},
    tables={
        "Ranking": lambda r: r.ranking(NAMES, accuracy="high", loss="low"),
        "Layers": lambda r: r.table("layers").groupby(["case", "step"])["rms"].mean().reset_index(),
    },
    claims=[diag.Claim(f"{name} learns", "-", lambda r, name=name: r.values("accuracy", case=name), above=0.5)
            for name in NAMES],
)
"""
# A fresh process, since a peak never falls; its CPU time, which a busy machine does not stretch, imports included.
# Linux hands the peak of `getrusage` down to a process's children, and keeps another one that begins anew.
_WORKER = """
import json, re, resource, sys, time
from pathlib import Path
from diag.report.run.document import document
from diag.report.run.files import write_report
from diag.suite.run import open_run
page = write_report(document(open_run(sys.argv[1], trust=True)), Path(sys.argv[2]))
status = Path("/proc/self/status")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
if status.exists():
    peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
print(json.dumps([time.process_time(), peak, page.stat().st_size]))
"""


def layers(random: np.random.Generator, steps: int, count: int) -> pd.DataFrame:
    """A row per step and layer."""
    return pd.DataFrame(
        {
            "step": np.repeat(np.arange(steps), count),
            "layer": np.tile(np.arange(count), steps),
            "site": np.tile([f"layers.{i}" for i in range(count)], steps),
            "rms": random.lognormal(0, 1, steps * count),
        }
    )


def rendered(folder: Path, output: Path) -> tuple[float, int, int]:
    """Seconds of CPU time, bytes at the peak, and bytes of the page."""
    command = [sys.executable, "-c", _WORKER, str(folder), str(output)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    seconds, peak, size = json.loads(said)
    return seconds, peak, size


@pytest.mark.parametrize("large", MOST_SECONDS, ids=["200 trials", "and a table of a million rows"])
def test_a_report(large: int, tmp_path: Path, benchmark, report) -> None:
    pytest.importorskip("resource")
    random = np.random.default_rng(0)
    curves = pd.DataFrame({"step": np.arange(20), "valid_loss": np.linspace(2, 1, 20)})
    records = [
        trial(
            f"case {i}",
            seed,
            accuracy=float(random.normal(0.6 + 0.005 * i, 0.05)),
            loss=float(random.lognormal(0, 0.5)),
            tables={"curves": curves, "layers": layers(random, 5, LAYERS)},
        )
        for i in range(CASES)
        for seed in range(SEEDS)
    ]
    if large:
        records[0] = trial(
            "case 0", 0, accuracy=0.6, loss=1.0,
            tables={"curves": curves, "layers": layers(random, large // 1000, 1000)},
        )  # fmt: skip
    folder = write_run(tmp_path / "run", records, source=f"CASES = {CASES}\n{SUITE}")
    timed = benchmark.pedantic(lambda: rendered(folder, tmp_path / "report"), rounds=1, iterations=1)
    seconds, peak, size = timed
    benchmark.extra_info.update(seconds=seconds, peak_bytes=peak, page_bytes=size)
    report(f"{seconds:5.1f} s   {peak / MIB:6.0f} MiB at the peak   a page of {size / 1000:.0f} kB")
    assert seconds < MOST_SECONDS[large]
    assert peak < MOST_BYTES
    assert size < 3_000_000
