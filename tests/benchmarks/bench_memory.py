"""What watching costs in memory: how far the peak of the process rises above that of plain training."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.networks import NETWORKS

MIB = 2**20

# A fresh process for each. The first watch, of a tiny model, loads the kernels; what torch and Python hold before the
# network is built is not of the training. The kernel's high-water mark is set back before each part.
_WORKER = """
import re, sys
from pathlib import Path
import torch, diag
from tests.benchmarks.networks import NETWORKS
torch.set_num_threads(1)
def memory(field):
    return 1024 * int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
def peak(run):
    Path("/proc/self/clear_refs").write_text("5")
    run()
    return memory("VmHWM")
small = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh())
with diag.watch(small, torch.optim.SGD(small.parameters(), lr=0.1)) as watch:
    small(torch.randn(4, 8)).sum().backward()
    watch.step()
base = memory("VmRSS")
model, step = NETWORKS[sys.argv[1]].trainer()
def steps():
    for _ in range(4):
        step()
def watched():
    with diag.watch(model, parameters=sys.argv[2] == "all"):
        steps()
steps()
print(base, peak(steps), peak(watched), sum(p.numel() * p.element_size() for p in model.parameters()))
"""


@pytest.mark.benchmark(disable_gc=False)
@pytest.mark.parametrize("parameters", [False, True], ids=["activations and gradients", "and parameters"])
@pytest.mark.parametrize("name", NETWORKS)
def test_peak(name: str, parameters: bool, benchmark, report, cost) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux sets the high-water mark of memory back")

    def run() -> str:
        command = [sys.executable, "-c", _WORKER, name, "all" if parameters else "signals"]
        # glibc gives large blocks back at once: else a peak is also of what lies free between blocks, which differs by
        # a tenth from one process to the next, watched or not.
        path = os.pathsep.join(p for p in sys.path if p)
        environment = {**os.environ, "PYTHONPATH": path, "MALLOC_MMAP_THRESHOLD_": "65536"}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    # What a training's peak is differs by a large activation from process to process.
    peaks: list[list[int]] = []
    benchmark.pedantic(lambda: peaks.append([int(one) for one in run().split()]), rounds=3, iterations=1)
    base, plain, watched, parameters_bytes = (int(statistics.median(one)) for one in zip(*peaks, strict=True))
    extra = watched - plain
    benchmark.extra_info.update(plain_bytes=plain, extra_bytes=extra, parameter_bytes=parameters_bytes)
    steps = (plain - base) / MIB
    report(f"+{extra / MIB:6.1f} MiB   plain steps {steps:6.1f} MiB   parameters {parameters_bytes / MIB:6.1f} MiB")
    cost(name, "diag, peak memory, with parameters" if parameters else "diag, peak memory", watched / plain)
    # Of the weights before the step a sample is copied; a second graph or its activations would be far more.
    assert extra < 0.5 * parameters_bytes + 48 * MIB
