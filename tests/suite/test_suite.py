"""What a suite is made of, its variants, and what is wrong with one."""

from __future__ import annotations

from typing import Any

import pytest

from diag.recipes.recipe import Recipe
from diag.recipes.spec import RecipeError
from diag.suite.claim import Claim
from diag.suite.errors import SuiteError
from diag.suite.results import Results
from diag.suite.suite import Experiment, Suite, axes, parse_changes
from diag.suite.task import tasks_of


def count(seed: int, *, size: int = 3) -> dict[str, float]:
    return {"count": size}


RECIPE = Recipe(steps=10)


def test_axes_are_every_combination() -> None:
    cases = axes(RECIPE, init=["he_normal", "lecun_normal"], regularizers=[(), ("l2(strength=0.1)",)])
    assert list(cases) == [
        "init=he_normal regularizers=none",
        "init=he_normal regularizers=l2(strength=0.1)",
        "init=lecun_normal regularizers=none",
        "init=lecun_normal regularizers=l2(strength=0.1)",
    ]
    assert cases["init=lecun_normal regularizers=none"] == RECIPE.but(init="lecun_normal")


def test_an_axis_over_what_does_not_exist() -> None:
    with pytest.raises(RecipeError, match=r"axis over 'inits'.*did you mean 'init'"):
        axes(RECIPE, inits=["he_normal"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"question": " "}, "needs a question"),
        ({"cases": {}}, "not empty"),
        ({"cases": {"a": 3}}, "case 'a' is a int"),
        ({"seeds": 0}, "seeds is a whole number from 1, got 0"),
        ({"seeds": True}, "seeds is a whole number"),
        ({"claims": ["it holds"]}, r"list of diag\.Claim"),
        ({"measures": ["x"]}, "measures are functions"),
    ],
)
def test_a_suite_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        Suite(**{"question": "Why?", "cases": {"a": RECIPE}, **arguments})


def test_quick_and_set_change_what_has_the_field() -> None:
    suite = Suite("Why?", {"train": RECIPE, "count": Experiment(count, size=5)}, quick={"steps": 2, "size": 1})
    quick = suite.variant(quick=True)
    assert quick.cases["train"] == RECIPE.but(steps=2)
    assert quick.cases["count"].parameters == {"size": 1}  # type: ignore[union-attr]
    assert (suite.variant().seeds, quick.seeds, suite.variant(quick=True, seeds=7).seeds) == (5, 2, 7)
    assert suite.variant(quick=True, changes={"steps": 3}).cases["train"] == RECIPE.but(steps=3)


def test_set_of_what_cannot_be_set() -> None:
    suite = Suite("Why?", axes(RECIPE, init=["he_normal", "lecun_normal"]))
    with pytest.raises(SuiteError, match=r"no case of the suite has a field 'stps'.*did you mean 'steps'"):
        suite.variant(changes={"stps": 3})
    with pytest.raises(SuiteError, match="'init' is what the suite compares"):
        suite.variant(changes={"init": "glorot_normal"})
    with pytest.raises(RecipeError, match="steps is a whole number from 0, got 'many'"):
        suite.variant(changes={"steps": "many"})


def test_changes_are_parsed() -> None:
    assert parse_changes(
        ["steps=5", "lr=1e-3", "optimizer=adam", "regularizers=('l1',)", "data=digits(labeled=50)"]
    ) == {
        "steps": 5,
        "lr": 1e-3,
        "optimizer": "adam",
        "regularizers": ("l1",),
        "data": "digits(labeled=50)",
    }
    with pytest.raises(SuiteError, match="FIELD=VALUE"):
        parse_changes(["steps"])


def test_an_experiment_that_a_worker_could_not_repeat() -> None:
    with pytest.raises(SuiteError, match="top level"):
        Experiment(lambda seed: {})
    with pytest.raises(SuiteError, match=r"experiment count\(seed, ...\): .*sze"):
        Experiment(count, sze=3)
    with pytest.raises(SuiteError, match="size is a set"):
        Experiment(count, size={1})


def test_a_follow_up_gets_the_overrides_and_new_names() -> None:
    suite = Suite("Why?", {"a": RECIPE}, quick={"steps": 2}, follow_up=lambda results: {"b": RECIPE.but(lr=0.5)})
    assert suite.variant(quick=True).follow_up_cases(Results([])) == {"b": RECIPE.but(lr=0.5, steps=2)}
    clash = Suite("Why?", {"a": RECIPE}, follow_up=lambda results: {"a": RECIPE})
    with pytest.raises(SuiteError, match="'a', which exists already"):
        clash.follow_up_cases(Results([]))


def test_trials_differ_by_case_seed_and_content() -> None:
    tasks = tasks_of({"a": RECIPE, "b": RECIPE, "c": Experiment(count)}, 2)
    assert [(one.case, one.seed) for one in tasks] == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("b", 1), ("c", 1)]
    assert len({one.key for one in tasks}) == 6
    (changed,) = tasks_of({"a": RECIPE.but(lr=0.3)}, 1)
    assert changed.key != tasks[0].key
    assert all(set(one.key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-=.") for one in tasks)


def test_a_claims_kind_is_checked() -> None:
    Suite("Why?", {"a": RECIPE}, claims=[Claim("s", "-", lambda results: 1.0, above=0)])
