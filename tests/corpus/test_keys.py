"""What is measured anew when a source changes."""

from __future__ import annotations

import pytest

from tests.corpus import keys
from tests.corpus.case import Case
from tests.corpus.families import FAMILIES


def case(name: str, family: str) -> Case:
    return Case(name, lambda: None, frozenset(), "", family=family)  # type: ignore[arg-type, return-value]


def test_every_family_names_the_file_it_stands_in() -> None:
    """And that file holds its name, or the name of its entry."""
    for one in FAMILIES.values():
        file = keys.ROOT / (one.source.replace(".", "/") + ".py")
        assert f'"{one.name}"' in file.read_text(), one.name


@pytest.mark.parametrize(("source", "others"), [
    ("vision", {"vision", "family", "nets", "data"}),
    ("hub", {"hub", "family", "healthy_transformers", "nets", "data", "case"}),
])  # fmt: skip
def test_imports_are_followed(source: str, others: set[str]) -> None:
    found = keys._imported(keys.ROOT / f"tests/corpus/families/{source}.py")
    assert {one.stem for one in found} == others


def test_keys_differ_by_source_and_by_injection() -> None:
    siren, gcn = case("siren-base", "siren"), case("gcn-base", "gcn")
    assert keys.trace_key(siren) == keys.trace_key(case("siren-deep", "siren"))
    found = {keys.trace_key(one) for one in (siren, gcn, case("siren+frozen@1", "siren"), case("mlp", "by hand: mlp"))}
    assert len(found) == 4
