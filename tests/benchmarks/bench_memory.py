"""What watching costs in memory: how far the peak of the process rises above that of plain training."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.benchmarks.networks import NETWORKS

MIB = 2**20

# A fresh process for each, since a peak never falls. The first watch, of a tiny model, loads the kernels.
_WORKER = """
import resource, sys
import torch, diag
from tests.benchmarks.networks import NETWORKS
torch.set_num_threads(1)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
small = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh())
with diag.watch(small, torch.optim.SGD(small.parameters(), lr=0.1)) as watch:
    small(torch.randn(4, 8)).sum().backward()
    watch.step()
model, step = NETWORKS[sys.argv[1]].trainer()
start = peak()
for _ in range(3):
    step()
plain = peak()
with diag.watch(model):
    for _ in range(3):
        step()
print(plain - start, peak() - plain, sum(p.numel() * p.element_size() for p in model.parameters()))
"""


@pytest.mark.benchmark(disable_gc=False)
@pytest.mark.parametrize("name", NETWORKS)
def test_peak(name: str, benchmark, report) -> None:
    pytest.importorskip("resource")

    def run() -> str:
        command = [sys.executable, "-c", _WORKER, name]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    plain, extra, parameters = map(int, benchmark.pedantic(run, rounds=1, iterations=1).split())
    benchmark.extra_info.update(plain_bytes=plain, extra_bytes=extra, parameter_bytes=parameters)
    report(f"+{extra / MIB:6.1f} MiB   plain steps {plain / MIB:6.1f} MiB   parameters {parameters / MIB:6.1f} MiB")
    # The weights before the step are copied; a second graph or its activations would be more than the rest.
    assert extra < 2 * parameters + 96 * MIB
