"""A gallery: an answer per suite, linked and pictured, which only whole runs get into."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from diag.errors import DiagError
from diag.report.run.gallery import write_gallery
from diag.suite.trust import remember
from tests.report.run.parsed import Elements, rendered, words
from tests.suite.conftest import HEADER
from tests.suite.folders import trials, write_run

SOURCE = HEADER + (
    "def made(seed):\n    return {}\n\n"
    'suite = diag.Suite("Is <b> bold?", {"a": diag.Experiment(made)}, seeds=2, answer=lambda r: "It | is $not$.",\n'
    '    tables={"Trials": lambda r: r.frame})\n'
)


def other(folder: Path, **header: object) -> Path:
    run = write_run(folder, trials("score", a=[1.0, 2.0]), source=SOURCE, verdicts={}, **header)
    remember(SOURCE, Path("/nowhere/mine.py"))
    return run


def test_every_answer_is_linked_and_pictured(run_folder: Path, tmp_path: Path) -> None:
    readme = write_gallery([run_folder, other(tmp_path / "run", suite="two words")], tmp_path / "gallery")
    assert readme == tmp_path / "gallery" / "README.md"
    shown = rendered(readme.read_text())
    links = [attributes["href"] for tag, attributes in Elements(shown).all if tag == "a"]
    assert links == ["rates/report.md", "two%20words/report.md"]
    images = [attributes["src"] for tag, attributes in Elements(shown).all if tag == "img"]
    assert images == ["rates/figures/learning.svg"]
    for one in links + images:
        assert (tmp_path / "gallery" / unquote(str(one))).is_file()
    assert "two words: Is <b> bold?" in words(shown)
    assert "It | is $not$." in words(shown)
    assert "Of 4 claims, 2 hold, 1 does not, and 1 is undecided." in words(shown)
    rates = tmp_path / "gallery" / "rates"
    assert sorted(one.name for one in rates.iterdir()) == [
        "baseline.json", "figures", "report.md", "summary.md", "verdicts.json",
    ]  # fmt: skip
    assert (rates / "verdicts.json").read_bytes() == (run_folder / "verdicts.json").read_bytes()
    assert sorted(json.loads((rates / "baseline.json").read_text())["cases"]) == ["lr=0.01", "lr=0.2"]
    # Nothing was trained: there is nothing to hold another run to.
    assert not (tmp_path / "gallery" / "two words" / "baseline.json").exists()


def test_answers_that_are_there_stay_and_stay_linked(run_folder: Path, tmp_path: Path) -> None:
    write_gallery([other(tmp_path / "run")], tmp_path / "gallery")
    readme = write_gallery([run_folder], tmp_path / "gallery").read_text()
    assert readme.index("(mine/report.md)") < readme.index("(rates/report.md)")


@pytest.mark.parametrize("what", ["unfinished", "never judged"])
def test_half_a_run_is_no_answer(run_folder: Path, tmp_path: Path, what: str) -> None:
    half = shutil.copytree(run_folder, tmp_path / "half")
    if what == "unfinished":
        header = json.loads((half / "run.json").read_text()) | {"finished": False}
        (half / "run.json").write_text(json.dumps(header))
    else:
        (half / "verdicts.json").unlink()
    with pytest.raises(DiagError, match="half is unfinished: a gallery holds the answers of whole runs; --resume"):
        write_gallery([half], tmp_path / "gallery")
    assert not (tmp_path / "gallery").exists()


def test_a_strangers_run_is_not_executed_for_it(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    source = f"open({str(mark)!r}, 'w').close()\n{SOURCE}"
    folder = write_run(tmp_path / "run", trials("score", a=[1.0]), source=source, verdicts={})
    with pytest.raises(DiagError, match="add --trust"):
        write_gallery([folder], tmp_path / "gallery")
    assert not mark.exists()
    write_gallery([folder], tmp_path / "gallery", trust=True)
    assert mark.exists()
