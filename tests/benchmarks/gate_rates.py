"""How often a gate cries wolf, and how often it finds what was planted: `python -m tests.benchmarks.gate_rates`.

A pool of trainings of the suite `quick` is made once, as it is and with each fault. Gates are then drawn from it: A/A
between disjoint sets of seeds, A/B between sound and faulty. The trainings are kept in `build/gate-rates`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.stats

import diag
from diag.gate.baseline import Baseline, CaseValues
from diag.gate.gate import Verdict, compare
from diag.gate.judge import FALSE_ALARMS
from diag.gate.metrics import METRICS, GateError, gated
from diag.suite.record import Record, packed
from diag.suite.task import judged
from diag.train import trial
from diag.train.one_thread import one_thread

POOL, FAULTY = 120, 24
"""Seeds of the sound pool, and of each fault."""
FOLDER = Path("build/gate-rates")
SIZES = (3, 5, 10)


@contextmanager
def scaled(factor: float) -> Iterator[None]:
    """The weights of every layer are larger than the recipe says."""

    def build(recipe: diag.Recipe, dataset: Any, seed: int) -> Any:
        model = original(recipe, dataset, seed)
        for one in model.parameters():
            if one.dim() > 1:
                one.data *= factor
        return model

    original = trial.build_model
    with mock.patch.object(trial, "build_model", build):
        yield


@contextmanager
def frozen() -> Iterator[None]:
    """One layer in the middle is never trained."""

    def build(recipe: diag.Recipe, dataset: Any, seed: int) -> Any:
        model = original(recipe, dataset, seed)
        model.blocks[len(model.blocks) // 2].linear.requires_grad_(False)
        return model

    original = trial.build_model
    with mock.patch.object(trial, "build_model", build):
        yield


@contextmanager
def as_it_is() -> Iterator[None]:
    """Nothing is patched."""
    yield


SWAPPED = {"relu": "sigmoid", "sigmoid": "relu"}
FAULTS: dict[str, tuple[Callable[[], Any], Callable[[diag.Recipe], diag.Recipe]]] = {
    "sound": (as_it_is, lambda recipe: recipe),
    "init scale x1.1": (lambda: scaled(1.1), lambda recipe: recipe),
    "init scale x1.2": (lambda: scaled(1.2), lambda recipe: recipe),
    "init scale x1.5": (lambda: scaled(1.5), lambda recipe: recipe),
    "init scale x0.9": (lambda: scaled(0.9), lambda recipe: recipe),
    "init scale x0.5": (lambda: scaled(0.5), lambda recipe: recipe),
    "normalization dropped": (as_it_is, lambda recipe: recipe.but(norm="none")),
    "learning rate x3": (as_it_is, lambda recipe: recipe.but(lr=3 * recipe.lr)),
    "learning rate x1/3": (as_it_is, lambda recipe: recipe.but(lr=recipe.lr / 3)),
    "a layer frozen": (frozen, lambda recipe: recipe),
    "activation swapped": (as_it_is, lambda recipe: recipe.but(activation=SWAPPED[recipe.activation])),
}
"""By name: a patch of the library, and what it makes of a recipe that still says the same."""


def measure(job: tuple[str, int]) -> dict[str, dict[str, float]]:
    """The gate's metrics of every case of `quick` with one fault and seed."""
    fault, seed = job
    patch, change = FAULTS[fault]
    suite = diag.load_suite("quick")
    found = {}
    with one_thread(), patch():
        for name, recipe in suite.cases.items():
            outcome = trial.run_recipe(change(recipe), seed, looks=suite.looks, measures=[judged])
            tables = {"layers": packed(outcome.tables["layers"])}
            found[name] = gated(Record(name, seed, {"recipe": recipe.to_dict()}, outcome.metrics, tables=tables))
    return found


def pool(fault: str, seeds: int, workers: int) -> Baseline:
    """All seeds of one fault, from the folder if they were measured before."""
    file = FOLDER / f"{''.join(one if one.isalnum() else '-' for one in fault)}.json"
    known: list[dict[str, dict[str, float]]] = json.loads(file.read_text()) if file.is_file() else []
    missing = [(fault, seed) for seed in range(len(known), seeds)]
    if missing:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as executor:
            known += executor.map(measure, missing, chunksize=2)
        FOLDER.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(known))
    cases = {}
    for name in known[0]:
        metrics = {
            metric: [row[name].get(metric, float("nan")) for row in known[:seeds]]
            for metric in METRICS
            if any(metric in row[name] for row in known[:seeds])
        }
        cases[name] = CaseValues({}, list(range(seeds)), metrics)
    return Baseline("quick", {}, {}, cases, {})


