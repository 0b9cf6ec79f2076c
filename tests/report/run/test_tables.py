"""The numbers of a report's tables, in every form, against the trials' files read and averaged by hand."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from diag.report.run.cells import with_half_width
from diag.report.run.files import to_json
from tests.report.run.parsed import Tables, markdown_tables

METRICS = ("test_accuracy", "test_loss")
RANKING, TRIALS = "ranking", "every-trial"


@pytest.fixture(scope="session")
def measured(run_folder: Path) -> pd.DataFrame:
    """case, seed and metrics of every trial, straight from the files; in the order in which they ran."""
    rows = []
    for file in (run_folder / "trials").iterdir():
        with zipfile.ZipFile(file) as archive:
            one = json.loads(archive.read("trial.json"))
        rows.append({"case": one["case"], "seed": one["seed"], "lr": one["recipe"]["lr"], **one["metrics"]})
    return pd.DataFrame(rows).sort_values(["seed", "lr"], ignore_index=True)


@pytest.fixture(scope="session")
def expected(measured: pd.DataFrame) -> pd.DataFrame:
    """Mean and half-width per case and metric, the better case first."""
    groups = measured.groupby("case")[list(METRICS)]
    count = groups.size()
    half = groups.std() / (count.to_numpy()[:, None] ** 0.5) * stats.t.ppf(0.975, count.to_numpy()[:, None] - 1)
    both = pd.concat({"mean": groups.mean(), "half": half}, axis=1)
    return both.sort_values(("mean", "test_accuracy"), ascending=False)


def agrees(shown: str, mean: float, half: float) -> None:
    """`0.76 ± 0.17` is the two numbers, rounded where the half-width has two digits."""
    first, second = shown.split(" ± ")
    places = len(second.partition(".")[2])
    assert first == f"{mean:.{places}f}"
    assert second == f"{half:.{places}f}"
    assert len(second.replace(".", "").lstrip("0")) == 2


def shown_tables(report: Path, form: str) -> list[list[list[str]]]:
    if form == "html":
        return Tables((report / "report.html").read_text()).tables
    # The first is that of the claims, which on the page is a list.
    return markdown_tables((report / "report.md").read_text())[1:]


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_the_ranking_that_people_read(report: Path, expected: pd.DataFrame, form: str) -> None:
    head, *rows = shown_tables(report, form)[0]
    assert head == ["case", "seeds", "test accuracy", "test loss"]
    assert [row[0] for row in rows] == list(expected.index)
    for row, (_, one) in zip(rows, expected.iterrows(), strict=True):
        assert row[1] == "3"
        for text, metric in zip(row[2:], METRICS, strict=True):
            agrees(text, one["mean", metric], one["half", metric])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_ranking_that_programs_read(report: Path, expected: pd.DataFrame, suffix: str) -> None:
    file = report / "tables" / f"{RANKING}.{suffix}"
    table = pd.read_csv(file) if suffix == "csv" else pd.read_parquet(file)
    assert list(table["case"]) == list(expected.index)
    for metric in METRICS:
        # To the last bit or so, where people get two digits.
        assert table[metric].tolist() == pytest.approx(expected["mean", metric].tolist(), rel=1e-12)
        assert table[f"{metric} ±"].tolist() == pytest.approx(expected["half", metric].tolist(), rel=1e-12)
    assert table["test_accuracy mark"].fillna("").tolist() == ["best", ""]


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_every_trial_that_people_read(report: Path, measured: pd.DataFrame, form: str) -> None:
    head, *rows = shown_tables(report, form)[1]
    assert head == ["case", "seed", "test accuracy", "test loss", "learned", "reached", "huge"]
    assert len(rows) == 6
    for row, (_, one) in zip(rows, measured.iterrows(), strict=True):
        assert row[:2] == [one["case"], str(one["seed"])]
        assert float(row[2]) == pytest.approx(one["test_accuracy"], rel=5e-3)
        assert float(row[3]) == pytest.approx(one["test_loss"], rel=5e-3)
        learned = one["test_accuracy"] > 0.5
        assert row[4] == ("yes" if learned else "no")
        assert row[5] == (row[3] if learned else "-")
    assert [row[6] for row in rows] == ["1.0e+05", "-3", "inf", "-inf", "2.0e-07", "12345"]
    assert {row[4] for row in rows} == {"yes", "no"}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_trial_that_programs_read(report: Path, measured: pd.DataFrame, suffix: str) -> None:
    file = report / "tables" / f"{TRIALS}.{suffix}"
    table = pd.read_csv(file) if suffix == "csv" else pd.read_parquet(file)
    for column in ("case", "seed", *METRICS):
        assert table[column].tolist() == measured[column].tolist()
    learned = measured["test_accuracy"] > 0.5
    assert table["learned"].tolist() == learned.tolist()
    # What was not measured is missing, and not 0.
    assert table["reached"].isna().tolist() == (~learned).tolist()
    assert table["huge"].tolist() == [1e5, -3.0, float("inf"), float("-inf"), 2e-7, 12345.0]


def test_the_best_stands_out(report: Path) -> None:
    classes = Tables((report / "report.html").read_text()).classes[0]
    best = [[("best" in cell) for cell in row] for row in classes[1:]]
    assert best == [[False, False, True, True], [False, False, False, False]]
    assert ["num" in cell for cell in classes[1]] == [False, True, True, True]
    lines = [one for one in (report / "report.md").read_text().splitlines() if one.startswith("| lr=0.")]
    assert [one.count("**") for one in lines[:2]] == [4, 0]
    assert "|---|--:|--:|--:|" in (report / "report.md").read_text()


def test_json_holds_the_same_numbers(content, expected: pd.DataFrame, measured: pd.DataFrame) -> None:
    found = json.loads(to_json(content))
    assert found["schema"] == 1 and found["finished"] is True
    assert found["question"] == "Does the higher rate learn faster?"
    assert found["command"] == "diag run rates"
    ranking = found["tables"]["Ranking"]
    assert [one["test_loss"] for one in ranking] == pytest.approx(expected["mean", "test_loss"].tolist(), rel=1e-12)
    rows = found["tables"]["Every trial"]
    assert [one["test_accuracy"] for one in rows] == measured["test_accuracy"].tolist()
    assert [one["reached"] is None for one in rows] == (measured["test_accuracy"] <= 0.5).tolist()
    assert [one["huge"] for one in rows] == [1e5, -3.0, "inf", "-inf", 2e-7, 12345.0]
    assert [one["learned"] for one in rows] == (measured["test_accuracy"] > 0.5).tolist()


def test_claims_hold_the_same_numbers(content, measured: pd.DataFrame) -> None:
    wide = measured.pivot(index="seed", columns="lr", values="test_accuracy")
    gain = wide[0.2] - wide[0.01]
    low, high = stats.ttest_1samp(gain, 0).confidence_interval(0.95)
    claims = json.loads(to_json(content))["claims"]
    assert [one["verdict"] for one in claims] == ["holds", "does not hold", "undecided", "holds"]
    (part,) = claims[0]["parts"]
    assert [part["estimate"], part["low"], part["high"]] == pytest.approx([gain.mean(), low, high], rel=1e-9)
    # Of two parts together: each has an interval of 97.5 %.
    losses = measured.pivot(index="seed", columns="lr", values="test_loss")
    ends = [stats.ttest_1samp(losses[lr], 0).confidence_interval(0.975) for lr in (0.01, 0.2)]
    assert [(one["name"], one["low"], one["high"]) for one in claims[3]["parts"]] == [
        (f"rate {lr}", pytest.approx(end.low), pytest.approx(end.high))
        for lr, end in zip((0.01, 0.2), ends, strict=True)
    ]


@pytest.mark.parametrize(
    ("mean", "half", "shown"),
    [
        (0.93421, 0.0123, "0.934 ± 0.012"),
        (12.0, 0.0, "12 ± 0"),
        (312.4, 25.0, "312 ± 25"),
        (5231.0, 250.0, "5231 ± 250"),
        (2.6e26, 4.1e26, "2.6e+26 ± 4e+26"),
        (0.5, 1e-9, "0.5 ± 1e-09"),
        (0.5, 9.96, "0.5 ± 10.0"),
        (float("inf"), float("nan"), "inf ± -"),
        (1.0, float("inf"), "1 ± inf"),
        (float("nan"), 1.0, "- ± 1"),
    ],
)
def test_a_mean_and_its_half_width(mean: float, half: float, shown: str) -> None:
    assert with_half_width(mean, half) == shown
