"""What running a suite costs: trials per second of two workers over one, and the machinery's share of a trial."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from diag.suite.engine import Event
from diag.suite.run import Run, run_suite

# Below what is measured on an idle machine of two cores (2.0), above what a queue with a lock around it would give.
LEAST_SPEEDUP = 1.4
MOST_MACHINERY = 0.25

SUITE = """
import diag
recipe = diag.Recipe(depth=3, width=256, batch_size=128, steps={steps})
suite = diag.Suite("How fast?", {{"train": recipe}}, seeds={seeds}, looks=5)
"""


def _run(path: Path, folder: Path, jobs: int) -> tuple[Run, list[float]]:
    """The run, and when each of its trials ended."""
    ends: list[float] = []

    def watch(event: Event, done: int, total: int) -> None:
        if event.state == "done":
            ends.append(time.perf_counter())

    return run_suite(path, output=folder, jobs=jobs, watcher=watch), ends


def _seconds_per_trial(path: Path, folder: Path, jobs: int) -> float:
    """From the end of each worker's first trial, when torch is loaded and warm, to the last one's."""
    _, ends = _run(path, folder, jobs)
    return (ends[-1] - ends[jobs - 1]) / (len(ends) - jobs)


def test_two_workers_over_one(tmp_path: Path, benchmark, report) -> None:
    path = tmp_path / "speed.py"
    path.write_text(SUITE.format(steps=400, seeds=16))
    one: list[float] = []
    two: list[float] = []

    def both() -> None:
        number = len(one)
        one.append(_seconds_per_trial(path, tmp_path / f"one{number}", 1))
        two.append(_seconds_per_trial(path, tmp_path / f"two{number}", 2))

    benchmark.pedantic(both, rounds=2, iterations=1)
    ratio = statistics.median(a / b for a, b in zip(one, two, strict=True))
    benchmark.extra_info.update(ratio=ratio, seconds_per_trial=one)
    report(f"{ratio:5.2f}x the trials per second of one worker; {one[0]:.2f} s a trial")
    assert ratio > LEAST_SPEEDUP


def test_machinery_of_a_trial(tmp_path: Path, benchmark, report) -> None:
    path = tmp_path / "cost.py"
    path.write_text(SUITE.format(steps=400, seeds=8))
    shares: list[float] = []

    def once() -> None:
        run, ends = _run(path, tmp_path / f"run{len(shares)}", 1)
        wall = ends[-1] - ends[0]
        records = sorted(run.results.records, key=lambda record: record.seed)
        training = sum(record.timing["train"] for record in records[1:])
        shares.append(wall / training - 1)

    benchmark.pedantic(once, rounds=2, iterations=1)
    share = statistics.median(shares)
    benchmark.extra_info.update(share=share)
    report(f"{100 * share:5.1f} % of the training's time goes to everything else of a trial")
    assert share < MOST_MACHINERY
