"""Techniques explained: nothing built in is left out, every renderer reads the formulas, a report picks its own."""

from __future__ import annotations

import html
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

import diag
from diag.errors import DiagError
from diag.recipes import kinds
from diag.recipes.registry import Entry, Registry
from diag.report import techniques
from diag.report.techniques import FILES, Technique, concept, of_recipes, technique
from diag.stats.saturation import SATURATION_SLOPE

REGISTRIES: dict[str, Registry] = {kind: kinds.KINDS[file] for kind, file in FILES.items()}
# Their own only: another test may have registered an ingredient of a user's.
ENTRIES = {
    (kind, entry.name): entry
    for kind, registry in REGISTRIES.items()
    for entry in registry.entries()
    if entry.build.__module__.startswith("diag.recipes.")
}
NAMED = {
    (kind, name): one
    for kind, file in {**FILES, "concept": "concepts"}.items()
    for name, one in techniques._explained(kind, file).items()
}
FORMULAS = {key: one for key, one in NAMED.items() if one.latex}
CONCEPTS = (
    "vanishing_gradients saturation dead_units mean_field jacobian_singular_values expected_calibration_error auroc "
    "swish_gelu_gap ill_conditioned_valley super_convergence folding_batch_norm"
).split()
MATHML = "{http://www.w3.org/1998/Math/MathML}"


def each(found: dict[tuple[str, str], Any]) -> Any:
    return pytest.mark.parametrize("key", found, ids="-".join)


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)


def test_every_kind_of_ingredient_has_its_file() -> None:
    assert set(FILES.values()) == set(kinds.KINDS)
    # A recipe's other fields are numbers.
    named = {field for field, value in diag.Recipe().to_dict().items() if isinstance(value, (str, list))}
    assert set(FILES) == named


def test_every_built_in_ingredient_is_explained_and_nothing_else() -> None:
    assert {key for key in NAMED if key[0] != "concept"} == set(ENTRIES)
    assert len(ENTRIES) > 80
    assert [key[1] for key in NAMED if key[0] == "concept"] == CONCEPTS


@each(NAMED)
def test_the_text_is_one_paragraph(key: tuple[str, str]) -> None:
    one = NAMED[key]
    assert (one.kind, one.name) == key
    assert 3 <= len(one.title) <= 60
    assert "\n" not in one.text + one.latex
    assert one.text.endswith(".")
    assert 2 <= len(sentences(one.text)) <= 5
    # About as long as can be read at a glance; a paragraph, not a page.
    assert 150 <= len(one.text) <= 800


@each(ENTRIES)
def test_the_source_is_the_ingredients_own_or_says_more(key: tuple[str, str]) -> None:
    assert NAMED[key].source.startswith(ENTRIES[key].source)


@each({key: one for key, one in NAMED.items() if one.source or key[0] == "concept"})
def test_a_source_has_a_year(key: tuple[str, str]) -> None:
    assert re.search(r"\b(19|20)\d\d\b", NAMED[key].source)


def numbers_of(entry: Entry) -> dict[str, float]:
    return {name: float(one) for name, one in entry.options.items() if type(one) in (int, float)}


WITH_NUMBERS = {key: entry for key, entry in ENTRIES.items() if key[0] not in ("data", "network") and numbers_of(entry)}


@each(WITH_NUMBERS)
def test_an_option_is_named_with_its_usual_value(key: tuple[str, str]) -> None:
    options = numbers_of(WITH_NUMBERS[key])
    said = re.findall(r"\b(\w+) = (-?\d+(?:\.\d+)?(?:e-\d+)?)", NAMED[key].text)
    values = [(name, float(value)) for name, value in said if name in options]
    assert values, f"names none of {', '.join(options)} with its value"
    # Stale as soon as a default changes.
    first = dict(reversed(values))
    assert first == {name: options[name] for name in first}


def without_formula(key: tuple[str, str]) -> bool:
    return key[0] in ("data", "network") or key[1] in ("none", "scratch")


@each({key: one for key, one in NAMED.items() if not without_formula(key)})
def test_a_technique_has_a_formula(key: tuple[str, str]) -> None:
    assert NAMED[key].latex


@each(FORMULAS)
def test_a_formula_is_mathml(key: tuple[str, str]) -> None:
    tree = ElementTree.fromstring(FORMULAS[key].mathml)
    assert tree.tag == f"{MATHML}math"
    assert tree.get("display") == "block"
    # An unknown command is left as it is, an unknown environment leaves its `&`.
    assert not re.search(r"[\\&]", "".join(tree.itertext()))
    # Chromium knows no variant but this one: others would show as plain letters.
    assert {one.get("mathvariant") for one in tree.iter()} <= {None, "normal"}


