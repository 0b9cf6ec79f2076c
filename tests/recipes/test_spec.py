"""How an ingredient is written, and that what cannot be read is said so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diag.recipes.spec import RecipeError, Spec, parse_spec

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.tuples(inner, inner),
    max_leaves=4,
)
OPTIONS = st.dictionaries(st.from_regex(r"x[a-z0-9_]{0,6}", fullmatch=True), VALUES, max_size=4)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("relu", Spec("relu")),
        (" relu ( ) ", Spec("relu")),
        ("leaky_relu(negative_slope=0.2)", Spec("leaky_relu", (("negative_slope", 0.2),))),
        ("f(b=-1, a='x, y(z)')", Spec("f", (("a", "x, y(z)"), ("b", -1)))),
        ("f(at=(0.5, 0.75))", Spec("f", (("at", (0.5, 0.75)),))),
        ("f(s=\"digits(classes='0-4')\")", Spec("f", (("s", "digits(classes='0-4')"),))),
        ("f(a=True, b=None)", Spec("f", (("a", True), ("b", None)))),
    ],
)
def test_what_is_written_is_read(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec


def test_options_are_written_in_one_order() -> None:
    assert str(parse_spec("f(b=2,a=1)")) == str(parse_spec(" f( a = 1 , b = 2 )")) == "f(a=1, b=2)"


@settings(max_examples=40)
@given(OPTIONS)
def test_what_is_written_by_str_is_read_again(options: dict[str, object]) -> None:
    spec = Spec("name", tuple(sorted(options.items(), key=lambda one: one[0])))
    assert parse_spec(str(spec)) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "(a=1)",
        "f(1)",
        "f(a=1",
        "f(a=1) b",
        "f(a=1)(b=2)",
        "f(a=1) + g(b=2)",
        "f(a=1, a=2)",
        "f(**{'a': 1})",
        "f(a=b)",
        "f(a=1e999)",
        "f(a=(1, -1e999))",
        "f(a=__import__('os'))",
        "f(a=" + "(" * 500 + ")" * 500 + ")",
        None,
        3,
    ],
)
def test_what_is_written_otherwise_is_an_error(text: object) -> None:
    with pytest.raises(RecipeError, match=r"is not written as `name` or `name\(option=value, ...\)`"):
        parse_spec(text)  # type: ignore[arg-type]
