"""What suites/defaults.py varies, and how it lets two pieces of advice speak as one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import diag
from diag.suite.load import module_of
from diag.suite.record import Record
from diag.suite.results import Results

FILE = Path(__file__).parents[2] / "suites" / "defaults.py"


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    return module_of(diag.load_suite(FILE))


def test_every_variant_differs_from_the_advice_in_one_field(suite: ModuleType) -> None:
    for name, recipe in suite.VARIANTS.items():
        depth, _, what = name.partition(", ")
        advised = suite.ADVICE[depth].to_dict()
        changed = [field for field, value in recipe.to_dict().items() if value != advised[field]]
        assert len(changed) == (0 if what == "advice" else 1), name


def test_every_variant_has_four_rates(suite: ModuleType) -> None:
    for name in suite.VARIANTS:
        rates = [case.lr for label, case in suite.cases.items() if label.startswith(f"{name} lr=")]
        assert len(set(rates)) == 4
        assert max(rates) / min(rates) == pytest.approx(10**1.5)


def test_the_one_with_the_lower_validation_loss_speaks_for_the_advice(suite: ModuleType) -> None:
    measured = {"advice": (0.5, 0.6), "AdamW": (0.4, 0.7), "RMSProp": (0.3, 0.65)}
    records = [
        Record(f"depth 2, {name}", seed, {"experiment": "x", "parameters": {}}, {"valid_loss": a, "test_accuracy": b})
        for name, (a, b) in measured.items()
        for seed in (0, 1)
    ]
    results = Results(records)
    assert suite.lead("depth 2", ["RMSProp"])(results)["RMSProp"].tolist() == pytest.approx([-0.05, -0.05])
    assert suite.lead("depth 2", ["RMSProp"], ["AdamW"])(results)["RMSProp"].tolist() == pytest.approx([0.05, 0.05])
