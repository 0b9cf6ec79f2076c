"""`[tool.diag]` of the nearest pyproject.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from diag.errors import DiagError
from diag.settings import find_pyproject, load_settings


def write(folder: Path, text: str) -> Path:
    file = folder / "pyproject.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_nothing_set(tmp_path: Path) -> None:
    empty = {"rules": [], "thresholds": {}}
    write(tmp_path, "")
    assert load_settings(tmp_path) == empty
    write(tmp_path, "[tool.ruff]\nline-length = 120\n")
    assert load_settings(tmp_path) == empty


def test_what_is_set(tmp_path: Path) -> None:
    write(tmp_path, '[tool.diag]\nrules = ["mine.rules"]\n[tool.diag.thresholds]\nslope = 0.5\ncount = 3\n')
    assert load_settings(tmp_path) == {"rules": ["mine.rules"], "thresholds": {"slope": 0.5, "count": 3}}


def test_the_nearest_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    outer = write(tmp_path, '[tool.diag]\nrules = ["outer"]\n')
    monkeypatch.chdir(inner)
    assert find_pyproject() == outer.resolve()
    assert load_settings()["rules"] == ["outer"]
    write(tmp_path / "a", "")
    assert load_settings()["rules"] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tool.diag\n", "is not valid TOML: "),
        ("[tool.diag]\nthreshold = {}\n", "knows no key 'threshold' (did you mean 'thresholds'?)"),
        ('[tool.diag]\nrules = "mine"\n', "rules must be a list of module names"),
        ("[tool.diag]\nrules = [1]\n", "rules must be a list of module names"),
        ("[tool.diag]\nthresholds = 3\n", "thresholds must be a table of numbers"),
        ('[tool.diag.thresholds]\nslope = "0.5"\n', "[tool.diag.thresholds] slope must be a number, got '0.5'"),
        ("[tool.diag.thresholds]\nslope = true\n", "slope must be a number, got True"),
        ("[tool]\ndiag = 3\n", "[tool.diag] must be a table"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, expected: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(DiagError) as caught:
        load_settings(tmp_path)
    assert str(caught.value).startswith(str(file.resolve()))
    assert expected in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DiagError, match="is not valid TOML"):
        load_settings(tmp_path)


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_threshold_is_a_number(tmp_path: Path, number: str) -> None:
    write(tmp_path, f"[tool.diag.thresholds]\nslope = {number}\n")
    with pytest.raises(DiagError, match=f"slope must be a number, got {number}"):
        load_settings(tmp_path)
