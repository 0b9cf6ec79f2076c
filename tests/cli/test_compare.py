"""`diag compare` as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.report.run.parsed import Tables, markdown_tables
from tests.suite.folders import trials, write_run

FIRST = trials("score", plain=[0.1, 0.2, 0.3], norm=[0.5, 0.61, 0.7])
SECOND = trials("score", plain=[0.3, 0.401, 0.5], norm=[0.52, 0.6, 0.71], extra=[1.0])


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mark = f"open({str(tmp_path / 'executed')!r}, 'w').close()\n"
    write_run(tmp_path / "first", FIRST, source=mark, verdicts={"it learns": "holds"})
    write_run(tmp_path / "second", SECOND, source=mark, verdicts={"it learns": "does not hold"})


def test_what_differs_is_said_and_changes_no_exit_code(run: Run, tmp_path: Path) -> None:
    result = run("compare", "first", "second")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert " ".join(result.out.split()).startswith(
        "2 shared cases, 1 metric: 1 of 2 measurements differs by more than chance explains, in 1 case. "
        "1 case only in the second. 1 claim changed its verdict. - Claim"
    )
    assert "- Claim 'it learns': holds -> does not hold." in lines
    assert "- Only in the second: extra." in lines
    assert "plain" in result.out and "0.2" in result.out
    assert not (tmp_path / "executed").exists()


def test_the_same_twice(run: Run) -> None:
    result = run("compare", "first", "first")
    assert result.out == "2 shared cases, 1 metric: every measurement is the same in both.\n"


def test_json_has_stdout_for_itself(run: Run, tmp_path: Path) -> None:
    result = run("compare", "first", "second", "--format", "json", "--html", "page.html")
    content = json.loads(result.out)
    assert (result.code, result.err) == (0, "diag: wrote page.html\n")
    assert [one["case"] for one in content["rows"]] == ["norm", "plain"]
    assert [one["told apart"] for one in content["rows"]] == [False, True]
    assert (content["first"], content["second"]) == ("first", "second")
    assert [row[0] for row in Tables((tmp_path / "page.html").read_text()).tables[0][1:]] == ["plain"]


def test_markdown(run: Run) -> None:
    result = run("compare", "first", "second", "--format", "markdown")
    told, every = markdown_tables(result.out)
    assert ([row[0] for row in told[1:]], [row[0] for row in every[1:]]) == (["plain"], ["norm", "plain"])
    assert result.err == ""


def test_names_write_nothing_into_the_terminal(run: Run, tmp_path: Path) -> None:
    name = "[red]\x1b[2J\u202e[/]"
    for folder, shift in (("a", 0.0), ("b", 1.0)):
        records = trials("score", **{name: [0.1 + shift, 0.2 + shift, 0.3 + 1.01 * shift], f"{name} {folder}": [1.0]})
        write_run(tmp_path / folder, records, verdicts={name: folder})
    result = run("compare", "a", "b")
    assert "\x1b" not in result.out + result.err and "\u202e" not in result.out
    assert "[red]\\x1b[2J\\u202e[/]" in result.out
    assert "told apart" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["first", "nothing"], "nothing holds no run: there is no run.json in it"),
        (["nothing", "first"], "nothing holds no run: there is no run.json in it"),
        (["first", "first/run.json"], "first/run.json is a file: expected a run's folder"),
        (["first", "empty"], "empty holds no trial yet: nothing to compare"),
        (["first", "other"], "have no case in common: compare two runs of the same suite"),
        (["first", "newer"], "was written by a newer diag (schema 99): upgrade diag"),
        (["first", "damaged"], "is damaged (BadZipFile): remove it, and --resume runs it again"),
        (["first", "second", "--html", "first"], "cannot write first: it is a folder"),
    ],
)
def test_a_mistake_is_one_line(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    write_run(tmp_path / "empty", [])
    write_run(tmp_path / "other", trials("score", another=[1.0]))
    write_run(tmp_path / "newer", FIRST, schema=99)
    damaged = write_run(tmp_path / "damaged", FIRST)
    one = next((damaged / "trials").iterdir())
    one.write_bytes(one.read_bytes()[:-40])
    result = run("compare", *arguments)
    assert result.code == 2
    assert result.err.startswith("diag: error: ") and result.err.count("\n") == 1
    assert message in result.err


@pytest.mark.parametrize(
    "arguments", [["first"], ["first", "second", "first"], ["first", "second", "--format", "sarif"]]
)
def test_usage(run: Run, arguments: list[str]) -> None:
    result = run("compare", *arguments)
    assert (result.code, result.out) == (2, "")
    assert "Traceback" not in result.err and result.err
