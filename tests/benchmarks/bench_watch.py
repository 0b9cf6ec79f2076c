"""What watching costs: CPU time of a watched step over that of the plain step beside it; one thread.

The files are named `bench_*`, so that plain pytest does not collect them; `make bench` names them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import pytest

import diag
from diag.stats import backend
from tests.benchmarks.networks import NETWORKS

# Above what is measured, and below what hooks cost that read several numbers in every layer: a worse design fails, a
# busy machine does not. Where a plain step takes milliseconds, a measurement weighs the most.
CEILING = {"compiled": 1.5, "torch": 2.0}
CEILING_SMALL = {"compiled": 2.4, "torch": 4.0}
CEILING_BETWEEN = 1.2
EVERY = 10
BLOCK = 5
"""Steps of a few milliseconds that follow one another under one watch: to begin and to end it is no part of a step, and
takes half a millisecond."""


@pytest.fixture(params=["compiled", "torch"])
def chosen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "compiled":
        pytest.importorskip("numba")
    monkeypatch.setenv(backend.VARIABLE, request.param)
    backend._chosen.cache_clear()
    assert backend.backend_name() == request.param
    yield request.param
    backend._chosen.cache_clear()


def _timed(step: Callable[[], None]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


@pytest.mark.benchmark(timer=time.process_time, disable_gc=False)
@pytest.mark.parametrize("parameters", [False, True], ids=["activations and gradients", "and parameters"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_step(name: str, parameters: bool, chosen: str, benchmark, report, cost) -> None:
    model, step = NETWORKS[name].trainer()
    watch = diag.watch(model, parameters=parameters)
    block = BLOCK if NETWORKS[name].small else 1
    plain: list[float] = []
    watched: list[float] = []

    def plain_steps_then_enter() -> None:
        plain.append(sum(_timed(step) for _ in range(block)) / block)
        watch.__enter__()

    def watched_steps() -> None:
        start = time.process_time()
        for _ in range(block):
            step()
        watch.__exit__(None, None, None)  # the end of the last step is part of its price, and that of the watch
        watched.append((time.process_time() - start) / block)

    for _ in range(3):  # compiles the kernels and fills the caches
        plain_steps_then_enter()
        watched_steps()
    plain.clear()
    watched.clear()
    rounds = NETWORKS[name].pairs // block
    benchmark.pedantic(watched_steps, setup=plain_steps_then_enter, rounds=rounds, iterations=1)
    frame = watch.trace.frame
    kinds = {"activation", "gradient"} | ({"weight", "weight_gradient", "update"} if parameters else set())
    assert set(frame["kind"]) == kinds
    assert frame["step"].nunique() == (len(watched) + 3) * block

    ratio = statistics.median(w / p for w, p in zip(watched, plain, strict=True))
    total = sum(watched) / sum(plain)
    benchmark.extra_info.update(ratio=ratio, ratio_of_sums=total, plain_median_s=statistics.median(plain))
    report(f"{ratio:5.2f}x   of sums {total:5.2f}x   plain {1e3 * statistics.median(plain):8.2f} ms")
    cost(name, f"diag, {chosen}{', with parameters' if parameters else ''}", ratio)
    cost(name, "plain step, ms", 1e3 * statistics.median(plain))
    assert ratio < (CEILING_SMALL if NETWORKS[name].small else CEILING)[chosen]


@pytest.mark.benchmark(timer=time.process_time, disable_gc=False)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_tenth_step(name: str, benchmark, report, cost) -> None:
    model, step = NETWORKS[name].trainer()
    watch = diag.watch(model, every=EVERY)
    plain: list[list[float]] = []
    watched: list[list[float]] = []
    with diag.watch(model):
        step()

    def plain_steps() -> None:
        plain.append([_timed(step) for _ in range(EVERY)])

    def watched_steps() -> None:
        with watch:
            watched.append([_timed(step) for _ in range(EVERY)])

    blocks = max(1, NETWORKS[name].pairs // EVERY)
    benchmark.pedantic(watched_steps, setup=plain_steps, rounds=blocks, iterations=1)
    assert list(watch.trace.frame["step"].unique()) == list(range(0, blocks * EVERY, EVERY))

    # The first step of a block is the measured one; the second begins with the closing of the first.
    between = [w / p for ws, ps in zip(watched, plain, strict=True) for w, p in zip(ws[2:], ps[2:], strict=True)]
    ratio = statistics.median(between)
    total = sum(map(sum, watched)) / sum(map(sum, plain))
    benchmark.extra_info.update(ratio_between=ratio, ratio_of_sums=total)
    report(f"{ratio:5.2f}x between   of sums {total:5.2f}x")
    cost(name, "diag, between every=10", ratio)
    assert ratio < CEILING_BETWEEN
