"""What a report leaves in a folder: its own files and no others, all of them or an error of one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from diag.atomic import WriteError
from diag.report.run.document import Document, Table
from diag.report.run.files import write_markdown, write_report

FIGURES = ["by-seed.svg", "learning.svg"]
TABLES = ["every-trial.csv", "every-trial.parquet", "ranking.csv", "ranking.parquet"]


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_what_an_earlier_report_had_and_this_one_has_not_is_removed(content: Document, tmp_path: Path) -> None:
    page = write_report(content, tmp_path)
    assert page == tmp_path / "report.html"
    assert (names(tmp_path / "figures"), names(tmp_path / "tables")) == (FIGURES, TABLES)
    # Files of the user's own, in folders of the same name.
    own = [tmp_path / "figures" / "mine.svg", tmp_path / "tables" / "results.csv", tmp_path / "tables" / "raw.parquet"]
    for file in own:
        file.write_text("mine")
    smaller = dataclasses.replace(content, pictures=content.pictures[:1], tables=content.tables[1:])
    write_report(smaller, tmp_path)
    assert names(tmp_path / "figures") == ["learning.svg", "mine.svg"]
    assert names(tmp_path / "tables") == ["every-trial.csv", "every-trial.parquet", "raw.parquet", "results.csv"]
    assert [file.read_text() for file in own] == ["mine"] * 3


def test_folders_that_were_there_before_any_report_keep_everything(content: Document, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.svg").write_text("mine")
    (tmp_path / "report.md").write_text("![x](figures/../../old.svg) ![y](/figures/old.svg)")
    write_report(content, tmp_path)
    assert names(tmp_path / "figures") == sorted([*FIGURES, "old.svg"])


def test_markdown_alone(content: Document, tmp_path: Path) -> None:
    assert write_markdown(content, tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "report.md"
    assert names(tmp_path / "new" / "folder") == ["figures", "report.md"]


@pytest.mark.parametrize("blocked", ["figures", "tables", "report.html", "report.md", "."])
def test_what_cannot_be_written_is_one_line(content: Document, tmp_path: Path, blocked: str) -> None:
    folder = tmp_path / "report"
    if blocked == ".":
        folder.write_text("a file")
    elif blocked in ("figures", "tables"):
        folder.mkdir()
        (folder / blocked).write_text("a file")
    else:
        (folder / blocked).mkdir(parents=True)
    with pytest.raises(WriteError, match=r"^cannot write ") as caught:
        write_report(content, folder)
    assert "\n" not in str(caught.value)


def test_a_large_report_is_a_small_page(content: Document, tmp_path: Path) -> None:
    """A hundred thousand rows: all of them for programs, some for people."""
    table = pd.DataFrame({f"column {i}": range(i, 100_000 + i) for i in range(6)})
    page = write_report(dataclasses.replace(content, tables=[Table("large", "Large", "", table)]), tmp_path)
    assert page.stat().st_size < 3_000_000
    assert "The first 2000 of 100000 rows." in page.read_text()
    assert pd.read_parquet(tmp_path / "tables" / "large.parquet").equals(table)
    assert len(pd.read_csv(tmp_path / "tables" / "large.csv")) == 100_000


def test_the_same_run_makes_the_same_files(content: Document, tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_report(content, folder)
    for file in [*(tmp_path / "a").rglob("*.*")]:
        other = tmp_path / "b" / file.relative_to(tmp_path / "a")
        if file.name == "report.html":
            # But for the minute in which it was written.
            continue
        assert file.read_bytes() == other.read_bytes(), file.name
