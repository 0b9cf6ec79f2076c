"""Which cases the suite on transfer makes, and what it takes the means of."""

from __future__ import annotations

import pytest

from diag.suite.load import load_suite, module_of
from diag.suite.record import Record
from diag.suite.results import Results

SUITE = module_of(load_suite("suites/transfer.py"))


def test_scratch_is_one_case_and_the_rest_come_in_two_ways() -> None:
    # (1 + 4 layers x 2 ways) in three settings.
    assert len(SUITE.cases) == 27
    scratch = [name for name in SUITE.cases if name.endswith("scratch")]
    assert len(scratch) == 3
    assert {SUITE.cases[name].start for name in scratch} == {"scratch"}
    frozen = SUITE.cases["cnn, 20 labels, 3 reused and frozen"]
    assert "layers=3" in frozen.start
    assert "frozen=True" in frozen.start
    assert "labeled=20" in frozen.data


def test_mean_gain_is_over_the_layers_reused() -> None:
    accuracy = {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.8, 4: 0.5}
    records = [
        Record(
            SUITE.named("cnn", 50, layers, how),
            0,
            {"recipe": SUITE.recipe("cnn", 50, layers, how).to_dict()},
            {"test_accuracy": value - (0.2 if how == SUITE.FROZEN and layers else 0.0)},
        )
        for layers, value in accuracy.items()
        for how in ((SUITE.FROZEN, SUITE.TUNED) if layers else (SUITE.TUNED,))
    ]
    results = Results(records)
    assert SUITE.mean_gain(results, lambda layers: (0, SUITE.TUNED)).to_list() == pytest.approx([0.15])
    assert SUITE.mean_gain(results, lambda layers: (layers, SUITE.FROZEN)).to_list() == pytest.approx([0.2])
    assert SUITE.gain(results, (1, SUITE.FROZEN), (4, SUITE.FROZEN)).to_list() == pytest.approx([0.1])
