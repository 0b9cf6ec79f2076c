"""What other instruments cost on the same networks, measured in the same way: a step with them over one without."""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from pathlib import Path

import pytest

from tests.benchmarks.networks import NETWORKS
from tests.benchmarks.tools import TOOLS


@pytest.mark.benchmark(timer=time.process_time, disable_gc=False)
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_step(name: str, tool: str, tmp_path: Path, benchmark, report, cost) -> None:
    logging.getLogger("delve").setLevel(logging.ERROR)
    pairs = max(3, NETWORKS[name].pairs // 4)
    _, plain_step = NETWORKS[name].trainer()
    model, step = NETWORKS[name].trainer()
    plain: list[float] = []
    seen: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with TOOLS[tool](model, tmp_path) as after_step:

            def with_tool() -> None:
                start = time.process_time()
                step()
                after_step()
                seen.append(time.process_time() - start)

            def without() -> None:
                start = time.process_time()
                plain_step()
                plain.append(time.process_time() - start)

            for _ in range(2):
                without()
                with_tool()
            plain.clear()
            seen.clear()
            benchmark.pedantic(with_tool, setup=without, rounds=pairs, iterations=1)
    ratio = statistics.median(w / p for w, p in zip(seen, plain, strict=True))
    benchmark.extra_info.update(ratio=ratio)
    report(f"{ratio:5.2f}x")
    cost(name, tool, ratio)
