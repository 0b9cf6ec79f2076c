"""Whose code runs when a run is shown: the user's and diag's, not a stranger's, never a module of the run's folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diag.suite import trust
from diag.suite.errors import RunError, SuiteError
from diag.suite.load import suite_folders
from diag.suite.run import open_run, run_suite
from diag.suite.trust import MOST, notebook, remember, trusted_path
from tests.suite.conftest import HEADER
from tests.suite.folders import Inline, trials, write_run

PLAIN = HEADER + (
    'def f(seed):\n    return {"score": float(seed)}\n\n'
    'suite = diag.Suite("Why?", {"a": diag.Experiment(f)}, seeds=2)\n'
)


@pytest.fixture(autouse=True)
def own_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One a test, and no trace of what was loaded."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = list(sys.path)
    yield
    sys.path[:] = path
    sys.modules.pop("helper_of_a_run", None)


def marked(tmp_path: Path, body: str = PLAIN) -> tuple[str, Path]:
    """A suite's source that leaves a file when it is executed, and that file."""
    mark = tmp_path / "executed"
    return f"open({str(mark)!r}, 'a').close()\n{body}", mark


def test_a_strangers_run_is_not_executed_until_it_is_trusted(tmp_path: Path) -> None:
    source, mark = marked(tmp_path)
    folder = write_run(tmp_path / "run", trials("score", a=[0.0, 1.0]), source=source)
    with pytest.raises(RunError, match=r"run/suite\.py was never run on this machine, .* add --trust$") as caught:
        open_run(folder)
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    assert open_run(folder, trust=True).results.values("score", case="a").to_dict() == {0: 0.0, 1: 1.0}
    assert mark.exists()
    # Trusted once is not trusted for good.
    with pytest.raises(RunError):
        open_run(folder)


def test_a_run_of_ones_own_is_shown_and_one_that_was_changed_is_not(tmp_path: Path) -> None:
    suite = tmp_path / "mine.py"
    suite.write_text(PLAIN)
    run_suite(suite, output=tmp_path / "run", engine=Inline())
    assert notebook() == tmp_path / "state" / "diag" / "suites.json"
    assert list(json.loads(notebook().read_text()).values()) == [str(suite)]
    suite.unlink()
    copied = shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert open_run(copied).suite.path == suite
    source, mark = marked(tmp_path)
    (copied / "suite.py").write_text(source)
    with pytest.raises(RunError, match="add --trust"):
        open_run(copied)
    assert not mark.exists()


def test_what_comes_with_diag_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (shipped,) = [one for one in suite_folders() if (one / "quick.py").is_file()]
    source = (shipped / "quick.py").read_text()
    folder = write_run(tmp_path / "run", [], source=source, suite="quick", finished=False)
    assert open_run(folder).suite.path == shipped / "quick.py"
    # A suite of the user's with the same name does not stand in the way.
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "quick.py").write_text(PLAIN)
    assert open_run(folder).suite.path == shipped / "quick.py"


def test_a_suite_that_came_with_the_run_is_a_strangers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, mark = marked(tmp_path)
    (tmp_path / "download" / "suites").mkdir(parents=True)
    (tmp_path / "download" / "suites" / "mine.py").write_text(source)
    folder = write_run(tmp_path / "download" / "run", trials("score", a=[1.0]), source=source)
    monkeypatch.chdir(tmp_path / "download")
    with pytest.raises(RunError, match="add --trust"):
        open_run(folder)
    assert not mark.exists()


@pytest.mark.parametrize("origin", [None, "/nowhere/mine.py", "RUN/suite.py", "RUN/below/mine.py", "run/mine.py"])
def test_nothing_is_imported_from_a_runs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "imported"
    folder = tmp_path / "run"
    write_run(
        folder,
        trials("score", a=[1.0]),
        source="import helper_of_a_run\n" + PLAIN,
        file=origin.replace("RUN", str(folder)) if origin else None,
    )
    for place in (folder, folder / "below"):
        place.mkdir(exist_ok=True)
        (place / "helper_of_a_run.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    with pytest.raises(SuiteError, match="No module named 'helper_of_a_run'"):
        open_run(folder, trust=True)
    assert not mark.exists()
    assert not [one for one in sys.path if Path(one).is_dir() and Path(one).is_relative_to(folder)]


def test_helpers_are_found_beside_the_suites_own_file(tmp_path: Path) -> None:
    suite = tmp_path / "mine.py"
    suite.write_text("import helper_of_a_run\n" + PLAIN)
    (tmp_path / "helper_of_a_run.py").write_text("")
    folder = write_run(tmp_path / "run", trials("score", a=[1.0]), source=suite.read_text(), file=str(suite))
    assert open_run(folder, trust=True).suite.path == suite
    remember(suite.read_text(), suite)
    assert open_run(folder).suite.path == suite


@pytest.mark.parametrize("name", ["../evil", "a/b", "a\\b", "..", "", 3, "a\nb"])
def test_a_suites_name_leads_out_of_no_folder(tmp_path: Path, name: str | int) -> None:
    folder = write_run(tmp_path / "run", trials("score", a=[1.0]), source=PLAIN, suite=name)
    with pytest.raises(RunError, match=r"run\.json is damaged: a suite is not named") as caught:
        open_run(folder, trust=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{", '"text"', "\x00"])
def test_a_damaged_notebook_trusts_nothing_and_is_written_anew(tmp_path: Path, content: str) -> None:
    notebook().parent.mkdir(parents=True)
    notebook().write_text(content)
    assert trusted_path("mine", PLAIN) is None
    remember(PLAIN, tmp_path / "mine.py")
    assert trusted_path("mine", PLAIN) == tmp_path / "mine.py"


def test_a_notebook_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    remember(PLAIN, tmp_path / "mine.py")
    assert trusted_path("mine", PLAIN) is None


def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST >= 100
    monkeypatch.setattr(trust, "MOST", 3)
    for number in range(5):
        remember(f"source {number}", tmp_path / f"{number}.py")
    known = [trusted_path("mine", f"source {number}") for number in range(5)]
    assert known == [None, None, *(tmp_path / f"{number}.py" for number in (2, 3, 4))]


def test_the_notebook_is_in_the_users_home_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert notebook() == tmp_path / ".local" / "state" / "diag" / "suites.json"
