"""Two runs side by side, against scipy, and what stands in the way of comparing them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from diag.recipes.recipe import Recipe
from diag.suite.comparison import COLUMNS, Comparison, compare
from diag.suite.errors import RunError
from diag.suite.record import Record
from tests.suite.folders import trial, trials, write_run

RANDOM = np.random.default_rng(0)
SCORES = {name: list(RANDOM.normal(0.9, 0.03, 5)) for name in ("plain", "norm", "clip")}


def compared(tmp_path: Path, first: list[Record], second: list[Record], **options: Any) -> Comparison:
    return compare(write_run(tmp_path / "first", first), write_run(tmp_path / "second", second, **options))


def row(comparison: Comparison, case: str = "plain", metric: str = "score") -> pd.Series:
    table = comparison.table
    found = table[(table["case"] == case) & (table["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_the_same_run_twice(tmp_path: Path) -> None:
    # Infinite, and missing, in both: the same all the same.
    more = [trial("bad", seed, score=math.inf, reached=math.nan) for seed in range(3)]
    found = compared(tmp_path, trials("score", **SCORES) + more, trials("score", **SCORES) + more)
    assert found.identical
    assert list(found.table.columns) == COLUMNS
    assert list(found.table["case"]) == ["bad", "bad", "clip", "norm", "plain"]
    assert row(found)[["difference", "low", "high", "p", "pairs"]].tolist() == [0, 0, 0, 1, 5]
    assert row(found, "bad")["difference"] == 0
    assert math.isnan(row(found, "bad", "reached")["difference"])
    assert found.differing.empty
    assert (found.changed, found.alone, found.verdicts) == ({}, {"first": [], "second": []}, [])


def test_one_value_that_differs_in_its_last_bit_is_seen(tmp_path: Path) -> None:
    other = {**SCORES, "clip": [*SCORES["clip"][:4], np.nextafter(SCORES["clip"][4], 1)]}
    found = compared(tmp_path, trials("score", **SCORES), trials("score", **other))
    assert not found.identical
    assert found.differing.empty


def test_a_shift_is_told_apart_by_pairs(tmp_path: Path) -> None:
    noise = RANDOM.normal(0, 0.001, 5)
    shifted = {**SCORES, "plain": [one + 0.01 + more for one, more in zip(SCORES["plain"], noise, strict=True)]}
    found = compared(tmp_path, trials("score", **SCORES), trials("score", **shifted))
    one = row(found)
    test = stats.ttest_rel(shifted["plain"], SCORES["plain"])
    low, high = test.confidence_interval(0.95)
    assert one[["difference", "low", "high"]].tolist() == pytest.approx([np.mean(noise) + 0.01, low, high])
    # Three rows; the others are the same in both, so this one's p counts thrice.
    assert one["p"] == pytest.approx(3 * test.pvalue)
    assert one["pairs"] == 5
    assert found.differing["case"].tolist() == ["plain"]
    # Unpaired it would drown in the luck of the seeds.
    assert stats.ttest_ind(shifted["plain"], SCORES["plain"]).pvalue > 0.05


def test_holm_holds_many_rows_together(tmp_path: Path) -> None:
    first = {f"case {i}": list(RANDOM.normal(0, 1, 5)) for i in range(30)}
    second = {name: list(np.array(values) + RANDOM.normal(0, 1, 5)) for name, values in first.items()}
    alone = [stats.ttest_rel(second[name], first[name]).pvalue for name in first]
    found = compared(tmp_path, trials("score", **first), trials("score", **second))
    assert sum(p < 0.05 for p in alone) >= 1, "by chance alone"
    assert found.differing.empty
    assert found.table["p"].min() == pytest.approx(30 * min(alone))


def test_other_seeds_are_compared_by_welch(tmp_path: Path) -> None:
    first, second = [0.90, 0.94, 0.91, 0.87], [0.81, 0.70, 0.75, 0.92, 0.78, 0.66]
    moved = [trial("plain", seed + 100, score=value) for seed, value in enumerate(second)]
    one = row(compared(tmp_path, trials("score", plain=first), moved))
    test = stats.ttest_ind(second, first, equal_var=False)
    low, high = test.confidence_interval(0.95)
    assert one[["first", "second"]].tolist() == pytest.approx([np.mean(first), np.mean(second)])
    assert one[["difference", "low", "high", "p"]].tolist() == pytest.approx(
        [np.mean(second) - np.mean(first), low, high, test.pvalue]
    )
    assert one["pairs"] == 0
    assert bool(one["told apart"])


def test_a_part_of_the_seeds_is_no_pairing(tmp_path: Path) -> None:
    values = [0.5, 0.7, 0.9, 0.6]
    one = row(compared(tmp_path, trials("score", plain=values), trials("score", plain=values[:3])))
    test = stats.ttest_ind(values[:3], values, equal_var=False)
    assert (one["pairs"], one["p"]) == (0, pytest.approx(test.pvalue))


@pytest.mark.parametrize(
    ("first", "second", "difference", "p", "low"),
    [
        ([0.2, 0.2, 0.2], [0.3, 0.3, 0.3], 0.1, 0.0, 0.1),  # the same difference in every seed
        ([0.2, 0.3, 0.4], [0.3, 0.4, 0.5], 0.1, pytest.approx(0, abs=1e-20), 0.1),  # but for rounding
        ([0.5], [0.7], 0.2, math.nan, -math.inf),  # one seed says nothing
        ([math.inf] * 3, [math.inf] * 3, 0.0, math.nan, math.nan),
        ([1.0, 2.0, 3.0], [math.inf] * 3, math.inf, 0.0, math.nan),  # it diverges now, in every seed
        ([math.inf] * 3, [1.0, 2.0, 3.0], -math.inf, 0.0, math.nan),
        ([1.0, 2.0, 3.0], [1.0, 2.0, math.inf], math.inf, math.nan, math.nan),  # in one of three: who knows
        ([1.0], [math.inf], math.inf, math.nan, math.nan),
        ([math.nan] * 2, [1.0, 2.0], math.nan, math.nan, math.nan),
    ],
)
def test_the_ends_of_what_can_be_measured(
    tmp_path: Path, first: list[float], second: list[float], difference: float, p: float, low: float
) -> None:
    found = compared(tmp_path, trials("score", plain=first), trials("score", plain=second))
    one = row(found)
    assert one[["difference", "p", "low"]].tolist() == pytest.approx([difference, p, low], nan_ok=True)
    assert bool(one["told apart"]) == (one["p"] < 0.05)


def test_what_diverged_comes_before_what_shifted(tmp_path: Path) -> None:
    first = trials("score", plain=[1.0, 2.0, 3.0], worse=[1.0, 2.0, 3.0])
    second = trials("score", plain=[2.0, 3.0, 4.001], worse=[math.inf] * 3)
    assert compared(tmp_path, first, second).differing["case"].tolist() == ["worse", "plain"]


def test_a_metric_that_only_some_trials_have_is_compared(tmp_path: Path) -> None:
    records = [trial("plain", 0, score=1.0), trial("plain", 1, score=1.0, late=5.0)]
    found = compared(tmp_path, records, [trial("plain", seed, late=7.0) for seed in range(2)])
    assert found.table["metric"].tolist() == ["late"]
    assert row(found, metric="late")[["first", "second", "pairs"]].tolist() == [5.0, 7.0, 0]


def test_recipes_that_changed_are_named(tmp_path: Path) -> None:
    first = trials("score", Recipe(lr=0.1), plain=[1.0, 2.0]) + trials("score", Recipe(), same=[1.0, 2.0])
    second = trials("score", Recipe(lr=0.2, regularizers=("l2",)), plain=[1.0, 2.0])
    second += trials("score", Recipe(), same=[1.0, 2.0])
    found = compared(tmp_path, first, second)
    assert found.changed == {
        "plain": ["lr: 0.1 -> 0.2", f"regularizers: none -> {Recipe(regularizers=('l2',)).regularizers[0]}"]
    }


def test_a_recipe_that_became_an_experiment(tmp_path: Path) -> None:
    found = compared(tmp_path, trials("score", Recipe(), plain=[1.0]), trials("score", plain=[1.0]))
    said = found.changed["plain"]
    assert "experiment: absent -> made" in said
    assert f"lr: {Recipe().lr} -> absent" in said


def test_cases_of_one_side_and_verdicts_that_changed(tmp_path: Path) -> None:
    sides = [
        write_run(
            tmp_path / "a", trials("s", x=[1.0], old=[1.0]), verdicts={"p": "holds", "q": "holds", "gone": "holds"}
        ),
        write_run(tmp_path / "b", trials("s", x=[1.0], new=[1.0]), verdicts={"q": "does not hold", "p": "holds"}),
    ]
    found = compare(*sides)
    assert found.alone == {"first": ["old"], "second": ["new"]}
    assert found.verdicts == [("q", "holds", "does not hold")]
    assert found.table["case"].tolist() == ["x"]


def damage(folder: Path, what: str) -> None:
    file = {"header": "run.json", "verdicts": "verdicts.json"}.get(what)
    if file is not None:
        (folder / file).write_text('{"claims": [{}]' if what == "header" else '{"claims": [{}]}')
    elif what == "trial":
        one = next((folder / "trials").iterdir())
        one.write_bytes(one.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("header", r"run\.json is damaged: JSONDecodeError"),
        ("verdicts", r"verdicts\.json is damaged: KeyError"),
        ("trial", r"\.trial is damaged \(BadZipFile\): remove it, and --resume runs it again"),
    ],
)
def test_a_damaged_folder_is_one_line(tmp_path: Path, what: str, message: str) -> None:
    first, second = (write_run(tmp_path / name, trials("score", plain=[1.0])) for name in "ab")
    damage(second, what)
    with pytest.raises(RunError, match=message) as caught:
        compare(first, second)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", trials("score", plain=[1.0]))
    newer = write_run(tmp_path / "newer", trials("score", plain=[1.0]), schema=99)
    empty = write_run(tmp_path / "empty", [])
    other = write_run(tmp_path / "other", trials("score", another=[1.0]), suite="else")
    for folder, message in (
        (newer, "was written by a newer diag (schema 99): upgrade diag"),
        (empty, "holds no trial yet: nothing to compare"),
        (other, "(suite 'else') have no case in common: compare two runs of the same suite"),
        (tmp_path / "nothing", "holds no run: there is no run.json in it"),
        (good / "run.json", "is a file: expected a run's folder"),
    ):
        with pytest.raises(RunError) as caught:
            compare(good, folder)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_nothing_of_the_runs_is_executed(tmp_path: Path) -> None:
    source = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    first, second = (write_run(tmp_path / name, trials("score", plain=[1.0]), source=source) for name in "ab")
    assert compare(first, second).identical
    assert not (tmp_path / "ran").exists()
