"""Registries: what an entry tells, and what a mistyped one is answered."""

from __future__ import annotations

import json

import pytest

from diag.recipes import kinds
from diag.recipes.registry import Entry, Registry
from diag.recipes.spec import RecipeError

ALL = [one for registry in kinds.KINDS.values() for one in registry.entries()]
WITH_OPTIONS = [one for one in ALL if one.options]


def named(entry: Entry) -> str:
    return f"{entry.kind}-{entry.name}"


@pytest.fixture
def registry() -> Registry:
    made = Registry("color", "colors", "diag.recipes.spec")

    @made("red", source="Newton 1704")
    def red(*, shade: float = 0.5, count: int = 1, deep: bool = False, name: str = "r", free: int | None = None) -> str:
        """Long waves.

        More of it.
        """
        return f"{shade} {count} {deep} {name} {free}"

    @made("green")
    def green() -> str:
        return "green"

    return made


# What every ingredient keeps.


@pytest.mark.parametrize("entry", ALL, ids=named)
def test_every_entry_can_be_listed(entry: Entry) -> None:
    assert 8 < len(entry.summary) <= 120
    assert entry.summary[-1] in ".:;", "the first docstring line is a sentence"
    assert json.loads(json.dumps(entry.options)).keys() == entry.options.keys()


@pytest.mark.parametrize("entry", ALL, ids=named)
def test_every_mistyped_name_is_answered_with_the_nearest(entry: Entry) -> None:
    registry = next(one for one in kinds.KINDS.values() if one.kind == entry.kind)
    wrong = entry.name + "q"
    with pytest.raises(RecipeError, match=f"no {entry.kind} '{wrong}' .did you mean '"):
        registry.check(wrong)


@pytest.mark.parametrize("entry", WITH_OPTIONS, ids=named)
def test_every_mistyped_option_is_answered_with_the_nearest(entry: Entry) -> None:
    registry = next(one for one in kinds.KINDS.values() if one.kind == entry.kind)
    for option in entry.options:
        wrong = option + "_"
        with pytest.raises(RecipeError, match=f"has no option '{wrong}' .did you mean '{option}'"):
            registry.check(f"{entry.name}({wrong}=1)")


@pytest.mark.parametrize("entry", WITH_OPTIONS, ids=named)
def test_every_option_of_a_wrong_type_is_an_error(entry: Entry) -> None:
    registry = next(one for one in kinds.KINDS.values() if one.kind == entry.kind)
    for option, default in entry.options.items():
        if default is not None:
            wrong = 1 if isinstance(default, (str, bool, tuple)) else "x"
            with pytest.raises(RecipeError, match=f"option '{option}' of the {entry.kind} '{entry.name}' is .*; got"):
                registry.check(f"{entry.name}({option}={wrong!r})")


@pytest.mark.parametrize("entry", WITH_OPTIONS, ids=named)
def test_every_default_can_be_written_out(entry: Entry) -> None:
    registry = next(one for one in kinds.KINDS.values() if one.kind == entry.kind)
    text = f"{entry.name}({', '.join(f'{key}={value!r}' for key, value in entry.options.items())})"
    assert dict(registry.check(text).options) == entry.options


def test_kinds_are_listed_by_their_plural() -> None:
    assert all(plural == registry.plural and registry.entries() for plural, registry in kinds.KINDS.items())


# A registry of one's own.


def test_an_entry_says_what_it_is(registry: Registry) -> None:
    assert registry.names() == ["red", "green"]
    red, green = registry.entries()
    assert (red.kind, red.summary, red.source) == ("color", "Long waves.", "Newton 1704")
    assert red.options == {"shade": 0.5, "count": 1, "deep": False, "name": "r", "free": None}
    assert (green.summary, green.source, green.options) == ("", "", {})


def test_options_are_bound(registry: Registry) -> None:
    assert registry.resolve("red")() == "0.5 1 False r None"
    assert registry.resolve("red(free=(1, 2), count=3)")() == "0.5 3 False r (1, 2)"


def test_a_whole_number_for_a_float_is_the_same_spec(registry: Registry) -> None:
    assert registry.check("red(shade=2)") == registry.check("red(shade=2.0)")
    assert str(registry.check("red(shade=2)")) == "red(shade=2.0)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reed", "no color 'reed' .did you mean 'red'.*; there are red, green"),
        ("zzz", "no color 'zzz'; there are red, green"),
        ("red(shde=1.0)", "has no option 'shde' .did you mean 'shade'.*; it takes shade, count, deep, name, free"),
        ("green(a=1)", "the color 'green' has no option 'a'; it takes none"),
        ("red(shade='x')", "the option 'shade' of the color 'red' is a number, such as 0.5; got 'x'"),
        ("red(shade=True)", "is a number, such as 0.5; got True"),
        ("red(count=1.0)", "is a whole number, such as 1; got 1.0"),
        ("red(count=True)", "is a whole number, such as 1; got True"),
        ("red(deep=1)", "is True or False, such as False; got 1"),
        ("red(name=1)", "is a string, such as 'r'; got 1"),
    ],
)
def test_what_does_not_fit_is_an_error(registry: Registry, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        registry.check(text)


def test_a_name_is_given_once(registry: Registry) -> None:
    with pytest.raises(RecipeError, match=r"the color 'red' exists already, in .*test_registry"):

        @registry("red")
        def other() -> None: ...


def test_a_file_that_is_loaded_twice_replaces_its_own(registry: Registry) -> None:
    for value in (1, 2):

        @registry("blue")
        def blue(value: int = value) -> int:
            return value

    assert registry.resolve("blue")() == 2


def test_an_option_without_a_default_is_an_error(registry: Registry) -> None:
    with pytest.raises(RecipeError, match="the option 'shade' of the color 'blue' needs a default"):

        @registry("blue")
        def blue(*, shade: float) -> None: ...
