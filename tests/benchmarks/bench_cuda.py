"""What watching costs on a GPU: wall time of blocks of watched steps over that of plain blocks beside them.

A block ends when the GPU has done its work, not a step: a training that runs ahead of its GPU is let run ahead.
"""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import diag
from diag.stats import cuda
from tests.benchmarks.networks import LARGE, NETWORKS
from tests.benchmarks.tools import TOOLS

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
    pytest.mark.benchmark(disable_gc=False),
]
BLOCK, BLOCKS = 10, 15
BLOCKS_OF_OPERATIONS = 3
ALL = NETWORKS | LARGE
CEILING = {"kernel": 6.0, "operations": 120.0}
"""Far above what is measured, as in `bench_watch`: hooks that wait for a number in every layer cost more."""

Step = Callable[[], None]


@pytest.fixture(params=["kernel", "operations"])
def chosen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "kernel":
        pytest.importorskip("triton")
    else:
        monkeypatch.setattr(cuda._Kernels, "found", None)
        monkeypatch.setattr(cuda._Kernels, "looked", True)
    return request.param


def _seconds(step: Step, steps: int = BLOCK) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _ratio(benchmark, plain_step: Step, watched: Step, blocks: int = BLOCKS) -> tuple[float, float]:
    """Of blocks of steps, watched over plain, and the seconds of a plain step."""
    plain: list[float] = []
    seen: list[float] = []
    for _ in range(2):
        _seconds(plain_step)
        _seconds(watched)
    benchmark.pedantic(
        lambda: seen.append(_seconds(watched)),
        setup=lambda: plain.append(_seconds(plain_step)),
        rounds=blocks,
        iterations=1,
    )
    ratio = statistics.median(s / p for s, p in zip(seen, plain, strict=True))
    return ratio, statistics.median(plain) / BLOCK


@pytest.mark.parametrize("parameters", [False, True], ids=["activations and gradients", "and parameters"])
@pytest.mark.parametrize("name", ALL)
def test_every_step(name: str, parameters: bool, chosen: str, benchmark, report, cost_on_gpu) -> None:
    _, plain_step = ALL[name].trainer("cuda")
    model, step = ALL[name].trainer("cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # kernels that fail are left out with one
        with diag.watch(model, parameters=parameters) as watch:

            def watched() -> None:
                step()
                watch.step()

            blocks = BLOCKS if chosen == "kernel" else BLOCKS_OF_OPERATIONS
            ratio, plain = _ratio(benchmark, plain_step, watched, blocks)
    frame = watch.trace.frame
    kinds = {"activation", "gradient"} | ({"weight", "weight_gradient", "update"} if parameters else set())
    assert set(frame["kind"]) == kinds
    assert frame["var"].notna().any()
    report(f"{ratio:5.2f}x   plain {1e3 * plain:8.2f} ms")
    way = "diag" if chosen == "kernel" else "diag, without Triton"
    cost_on_gpu(name, f"{way}{', with parameters' if parameters else ''}", ratio)
    cost_on_gpu(name, "plain step, ms", 1e3 * plain)
    assert ratio < CEILING[chosen]


@pytest.mark.parametrize("name", ALL)
def test_between_measured_steps(name: str, benchmark, report, cost_on_gpu) -> None:
    _, plain_step = ALL[name].trainer("cuda")
    model, step = ALL[name].trainer("cuda")
    with diag.watch(model, every=10_000) as watch:

        def watched() -> None:
            step()
            watch.step()

        ratio, _ = _ratio(benchmark, plain_step, watched)
    assert list(watch.trace.frame["step"].unique()) == [0]
    report(f"{ratio:5.2f}x")
    cost_on_gpu(name, "diag, between measured steps", ratio)


@pytest.mark.parametrize("parameters", [False, True], ids=["activations and gradients", "and parameters"])
@pytest.mark.parametrize("name", ALL)
def test_peak_memory(name: str, parameters: bool, benchmark, report, cost_on_gpu) -> None:
    gc.collect()  # the networks of other tests
    before = torch.cuda.memory_allocated()
    model, step = ALL[name].trainer("cuda")

    def peak() -> int:
        torch.cuda.reset_peak_memory_stats()
        for _ in range(4):
            step()
        return torch.cuda.max_memory_allocated() - before

    peak()
    plain = peak()
    with diag.watch(model, parameters=parameters):
        watched = benchmark.pedantic(peak, rounds=1, iterations=1)
    report(f"{watched / plain:5.2f}x   plain {plain / 2**20:8.1f} MiB")
    cost_on_gpu(name, f"diag, peak memory{', with parameters' if parameters else ''}", watched / plain)
    assert watched < 1.5 * plain + 64 * 2**20


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", ALL)
def test_others(name: str, tool: str, tmp_path: Path, benchmark, report, cost_on_gpu) -> None:
    if tool == "delve":
        pytest.skip("delve's tracker is told one device and keeps covariances of every layer there")
    if tool == "TensorBoard histograms" and name in LARGE:
        pytest.skip("its histograms are made on the host, which takes a minute a step")
    _, plain_step = ALL[name].trainer("cuda")
    model, step = ALL[name].trainer("cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with TOOLS[tool](model, tmp_path) as after_step:

            def watched() -> None:
                step()
                after_step()

            plain = [_seconds(plain_step, 3) for _ in range(2)]
            _seconds(watched, 2)
            seen: list[float] = []
            benchmark.pedantic(
                lambda: seen.append(_seconds(watched, 3)),
                setup=lambda: plain.append(_seconds(plain_step, 3)),
                rounds=4,
                iterations=1,
            )
    ratio = statistics.median(s / p for s, p in zip(seen, plain[2:], strict=True))
    report(f"{ratio:5.2f}x")
    cost_on_gpu(name, tool, ratio)
