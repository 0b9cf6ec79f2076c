"""Suite files: found, loaded, and what is said of those that cannot be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from diag.suite.errors import SuiteError
from diag.suite.load import load_suite, module_of, suite_files, summary_of
from tests.suite.conftest import NUMBERS, Write

SHIPPED = sorted(suite_files())


def test_by_path_and_by_name(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(NUMBERS)
    suite = load_suite(path)
    assert (suite.name, suite.path, suite.seeds) == ("mine", path, 3)
    assert module_of(suite).noisy.__module__ in sys.modules
    (tmp_path / "suites").mkdir()
    path.rename(tmp_path / "suites" / "mine.py")
    monkeypatch.chdir(tmp_path)
    assert load_suite("mine").question == "Which is larger?"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("x = (", r"mine\.py line 5: "),
        ("x = 1", r"mine\.py defines no `suite`: expected"),
        ("suit = diag.Suite('Why?', {'a': diag.Recipe()})", r"did you mean 'suit'"),
        ("suite = 3", r"`suite` is a int, expected a diag\.Suite"),
        (
            "\nsuite = diag.Suite('Why?', {'a': diag.Recipe(init='he_norml')})",
            r"line 6: no initialization 'he_norml' \(did you mean 'he_normal'\?\)",
        ),
        (
            "suite = diag.Suite('Why?', diag.axes(diag.Recipe(), widht=[1]))",
            r"line 5: an axis over 'widht'.*did you mean 'width'",
        ),
        ("suite = diag.Siute()", r"line 5: AttributeError: module 'diag' has no attribute 'Siute'"),
        ("import nonexistent_module", r"line 5: ModuleNotFoundError"),
        ("raise SystemExit(3)", r"line 5: SystemExit: 3"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_gives_one_line(write: Write, body: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message) as caught:
        load_suite(write(body))
    assert "\n" not in str(caught.value)


def test_what_does_not_exist(tmp_path: Path, write: Write) -> None:
    write(NUMBERS)
    with pytest.raises(SuiteError, match=r"no suite 'quik'.*did you mean 'quick'"):
        load_suite("quik")
    with pytest.raises(SuiteError, match=r"no suite file .*mien\.py.*did you mean 'mine\.py'"):
        load_suite(tmp_path / "mien.py")


def test_a_changed_file_is_loaded_anew(write: Write) -> None:
    first = load_suite(write(NUMBERS))
    second = load_suite(write(NUMBERS.replace("seeds=3", "seeds=4")))
    assert (first.seeds, second.seeds) == (3, 4)


def test_no_future_feature_of_ours_is_in_force_in_a_suite(write: Write) -> None:
    module = module_of(load_suite(write(NUMBERS + "\ndef f(x: int) -> float: ...\n")))
    assert module.f.__annotations__ == {"x": int, "return": float}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_suite_loads_and_says_what_it_asks(name: str) -> None:
    suite = load_suite(name)
    assert suite.question.endswith("?")
    assert summary_of(suite.path)  # type: ignore[arg-type]
    assert suite.claims
    assert all(claim.source.strip() for claim in suite.claims)
    suite.variant(quick=True)


def test_the_suites_of_the_canon_are_there() -> None:
    wanted = (
        "glorot2010 inits activations normalization clipping transfer pretraining optimizers schedules regularization"
    )
    assert set(wanted.split()) | {"defaults", "quick"} <= set(SHIPPED)
