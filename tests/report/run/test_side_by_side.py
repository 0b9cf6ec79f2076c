"""A comparison in words, as Markdown, as JSON and as a page: the same numbers in each."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from diag.recipes.recipe import Recipe
from diag.report.run import side_by_side
from diag.suite.comparison import Comparison, compare
from tests.report.run.parsed import Tables, markdown_tables, words
from tests.suite.folders import ENVIRONMENT, trial, trials, write_run

FIRST = trials("score", Recipe(), plain=[0.1, 0.2, 0.3], norm=[0.5, 0.61, 0.7], gone=[1.0, 1.0])
SECOND = [
    trial("plain", seed, recipe=Recipe(), environment=ENVIRONMENT | {"torch": "2.14.0"}, score=score)
    for seed, score in enumerate((0.3, 0.401, 0.5))
]
SECOND += trials("score", Recipe(lr=0.5), norm=[0.52, 0.6, 0.71])


@pytest.fixture
def found(tmp_path: Path) -> Comparison:
    first = write_run(tmp_path / "first", FIRST, verdicts={"it learns": "holds", "it stays": "holds"})
    second = write_run(tmp_path / "second", SECOND, verdicts={"it learns": "undecided", "it stays": "holds"})
    return compare(first, second)


def test_what_differs_in_a_few_sentences(found: Comparison) -> None:
    assert side_by_side.summary(found) == (
        "2 shared cases, 1 metric: 1 of 2 measurements differs by more than chance explains, in 1 case. "
        "1 case has another recipe. 1 case only in the first. 1 claim changed its verdict."
    )
    assert side_by_side.remarks(found) == [
        "Measured elsewhere: torch: 2.13.0 -> 2.13.0 and 2.14.0.",
        f"The recipe of 'norm' differs: lr: {Recipe().lr} -> 0.5.",
        "Claim 'it learns': holds -> undecided.",
        "Only in the first: gone.",
    ]


def one_and_the_same(tmp_path: Path, **cases: Any) -> Comparison:
    folders = [write_run(tmp_path / name, trials("score", **cases)) for name in ("a", "b")]
    return compare(*folders)


def test_the_same_twice(tmp_path: Path) -> None:
    found = one_and_the_same(tmp_path, plain=[1.0, 2.0], bad=[math.inf, math.inf], none=[math.nan, math.nan])
    assert side_by_side.summary(found) == "3 shared cases, 1 metric: every measurement is the same in both."
    assert side_by_side.remarks(found) == []
    json.loads(side_by_side.to_json(found))


def test_a_difference_that_seeds_cannot_tell(tmp_path: Path) -> None:
    values = {"a": [1.0, 2.0], "b": [2.0, 1.5]}
    folders = [write_run(tmp_path / name, trials("score", plain=one)) for name, one in values.items()]
    assert side_by_side.summary(compare(*folders)).endswith("the seeds tell no measurement apart.")


def test_the_same_numbers_in_every_form(found: Comparison) -> None:
    table = found.table.set_index("case")
    told, every = markdown_tables(side_by_side.markdown(found))
    assert every[0] == ["case", "metric", "first", "second", "second - first", "95 % interval", "p (Holm)", "pairs"]
    assert [row[0] for row in told[1:]] == ["plain"]
    assert Tables(side_by_side.page(found)).tables == [told, every]
    content = json.loads(side_by_side.to_json(found))
    assert content["schema"] == 1
    assert content["summary"] == side_by_side.summary(found)
    for shown, row in zip(every[1:], content["rows"], strict=True):
        one = table.loc[row["case"]]
        for place, column in ((2, "first"), (3, "second"), (4, "difference"), (6, "p")):
            assert row[column] == one[column]
            assert float(shown[place]) == pytest.approx(one[column], rel=1e-2)
        ends = [float(end) for end in shown[5].strip("[]").split(", ")]
        assert ends == pytest.approx([one["low"], one["high"]], rel=1e-2)
        assert (shown[7], row["pairs"]) == ("3", 3)
        assert row["told apart"] == bool(one["told apart"])
    assert content["changed"] == {"norm": [f"lr: {Recipe().lr} -> 0.5"]}
    assert content["alone"] == {"first": ["gone"], "second": []}
    assert content["verdicts"] == [{"statement": "it learns", "first": "holds", "second": "undecided"}]
    assert content["environment"] == ["torch: 2.13.0 -> 2.13.0 and 2.14.0"]
    page = words(side_by_side.page(found))
    assert "mine, 8 trials, commit 0123456789ab" in page and "mine, 6 trials" in page


def test_in_a_terminal(found: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=140)
    console.print(side_by_side.terminal(found))
    said = capsys.readouterr().out
    assert "told apart" in said and "plain" in said and "norm" not in said
    many = compare(found.first.path, found.second.path)
    assert side_by_side.terminal(many, most=0).title == "told apart: 0 of 1"


def test_rows_without_pairs_say_so(tmp_path: Path) -> None:
    moved = [trial("plain", seed + 10, score=0.5 + 0.1 * seed) for seed in range(3)]
    folders = [write_run(tmp_path / "a", trials("score", plain=[0.1, 0.2, 0.3])), write_run(tmp_path / "b", moved)]
    assert markdown_tables(side_by_side.markdown(compare(*folders)))[-1][1][-1] == "unpaired"
