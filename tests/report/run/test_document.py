"""What a report says of a run that is unfinished, of functions that fail, and of names that clash."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from diag.errors import DiagError
from diag.report.run import markdown, page
from diag.report.run.cells import MOST_ROWS, shown
from diag.report.run.document import Table, command, different, document, file_name, flat
from diag.report.run.files import plain_types, rows, to_json
from diag.report.run.markdown import frame_lines
from diag.suite.record import packed
from diag.suite.run import open_run
from diag.suite.suite import parse_changes
from tests.report.run.parsed import Tables
from tests.suite.conftest import HEADER
from tests.suite.folders import trials, write_run

BODY = """
from diag.report import suite_figures

def made(seed):
    return {{}}

def by_seed(results):
    return suite_figures.curves(results.select(case="b"), "seed", "score")

def difference(results):
    return results.difference("score", {{"case": "a"}}, {{"case": "b"}})

def of_b(results):
    return results.frame.groupby("case")["score"].mean().loc[["b"]].to_frame().reset_index()

suite = diag.Suite(
    question="Why?",
    cases={{name: diag.Experiment(made) for name in "ab"}},
    seeds=2,
    claims=[diag.Claim("a is below b", "-", difference, below=0.0)],
    {options}
)
"""
RECORDS = trials("score", a=[1.0, 1.5])
ALL = [*RECORDS, *trials("score", b=[2.0, 2.5])]


def run_of(folder: Path, options: str = "", records: list[Any] = ALL, **header: Any) -> Path:
    return write_run(folder, records, source=HEADER + BODY.format(options=options), **header)


def document_of(folder: Path, options: str = "", records: list[Any] = ALL, **header: Any):
    return document(open_run(run_of(folder, options, records, **header), trust=True))


def test_an_unfinished_run_says_so_and_what_it_lacks(tmp_path: Path) -> None:
    options = 'figures={"By seed": by_seed}, tables={"Means": of_b}, answer=lambda r: str(of_b(r))'
    found = document_of(tmp_path / "run", options, RECORDS, finished=False, trials=4)
    assert found.unfinished.startswith("This run is unfinished: 2 of 4 trials.")
    assert "--resume" in found.unfinished
    assert (found.pictures, found.tables) == ([], [])
    assert [one.partition(":")[0] for one in found.absent] == ["By seed", "Means"]
    assert found.answer == "Of 1 claim, 0 hold, 0 do not, and 1 is undecided. None fails in this measurement."
    assert found.claims[0].verdict == "undecided"
    for text in (markdown.render(found), page.render(found)):
        assert "2 of 4 trials" in text
        assert "Left out" in text
    assert json.loads(to_json(found))["finished"] is False
    assert json.loads(to_json(found))["absent"] == found.absent


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    options = 'figures={"By seed": by_seed}, tables={"Ranking": lambda r: r.ranking("ab", score="high")}'
    found = document_of(tmp_path / "run", options, [], finished=None, trials=None)
    assert "0 trials so far" in found.unfinished
    assert "0 trials with no seeds a case" in found.how
    assert page.render(found).count("<table") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('figures={"Bad": lambda r: 1 / 0}', "the figure 'Bad' fails: ZeroDivisionError: division by zero"),
        ('figures={"Bad": lambda r: None}', "the figure 'Bad' is a NoneType: expected a matplotlib Figure"),
        ('tables={"Bad": lambda r: r.frame["nothing"]}', "the table 'Bad' fails: KeyError: 'nothing'"),
        ('tables={"Bad": lambda r: r.frame["score"]}', "the table 'Bad' is a Series: expected a pandas DataFrame"),
        ("answer=lambda r: r.nothing", "the answer fails: AttributeError"),
        ('concepts=["saturatoin"]', "no concept 'saturatoin' is explained (did you mean 'saturation'?)"),
    ],
)
def test_a_mistake_in_the_suite_is_one_line(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(DiagError) as caught:
        document_of(tmp_path / "run", options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_answer_is_the_suites_or_the_verdicts(tmp_path: Path) -> None:
    assert document_of(tmp_path / "a", 'answer=lambda r: " It\\n is so. "').answer == "It is so."
    assert document_of(tmp_path / "b", "answer=lambda r: None").answer == (
        "Of 1 claim, 1 holds, 0 do not, and 0 are undecided. None fails in this measurement."
    )
    none = run_of(tmp_path / "c")
    source = (none / "suite.py").read_text()
    (none / "suite.py").write_text(source[: source.index("    claims=[")] + ")\n")
    assert document(open_run(none, trust=True)).answer.startswith("The suite makes no claim.")


def test_titles_that_make_the_same_name_have_files_of_their_own(tmp_path: Path) -> None:
    options = 'tables={title: of_b for title in ("A/B", "A B", "\\u7cbe\\u5ea6", "\\u640d\\u5931", "x" * 300)}'
    found = document_of(tmp_path / "run", options)
    names = [one.name for one in found.tables]
    assert names == ["a-b", "a-b-2", "untitled", "untitled-2", "x" * 80]
    assert len(Tables(page.render(found)).tables) == 5
    assert different(["a", "a 2", "a", "a"]) == ["a", "a 2", "a 3", "a 4"]
    assert file_name("  Two  rates, at 5 %  ") == "two-rates-at-5"


def test_a_figure_of_pyplot_is_closed(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    options = 'figures={"Plot": lambda r: r.frame.plot(x="seed", y="score").figure}'
    assert len(document_of(tmp_path / "run", options).pictures) == 1
    assert plt.get_fignums() == before


def test_how_it_was_measured(tmp_path: Path) -> None:
    found = document_of(tmp_path / "run", seconds=75.25)
    # Each record says half a second of training.
    assert found.how.startswith(
        "4 trials with 2 seeds a case, 75.2 s on the clock (2 s of one-thread work), begun 2026-01-02T03:04:05+00:00, "
        "commit 0123456789ab; diag 0.1.0, python 3.11.7, torch 2.13.0, device cpu, threads 1."
    )
    uneven = [*ALL, *trials("score", b=[1.0, 1.0, 1.0])[2:]]
    assert "with 2 to 3 seeds a case" in document_of(tmp_path / "uneven", records=uneven).how


def test_the_command_runs_the_same_again() -> None:
    settings = {"quick": True, "seeds": 3, "set": {"optimizer": "adam", "regularizers": ["l2", "dropout(p=0.1)"]}}
    said = shlex.split(command({"suite": "two words", "settings": settings}))
    assert said[:6] == ["diag", "run", "two words", "--quick", "--seeds", "3"]
    assert said[6::2] == ["--set", "--set"]
    assert parse_changes(said[7::2]) == settings["set"]


def test_an_index_becomes_columns_and_columns_one_string_each() -> None:
    frame = pd.DataFrame({"case": ["a", "a", "b"], "lr": [1, 2, 1], "x": [1.0, 2.0, 3.0]})
    assert flat(frame.groupby("case")[["x"]].agg(["mean", "min"])).to_dict("list") == {
        "case": ["a", "b"], "x mean": [1.5, 3.0], "x min": [1.0, 3.0],
    }  # fmt: skip
    wide = flat(frame.pivot(index="case", columns="lr", values="x"))
    assert list(wide.columns) == ["case", "1", "2"]
    assert list(flat(pd.DataFrame([[1, 2]], columns=[0, "a"])).columns) == ["0", "a"]
    assert list(flat(frame[frame["x"] > 1]).index) == [0, 1]
    assert list(flat(pd.DataFrame([[1, 2, 3]], columns=["a", "a", "b"])).columns) == ["a", "a 2", "b"]


ODD = pd.DataFrame(
    {
        "integer": pd.array([1, None, 3], dtype="Int64"),
        "truth": pd.array([True, None, False], dtype="boolean"),
        "name": ["x", None, "z"],
        "mixed": [1, "two", [3, 4]],
        "when": pd.to_datetime(["2026-01-02", None, "2026-01-04"]),
        "kind": pd.Categorical(["p", None, "q"]),
        "complex": np.array([1 + 2j, np.nan, 3]),
        "half": [0.5, 0.5, np.nan],
        "half ±": [np.inf, 0.1, 0.1],
        "_under_score": [10**12, -5, 0],
    }
)


def test_columns_of_every_kind(tmp_path: Path) -> None:
    head, body = shown(ODD)
    assert head == ["integer", "truth", "name", "mixed", "when", "kind", "complex", "half", " under score"]
    texts = [[one.text for one in row] for row in body]
    assert texts[0] == ["1", "yes", "x", "1", "2026-01-02 00:00:00", "p", "(1+2j)", "0.5 ± inf", "1000000000000"]
    assert texts[1] == ["-", "-", "-", "two", "-", "-", "-", "0.50 ± 0.10", "-5"]
    assert texts[2] == ["3", "no", "z", "[3, 4]", "2026-01-04 00:00:00", "q", "(3+0j)", "- ± 0.1", "0"]
    plain = rows(ODD)
    json.dumps(plain, allow_nan=False)
    assert plain[1] | {"half ±": 0} == {
        "integer": None, "truth": None, "name": None, "mixed": "two", "when": None, "kind": None, "complex": None,
        "half": 0.5, "half ±": 0, "_under_score": -5,
    }  # fmt: skip
    assert plain[0]["half ±"] == "inf"
    (tmp_path / "x.parquet").write_bytes(packed(plain_types(ODD)))
    back = pd.read_parquet(tmp_path / "x.parquet")
    assert back["name"].isna().tolist() == [False, True, False]
    assert back["mixed"].tolist() == ["1", "two", "[3, 4]"]
    assert back["complex"].tolist()[0] == "(1+2j)"
    assert back["integer"].isna().tolist() == [False, True, False]
    assert len(Tables(page.styled_table(Table("t", "t", "", ODD))).tables[0]) == 4


def test_two_columns_that_read_the_same_are_two() -> None:
    frame = pd.DataFrame({"a_b": [1], "a b": [2]})
    assert Tables(page.styled_table(Table("t", "t", "", frame))).tables == [[["a b", "a b"], ["1", "2"]]]


def test_a_long_table_is_cut_and_says_so() -> None:
    frame = pd.DataFrame({"x": range(MOST_ROWS + 5)})
    text = page.styled_table(Table("t", "t", "", frame))
    assert len(Tables(text).tables[0]) == MOST_ROWS + 1
    assert text.endswith(f"<p>The first {MOST_ROWS} of {MOST_ROWS + 5} rows.</p>")
    lines = frame_lines(frame)
    assert lines[-1] == f"The first {MOST_ROWS} of {MOST_ROWS + 5} rows."
    assert len(lines) == MOST_ROWS + 4
    assert not [one for one in frame_lines(frame.head(3)) if "first" in one]


def test_a_table_without_rows() -> None:
    frame = pd.DataFrame({"case": [], "score": []})
    assert Tables(page.styled_table(Table("t", "t", "", frame))).tables == [[["case", "score"]]]
    assert frame_lines(frame) == ["| case | score |", "|---|---|"]