def subset(whole: Baseline, seeds: np.ndarray, names: np.ndarray) -> Baseline:
    """Some seeds of a pool, under other names."""
    cases = {
        case: CaseValues({}, [int(one) for one in names], {m: [v[i] for i in seeds] for m, v in values.metrics.items()})
        for case, values in whole.cases.items()
    }
    return Baseline("quick", {}, {}, cases, {})


def answer(old: Baseline, new: Baseline, one: np.ndarray, other: np.ndarray, paired: bool) -> str:
    """What a gate says; that it lacks a metric which the baseline has is no answer either."""
    try:
        return draw(old, new, one, other, paired).answer
    except GateError:
        return "cannot tell"


def draw(old: Baseline, new: Baseline, one: np.ndarray, other: np.ndarray, paired: bool) -> Verdict:
    """A gate between some seeds of one pool and some of another, paired in this order or not."""
    names = np.arange(len(one))
    return compare(
        subset(new, other, names if paired else names + 1000), subset(old, one, names), FALSE_ALARMS, METRICS
    )


def rates(gates: int, workers: int) -> list[dict[str, Any]]:
    """A row per fault, number of seeds and way of pairing."""
    rng = np.random.default_rng(0)
    sound = pool("sound", POOL, workers)
    rows = []
    for size in SIZES:
        for paired in (False, True):
            counts = {"regression": 0, "cannot tell": 0}
            for _ in range(gates):
                seeds = rng.permutation(POOL)[: 2 * size]
                said = answer(sound, sound, seeds[:size], seeds[size:], paired)
                counts[said] = counts.get(said, 0) + 1
            rows.append(row("A/A, other seeds" + (", paired by name" if paired else ""), size, gates, counts))
    for fault in list(FAULTS)[1:]:
        faulty = pool(fault, FAULTY, workers)
        for size in SIZES:
            for paired in (True, False):
                counts = {"regression": 0, "cannot tell": 0}
                for _ in range(gates // 4):
                    seeds = rng.permutation(FAULTY)[:size]
                    other = seeds if paired else rng.permutation(np.arange(FAULTY, POOL))[:size]
                    said = answer(sound, faulty, other, seeds, paired)
                    counts[said] = counts.get(said, 0) + 1
                rows.append(row(fault + ("" if paired else ", other seeds"), size, gates // 4, counts))
    return rows


def row(what: str, seeds: int, gates: int, counts: dict[str, int]) -> dict[str, Any]:
    found = scipy.stats.binomtest(counts["regression"], gates)
    low, high = found.proportion_ci(method="wilson")
    counted = {"what": what, "seeds": seeds, "gates": gates, **counts}
    return {**counted, "rate": counts["regression"] / gates, "low": float(low), "high": float(high)}


def effects(workers: int) -> dict[str, str]:
    """By fault: the largest harm of any case and metric over all its seeds, in margins."""
    sound, found = pool("sound", POOL, workers), {}
    for fault in list(FAULTS)[1:]:
        seeds = np.arange(FAULTY)
        checks = draw(sound, pool(fault, FAULTY, workers), seeds, seeds, True).checks
        worst = max(checks, key=lambda one: one.harm / one.margin)
        found[fault] = f"{worst.harm / worst.margin:.1f} margins, {worst.metric} of {worst.case}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gates", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("reports/gate"))
    given = parser.parse_args()
    rows, harms = rates(given.gates, given.workers), effects(given.workers)
    lines = ["# How often the gate is right", "", " ".join((__doc__ or "").partition("\n\n")[2].split()), ""]
    lines += ["A false alarm is a regression found between sound runs. Intervals: Wilson, 95 %.", ""]
    lines += ["| what | largest harm | seeds | gates | regression found | 95 % interval | cannot tell |"]
    lines += ["|---|---|--:|--:|--:|---|--:|"]
    for one in rows:
        harm = harms.get(one["what"].removesuffix(", other seeds"), "none")
        lines.append(
            f"| {one['what']} | {harm} | {one['seeds']} | {one['gates']} | {100 * one['rate']:.1f} % | "
            f"{100 * one['low']:.1f} to {100 * one['high']:.1f} % | {100 * one['cannot tell'] / one['gates']:.1f} % |"
        )
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "README.md").write_text("\n".join(lines) + "\n")
    (given.output / "rates.json").write_text(json.dumps(rows, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
