"""What suites/schedules.py computes from results, on results made by hand."""

from __future__ import annotations

import io
import math
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

import diag
from diag.suite.load import module_of
from diag.suite.record import Record
from diag.suite.results import Results

FILE = Path(__file__).parents[2] / "suites" / "schedules.py"


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    return module_of(diag.load_suite(FILE))


def record(case: str, seed: int = 0, table: pd.DataFrame | None = None, **metrics: float) -> Record:
    tables = {}
    if table is not None:
        table.to_parquet(buffer := io.BytesIO())
        tables["curves"] = buffer.getvalue()
    return Record(case, seed, {"experiment": "x", "parameters": {}}, metrics, tables=tables)


def test_a_mirror_image_has_correlation_minus_one(suite: ModuleType) -> None:
    lr = [0.1, 0.4, 1.0, 0.5]
    mirror = pd.DataFrame({"lr": lr, "momentum": [0.95 - 0.1 * one for one in lr]})
    same = pd.DataFrame({"lr": lr, "momentum": lr})
    results = Results([record("one_cycle at its best", 0, mirror), record("one_cycle at its best", 1, same)])
    assert suite.mirrored(results).to_dict() == pytest.approx({0: -1.0, 1: 1.0})


def test_the_names_of_schedules_do_not_mix(suite: ModuleType) -> None:
    results = Results(
        [
            record("warmup lr=0.1", valid_loss=0.5),
            record("warmup lr=1", valid_loss=math.nan),
            record("warmup, cosine lr=1", valid_loss=0.1),
        ]
    )
    assert suite.best_case(results, "warmup") == "warmup lr=0.1"
    assert suite.best_case(results, "warmup, cosine") == "warmup, cosine lr=1"


def test_over_a_constant_rate_and_its_sign(suite: ModuleType) -> None:
    results = Results(
        [
            record("constant at its best", test_loss=0.5, test_accuracy=0.8),
            record("cosine at its best", test_loss=0.4, test_accuracy=0.85),
        ]
    )
    assert suite.over_constant("test_accuracy", ["cosine"])(results)["cosine"].iloc[0] == pytest.approx(0.05)
    assert suite.over_constant("test_loss", ["cosine"], -1)(results)["cosine"].iloc[0] == pytest.approx(0.1)


def test_every_tuned_name_has_its_grid(suite: ModuleType) -> None:
    for name in suite.TUNED:
        grid = [case for case in suite.cases if case.startswith(f"{name} lr=")]
        assert len(grid) == len(suite.DEEP_RATES.get(name.split(":")[0], suite.RATES))
