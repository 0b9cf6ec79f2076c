"""Baselines: made of a run, written, read again; and everything that is none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diag.errors import DiagError
from diag.gate.baseline import load_baseline, make_baseline
from diag.gate.gate import gate
from tests.gate.runs import ENVIRONMENT, healthy, recipe_of, write_run, write_trial


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", healthy(), claims={"it learns": "holds"})


def written(folder: Path) -> Path:
    path = folder.parent / "baseline.json"
    path.write_text(make_baseline(folder).to_json())
    return path


def test_a_baseline_says_what_the_run_measured(folder: Path) -> None:
    made = make_baseline(folder)
    values = healthy()["case 1"]
    assert list(made.cases) == ["case 0", "case 1"]
    assert made.cases["case 1"].seeds == [0, 1, 2, 3, 4]
    assert made.cases["case 1"].metrics == values
    assert made.cases["case 1"].content == recipe_of("case 1")
    assert (made.suite, made.commit, made.claims) == ("mine", "abc", {"it learns": "holds"})
    assert made.environment == ENVIRONMENT


def test_the_file_gives_back_six_digits(folder: Path) -> None:
    made, read = make_baseline(folder), load_baseline(written(folder))
    for name, case in made.cases.items():
        for metric, values in case.metrics.items():
            assert read.cases[name].metrics[metric] == pytest.approx(values, rel=1e-5)
    assert (read.suite, read.settings, read.claims) == (made.suite, made.settings, made.claims)
    assert (read.environment, read.commit) == (made.environment, made.commit)
    assert read.to_json() == written(folder).read_text(), "written again it is the same file"


def test_what_is_not_finite_or_missing_survives_the_file(tmp_path: Path) -> None:
    values = {"a": {"test_loss": [math.inf, 0.5, 0.5], "saturated": [math.nan, 0.25, 0.5]}}
    folder = write_run(tmp_path / "run", values)
    # JSON has no Infinity: a reader in another language must be able to read it.
    read = json.loads(written(folder).read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read["cases"]["a"]["test_loss"] == ["inf", 0.5, 0.5]
    again = load_baseline(tmp_path / "baseline.json").cases["a"].metrics
    assert again["test_loss"] == [math.inf, 0.5, 0.5]
    assert math.isnan(again["saturated"][0])
    assert again["saturated"][1:] == [0.25, 0.5]


def test_one_changed_value_changes_one_line(tmp_path: Path) -> None:
    values = healthy()
    before = make_baseline(write_run(tmp_path / "one", values)).to_json().splitlines()
    values["case 0"]["test_loss"][3] += 0.1
    after = make_baseline(write_run(tmp_path / "two", values)).to_json().splitlines()
    assert len(before) == len(after)
    (changed,) = [new for old, new in zip(before, after, strict=True) if old != new]
    assert changed.strip().startswith('"test_loss": [')


def test_no_file_of_a_run_is_executed(folder: Path) -> None:
    (folder / "suite.py").write_text("raise SystemExit('executed')")
    assert make_baseline(folder).suite == "mine"


def test_trials_that_were_run_in_several_places_say_so(folder: Path, tmp_path: Path) -> None:
    values = {name: one[0] for name, one in healthy()["case 0"].items()}
    write_trial(folder, "case 0", 0, values, torch="2.14.0", threads=8)
    assert make_baseline(folder).environment["torch"] == "2.13.0 and 2.14.0"
    remarks = gate(folder, write_run(tmp_path / "old", healthy())).remarks
    assert "torch was 2.13.0 and is 2.13.0 and 2.14.0: differences may come from there" in remarks
    assert "threads was 1 and is 1 and 8: differences may come from there" in remarks


def test_trials_come_before_a_baseline_that_lies_beside_them(folder: Path, tmp_path: Path) -> None:
    # `diag baseline RUN` puts it there; after the run went on, it would hide what the run measured.
    (folder / "baseline.json").write_text(make_baseline(folder).to_json())
    worse = write_run(tmp_path / "worse", healthy(test_loss=1.0))
    (worse / "baseline.json").write_text((folder / "baseline.json").read_text())
    assert gate(worse, folder).answer == "regression"


def test_a_folder_with_a_baseline_alone_will_do(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "baseline.json").write_text(make_baseline(folder).to_json())
    assert gate(folder, tmp_path / "reports").answer == "pass"


Damage = Callable[[Path], object]


def edited(**changes: Any) -> Damage:
    """Changes entries of the baseline's file; None takes one out."""

    def damage(path: Path) -> None:
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: one for key, one in content.items() if one is not None}))

    return damage


