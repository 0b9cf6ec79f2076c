"""A run opened again is the run that was made: after a change of the suite's file, unfinished, or with a follow-up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diag.errors import DiagError
from diag.suite.comparison import compare
from diag.suite.errors import RunError
from diag.suite.load import load_suite
from diag.suite.run import open_run, run_suite
from tests.suite.conftest import HEADER, NUMBERS, Write
from tests.suite.folders import Inline, trials, write_run

FOLLOWED = NUMBERS.replace(
    "quick_seeds=2,",
    "quick_seeds=2,\n    follow_up=lambda r: {f'best of {len(r.frame)}': diag.Experiment(noisy, shift=-5.0)},",
)
FRAGILE = (
    HEADER
    + """
def f(seed, fails):
    if fails:
        raise ValueError("no good")
    return {"score": float(seed)}

def of_b(results):
    return float(results.frame.set_index("case").loc["b", "score"].mean())

suite = diag.Suite(
    "Why?",
    {"a": diag.Experiment(f, fails=False), "b": diag.Experiment(f, fails=True)},
    seeds=2,
    claims=[diag.Claim("b is above 1", "-", of_b, above=1.0)],
)
"""
)


def test_trials_that_a_change_of_the_suite_replaced_are_in_no_reading(write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_suite(write(NUMBERS), quick=True, output=folder, engine=Inline())
    changed = load_suite(write(NUMBERS.replace("shift=100.0)", "shift=200.0)")))
    run = run_suite(changed, quick=True, output=folder, resume=True, accept_change=True, engine=Inline())
    opened = open_run(folder)
    assert opened.results.frame.equals(run.results.frame)
    assert opened.results.values("shift", case="high").to_dict() == {0: 200.0, 1: 200.0}
    assert [one.to_dict() for one in opened.verdicts] == [one.to_dict() for one in run.verdicts]
    means = run.results.frame.groupby("case")[["value", "seed_squared"]].mean()
    assert set(compare(folder, folder).table["first"]) == set(means.to_numpy().ravel())
    # Kept, should somebody want them back.
    assert len(list((folder / "replaced").iterdir())) == 2


def test_the_follow_up_is_in_its_order(write: Write, tmp_path: Path) -> None:
    run = run_suite(write(FOLLOWED), quick=True, output=tmp_path / "run", engine=Inline())
    assert list(run.results.frame["case"]) == ["low", "high", "low", "high", "best of 4", "best of 4"]
    assert open_run(tmp_path / "run").results.frame.equals(run.results.frame)


def test_a_claim_that_cannot_do_without_the_missing_trials_is_undecided(tmp_path: Path) -> None:
    records = trials("score", a=[1.0, 2.0])
    half = write_run(tmp_path / "half", records, source=FRAGILE, finished=False)
    (found,) = open_run(half, trust=True).verdicts
    assert found.verdict == "undecided"
    assert "KeyError" in found.why
    # In a whole run it is a mistake of the suite.
    whole = write_run(tmp_path / "whole", records, source=FRAGILE)
    with pytest.raises(DiagError, match=r"'b is above 1' cannot be measured: KeyError"):
        open_run(whole, trust=True)
    full = write_run(tmp_path / "full", [*records, *trials("score", b=[2.0, 3.0])], source=FRAGILE)
    assert open_run(full, trust=True).verdicts[0].verdict == "holds"


def test_a_run_whose_trials_failed_is_judged_all_the_same(tmp_path: Path) -> None:
    suite = tmp_path / "mine.py"
    suite.write_text(FRAGILE)
    run = run_suite(suite, output=tmp_path / "run", engine=Inline())
    assert sorted(run.failures.errors) == ["b seed 0", "b seed 1"]
    assert [one.verdict for one in run.verdicts] == ["undecided"]
    assert json.loads((tmp_path / "run" / "verdicts.json").read_text())["claims"][0]["verdict"] == "undecided"


@pytest.mark.parametrize(
    "header",
    [
        {"settings": {}},
        {"settings": {"quick": False, "seeds": None, "set": 3}},
        {"settings": {"quick": False, "seeds": None, "set": "steps"}},
        {"settings": []},
        {"seconds": "long"},
    ],
)
def test_a_damaged_header_is_one_line(tmp_path: Path, header: dict[str, Any]) -> None:
    folder = write_run(tmp_path / "run", trials("score", a=[1.0]), source=FRAGILE, **header)
    with pytest.raises(RunError, match=r"run\.json is damaged: ") as caught:
        open_run(folder, trust=True)
    assert "\n" not in str(caught.value)


def test_a_run_without_its_suites_file(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", trials("score", a=[1.0]))
    (folder / "suite.py").unlink()
    with pytest.raises(RunError, match=r"suite\.py cannot be read"):
        open_run(folder, trust=True)
    (folder / "suite.py").write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match=r"suite\.py cannot be read"):
        open_run(folder, trust=True)