@each(FORMULAS)
def test_markdown_leaves_a_formula_as_it_is(key: tuple[str, str]) -> None:
    r"""GitHub reads Markdown before mathematics: `\\`, `\,` and `\{` lose their backslash, `}_a b_` becomes italic."""
    latex = FORMULAS[key].latex
    assert html.unescape(MarkdownIt("commonmark").renderInline(latex)) == latex
    assert not re.search(r"<\w|\\operatorname|\\(re)?newcommand|\\def\b|\$", latex)
    assert latex.count("{") == latex.count("}")


def test_markdown_that_changes_a_formula_is_found() -> None:
    for latex in (r"a \\ b", r"\{a\}", r"\hat{a}_t + b_{t}", "a*b*c"):
        assert html.unescape(MarkdownIt("commonmark").renderInline(latex)) != latex


def test_equations_below_one_another_are_aligned_in_every_browser() -> None:
    cells = list(ElementTree.fromstring(FORMULAS["optimizer", "momentum"].mathml).iter(f"{MATHML}mtd"))
    sides = ["right", "left"] * 2
    assert [one.get("columnalign") for one in cells] == sides
    assert [one.get("style") for one in cells] == [f"text-align:-webkit-{side};padding-inline:0" for side in sides]


def test_without_a_formula_there_is_no_mathml() -> None:
    assert Technique("norm", "none", "None", "Nothing. At all.", "", "").mathml == ""


def test_saturation_is_what_is_measured() -> None:
    assert f" {SATURATION_SLOPE} " in concept("saturation").latex
    assert f"{100 * SATURATION_SLOPE:.0f} %" in concept("saturation").text


def test_a_users_own_ingredient_is_not_explained() -> None:
    assert technique("activation", "mine") is None
    assert technique("network", "nets.py:build") is None
    with pytest.raises(KeyError):
        technique("colour", "red")


def test_an_unknown_concept_names_the_nearest() -> None:
    assert concept("auroc").title == "AUROC"
    with pytest.raises(DiagError, match=r"no concept 'saturated' is explained.*did you mean 'saturation'"):
        concept("saturated")


def names(recipes: list[diag.Recipe]) -> list[tuple[str, str]]:
    return [(one.kind, one.name) for one in of_recipes(recipes)]


def test_the_plain_default_is_not_explained() -> None:
    assert of_recipes([]) == []
    assert names([diag.Recipe(), diag.Recipe(lr=1.0, depth=9)]) == []


def test_where_recipes_differ_the_default_is_explained_too() -> None:
    recipes = [diag.Recipe(norm=one) for one in ("none", "batch", "none", "batch(eps=0.1)", "layer")]
    assert names(recipes) == [("norm", "none"), ("norm", "batch"), ("norm", "layer")]


def test_what_all_share_is_explained_if_it_is_not_the_default() -> None:
    recipes = [diag.Recipe(init="he_normal", data="digits(labeled=20)", lr=one) for one in (0.1, 1.0)]
    assert names(recipes) == [("init", "he_normal"), ("data", "digits")]


def test_kinds_come_in_their_order_with_data_and_network_last() -> None:
    recipe = diag.Recipe(
        data="adding(length=20)",
        network="rnn(cell='lstm')",
        init="orthogonal(gain=1.2)",
        activation="tanh",
        norm="layer",
        optimizer="adam",
        schedule="cosine",
        clipping="norm(max_norm=2.0)",
        regularizers=("dropout(p=0.2)", "l2"),
        start="autoencoder(steps=5)",
        prediction="mc_dropout(passes=3)",
    )
    expected = "orthogonal tanh layer adam cosine norm dropout l2 autoencoder mc_dropout adding rnn".split()
    assert [name for _, name in names([recipe])] == expected
    assert list(dict.fromkeys(kind for kind, _ in names([recipe]))) == list(FILES)


def test_regularizers_are_each_explained_once() -> None:
    several = [(), ("dropout(p=0.5)",), ("dropout(p=0.2)", "max_norm(c=2.0)")]
    recipes = [diag.Recipe(regularizers=one) for one in several]
    assert names(recipes) == [("regularizers", "dropout"), ("regularizers", "max_norm")]


def test_a_users_network_is_left_out() -> None:
    recipes = [diag.Recipe(network="a folder (1)/nets.py:build"), diag.Recipe(network="mlp")]
    assert names(recipes) == [("network", "mlp")]


def test_a_users_activation_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds.activation, "_entries", dict(kinds.activation._entries))
    kinds.activation("bent")(lambda: None)
    assert names([diag.Recipe(activation="bent"), diag.Recipe()]) == [("activation", "relu")]