def case(**changes: Any) -> Damage:
    """Changes entries of the baseline's first case."""

    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        content["cases"]["case 0"] |= changes
        path.write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "no baseline at .*: make one with 'diag baseline RUN --output"),
        (lambda path: path.write_text("{"), r"is no baseline that can be read \(JSONDecodeError"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is no baseline that can be read"),
        (lambda path: path.write_text("[]"), "is no baseline that can be read"),
        (lambda path: path.write_text("null"), "is no baseline that can be read"),
        (edited(schema=3), r"was written by a newer diag \(schema 3\): upgrade diag"),
        (edited(schema=1), r"was written by an older diag \(schema 1\): make it anew from its run"),
        (edited(schema=None), "KeyError: 'schema'"),
        (edited(schema="1"), "TypeError"),
        (edited(cases={}), "it has no case"),
        (edited(cases=None), "KeyError: 'cases'"),
        (edited(cases=["a"]), "AttributeError"),
        (edited(settings=3), "TypeError"),
        (edited(environment=["cpu"]), "TypeError"),
        (edited(claims=None), "KeyError: 'claims'"),
        (case(test_loss=[0.1, 0.2]), "test_loss has 2 values for 5 seeds"),
        (case(test_loss=[0.1, 0.2, None, 0.4, 0.5]), "TypeError"),
        (case(test_loss=["low"] * 5), "could not convert string to float: 'low'"),
        (case(seeds=[]), "0 seeds"),
        (case(seeds=[0, 1, 2, 3, 3]), "a seed twice"),
        (case(test_perplexity=[1.0] * 5), "'test_perplexity' is no metric of this version of diag"),
        (lambda path: (path.unlink(), path.mkdir()), r"holds neither baseline.json nor a run"),
    ],
)
def test_what_is_no_baseline(folder: Path, damage: Damage, message: str) -> None:
    path = written(folder)
    damage(path)
    with pytest.raises(DiagError, match=message) as error:
        gate(folder, path)
    assert "\n" not in str(error.value)


def rewritten(name: str, text: str) -> Damage:
    return lambda folder: (folder / name).write_text(text)


def header(**changes: Any) -> Damage:
    return lambda folder: edited(**changes)(folder / "run.json")


def first_trial(folder: Path) -> Path:
    return sorted((folder / "trials").iterdir())[0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (header(finished=None), "is unfinished, and a gate on half a run would pass what it never saw"),
        (header(finished=False), "is unfinished"),
        (header(trials=12), "lacks 2 of 12 trials: --resume it first"),
        (header(trials=9), "holds 1 trials of an earlier version of its suite"),
        (header(schema=2), r"was written by a newer diag \(schema 2\)"),
        (header(suite=None), "is damaged: KeyError"),
        (rewritten("run.json", "{"), "is damaged: JSONDecodeError"),
        (rewritten("verdicts.json", "{"), r"verdicts.json is missing or damaged \(JSONDecodeError"),
        (rewritten("verdicts.json", "[]"), r"verdicts.json is missing or damaged \(TypeError"),
        (lambda folder: (folder / "verdicts.json").unlink(), r"verdicts.json is missing or damaged \(FileNotFound"),
        (lambda folder: first_trial(folder).write_bytes(b"PK nothing"), "is damaged .BadZipFile.: remove it"),
        (lambda folder: first_trial(folder).unlink(), "lacks 1 of 10 trials"),
    ],
)
def test_a_run_that_makes_no_baseline(folder: Path, tmp_path: Path, damage: Damage, message: str) -> None:
    old = write_run(tmp_path / "old", healthy())
    damage(folder)
    with pytest.raises(DiagError, match=message) as error:
        gate(folder, old)
    assert "\n" not in str(error.value)
    with pytest.raises(DiagError, match=message):
        gate(old, folder)


def test_a_claim_without_its_values_was_not_measured(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", healthy(), claims={"a": "undecided", "b": "undecided", "c": "holds"})
    content = json.loads((folder / "verdicts.json").read_text())
    content["claims"][0]["parts"] = [{"estimate": "nan"}]
    content["claims"][1]["parts"] = [{"estimate": 0.5}]
    (folder / "verdicts.json").write_text(json.dumps(content))
    assert make_baseline(folder).claims == {"a": "not measured", "b": "undecided", "c": "holds"}


def test_an_empty_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_trial(folder, "a", 0, {"value": 1.0}, content={"experiment": "f", "parameters": {}})
    write_run(folder, {}, trials=1)
    with pytest.raises(DiagError, match="trained no recipe, and no experiment of it measured any of test_accuracy, "):
        make_baseline(folder)
    other = write_run(tmp_path / "other", healthy())
    with pytest.raises(DiagError, match=r"no run at .*nowhere: expected the folder of a finished 'diag run'"):
        gate(tmp_path / "nowhere", other)


def test_two_recipes_under_one_name(folder: Path) -> None:
    # What --accept-change leaves behind: the trial of the recipe as it was.
    first_trial(folder).unlink()
    write_trial(folder, "case 0", 0, {"test_loss": 0.3}, content={"recipe": recipe_of("case 0") | {"lr": 0.5}})
    with pytest.raises(DiagError, match="holds trials of 'case 0' with two recipes"):
        make_baseline(folder)


def test_a_table_without_its_columns(folder: Path) -> None:
    import pandas as pd

    write_trial(folder, "case 0", 0, {"test_loss": 0.3}, layers=pd.DataFrame({"step": [0], "site": ["a"]}))
    with pytest.raises(DiagError, match=r"holds a damaged trial of 'case 0' \(KeyError: 'kind'\)"):
        make_baseline(folder)
