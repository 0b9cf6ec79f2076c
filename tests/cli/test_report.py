"""`diag report` as a person calls it: runs, traces, galleries, and what is said to a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from diag.suite.trust import remember
from diag.trace import save
from tests.cli.conftest import Run
from tests.report.run.parsed import Tables
from tests.report.synthetic import build_trace
from tests.suite.conftest import HEADER
from tests.suite.folders import trials, write_run

SOURCE = (
    HEADER
    + """
from diag.report import suite_figures

def made(seed):
    return {}

def by_seed(results):
    \"\"\"Every score.\"\"\"
    return suite_figures.curves(results.frame, "seed", "score")

suite = diag.Suite(
    question="Which is [larger]?",
    cases={"low": diag.Experiment(made), "high": diag.Experiment(made)},
    figures={"By seed": by_seed},
    tables={"Ranking": lambda results: results.ranking(["low", "high"], score="high")},
    claims=[
        diag.Claim("high is [bold]above[/] 2", "-", lambda r: r.values("score", case="high"), above=2.0),
        diag.Claim("low is above 2", "-", lambda r: r.values("score", case="low"), above=2.0),
    ],
)
"""
)
RECORDS = trials("score", low=[1.0, 1.25, 1.5], high=[3.0, 3.25, 3.5])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    remember(SOURCE, tmp_path / "mine.py")
    return write_run(tmp_path / "run", RECORDS, source=SOURCE, verdicts={})


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return save(build_trace(21, 4), tmp_path / "trace.parquet") or tmp_path / "trace.parquet"


def files(folder: Path) -> list[str]:
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


REPORT = [
    "figures/by-seed.svg", "report.html", "report.md", "tables/ranking.csv", "tables/ranking.parquet",
]  # fmt: skip


def test_a_run_is_shown_and_its_report_written_beside_it(run: Run, folder: Path) -> None:
    before = files(folder)
    result = run("report", folder)
    assert result.code == 0
    assert result.err == f"diag: wrote {folder / 'report.html'}\n"
    assert "Which is [larger]?" in result.out
    assert "Of 2 claims, 1 holds, 1 does not, and 0 are undecided." in result.out
    assert "high is [bold]above[/] 2" in result.out
    assert sorted(set(files(folder)) - set(before)) == REPORT


def test_output_is_another_folder(run: Run, folder: Path, tmp_path: Path) -> None:
    before = files(folder)
    result = run("report", folder, "--output", "there", "--html", "one.html")
    assert result.code == 0
    assert result.err == "diag: wrote one.html\ndiag: wrote there/report.html\n"
    assert files(tmp_path / "there") == REPORT
    assert (
        Tables((tmp_path / "one.html").read_text()).tables
        == Tables((tmp_path / "there" / "report.html").read_text()).tables
    )
    assert files(folder) == before


def test_html_alone_writes_nothing_else(run: Run, folder: Path, tmp_path: Path) -> None:
    before = files(folder)
    assert run("report", folder, "--html", tmp_path / "one.html").code == 0
    assert files(folder) == before


def test_json_has_stdout_for_itself(run: Run, folder: Path) -> None:
    before = files(folder)
    result = run("report", folder, "--format", "json", "--html", "one.html", "--output", "there")
    content = json.loads(result.out)
    assert (result.code, content["suite"], content["finished"]) == (0, "mine", True)
    assert content["tables"]["Ranking"][0] == {
        "case": "high", "seeds": 3, "score": 3.25, "score ±": pytest.approx(0.25 * 4.302653 / 3**0.5),
        "score mark": "best",
    }  # fmt: skip
    assert result.err.count("diag: wrote") == 2
    assert files(folder) == before
    result = run("report", folder, "--format", "json")
    assert (json.loads(result.out)["schema"], result.err) == (1, "")


def test_markdown_on_stdout(run: Run, folder: Path) -> None:
    result = run("report", folder, "--format", "markdown")
    assert result.out.startswith("# Which is \\[larger\\]?\n")
    assert "| **high** | 3 |" in result.out or "| high | 3 | **3.25 ± 0.62** |" in result.out
    assert result.err == ""


def test_text_alone_writes_no_file(run: Run, folder: Path) -> None:
    before = files(folder)
    result = run("report", folder, "--format", "text")
    assert "does not hold" in result.out
    assert (result.err, files(folder)) == ("", before)


def test_several_runs_in_one_command(run: Run, folder: Path, tmp_path: Path) -> None:
    second = write_run(tmp_path / "second", RECORDS, source=SOURCE)
    result = run("report", folder, second)
    assert result.code == 0
    assert result.out.count("Which is [larger]?") == 2
    assert (second / "report.html").is_file() and (folder / "report.html").is_file()
    assert run("report", folder, second, "--format", "markdown").out.count("# Which is") == 2


def test_a_gallery(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("report", folder, "--gallery", "answers")
    assert (result.code, result.out, result.err) == (0, "", "diag: wrote answers/README.md\n")
    assert files(tmp_path / "answers") == [
        "README.md", "mine/figures/by-seed.svg", "mine/report.md", "mine/summary.md", "mine/verdicts.json",
    ]  # fmt: skip


def test_an_unfinished_run_says_so(run: Run, folder: Path, tmp_path: Path) -> None:
    half = write_run(tmp_path / "half", RECORDS[:3], source=SOURCE, finished=None, trials=None)
    result = run("report", half, "--format", "text")
    assert result.code == 0
    assert result.err.startswith("diag: This run is unfinished: 3 trials so far.")
    assert result.err.count("\n") == 1
    assert "undecided" in result.out


def test_trials_that_are_gone_are_counted(run: Run, folder: Path) -> None:
    held = sorted((folder / "trials").glob("*.trial"))
    for one in held[3:]:
        one.unlink()
    result = run("report", folder)
    told = "3 of the 6 trials of this run are missing from its folder."
    assert result.code == 0
    assert result.err.startswith(f"diag: {told}") and told in (folder / "report.html").read_text()
    before = files(folder)
    for one in held[:3]:
        one.unlink()
    result = run("report", folder)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"diag: error: none of the 6 trials of this run is left in {folder / 'trials'}: ")
    assert result.err.count("\n") == 1 and "--resume" in result.err
    assert set(files(folder)) == {one for one in before if not one.endswith(".trial")}


def test_a_strangers_run_needs_trust(run: Run, folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    source = f"open({str(mark)!r}, 'w').close()\n{SOURCE}"
    stranger = write_run(tmp_path / "stranger", RECORDS, source=source)
    result = run("report", stranger)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert result.err.startswith(f"diag: error: {stranger / 'suite.py'} was never run on this machine")
    assert not mark.exists()
    assert run("report", stranger, "--trust").code == 0
    assert mark.exists()


def test_a_trace_is_diagnosed(run: Run, folder: Path, trace: Path, tmp_path: Path) -> None:
    result = run("report", trace, "--format", "json", "--html", "page.html")
    content = json.loads(result.out)
    assert (result.code, content["schema"]) == (0, 1)
    assert {"vanishing-gradient"} <= {one["rule"] for one in content["findings"]}
    assert result.err == "diag: wrote page.html\n"
    assert "trace.parquet" in (tmp_path / "page.html").read_text()
    text = run("report", "trace.parquet")
    assert "vanishing-gradient" in text.out and text.err == ""
    assert run("report", trace, "--format", "sarif").out.startswith("{")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no run at nothing: expected a folder such as diag-runs/quick-001, or a trace's file"),
        (["."], "holds no run: there is no run.json in it"),
        (["run", "run", "--html", "x.html"], "--html and --output take one RUN; several go into a --gallery DIR"),
        (["run", "run", "--output", "x"], "--html and --output take one RUN; several go into a --gallery DIR"),
        (["run", "run", "--format", "json"], "--format json takes one RUN: several would not be one document"),
        (["run", "--format", "junit"], "--format junit is for a diagnosis; a run's report is text, json or markdown"),
        (["run", "--gallery", "x", "--html", "y"], "leave out --html, --output and --format"),
        (["run", "--gallery", "x", "--format", "json"], "leave out --html, --output and --format"),
        (["trace.parquet", "--gallery", "x"], "--gallery takes runs' folders, and trace.parquet is a file"),
        (["trace.parquet", "--output", "x"], "a trace's report is one page: --html FILE"),
        (["trace.parquet", "--html", "run"], "--html run is a folder: expected a file's name"),
        (["mine.py"], "mine.py is not a trace that can be read"),
        (["run", "--output", "mine.py"], "cannot write mine.py/"),
        (["run", "--html", "run"], "cannot write run: it is a folder"),
        (["damaged"], "is damaged (BadZipFile): remove it, and --resume runs it again"),
        (["newer"], "newer/run.json was written by a newer diag (schema 99): upgrade diag"),
        (["older"], "is damaged: KeyError: 'quick'"),
        (["newer-trial"], "was written by a newer diag (schema 99): upgrade diag"),
    ],
)
def test_a_mistake_is_one_line(
    run: Run, folder: Path, trace: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    damaged = write_run(tmp_path / "damaged", RECORDS, source=SOURCE)
    one = next((damaged / "trials").iterdir())
    one.write_bytes(one.read_bytes()[:-40])
    write_run(tmp_path / "newer", RECORDS, source=SOURCE, schema=99)
    write_run(tmp_path / "older", RECORDS, source=SOURCE, settings={})
    later = write_run(tmp_path / "newer-trial", RECORDS, source=SOURCE)
    newer_trial(next((later / "trials").iterdir()))
    result = run("report", *arguments)
    assert result.code == 2
    last = result.err.splitlines()[-1]
    assert last.startswith("diag: error: ")
    assert message in last
    assert result.err.count("\n") == 1
    if "json" in arguments:
        assert result.out == ""


def newer_trial(file: Path) -> None:
    import zipfile

    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("trial.json", '{"schema": 99}')


def test_nothing_is_written_when_the_suite_is_at_fault(run: Run, folder: Path, tmp_path: Path) -> None:
    source = SOURCE.replace('results.ranking(["low", "high"], score="high")', "1 / 0")
    remember(source, tmp_path / "other.py")
    faulty = write_run(tmp_path / "faulty", RECORDS, source=source)
    before = files(faulty)
    result = run("report", faulty)
    assert (result.code, result.out) == (2, "")
    assert result.err == "diag: error: mine: the table 'Ranking' fails: ZeroDivisionError: division by zero\n"
    assert files(faulty) == before


def test_tables_hold_what_was_measured(run: Run, folder: Path) -> None:
    assert run("report", folder).code == 0
    table = pd.read_csv(folder / "tables" / "ranking.csv")
    assert table["score"].tolist() == [3.25, 1.25]
