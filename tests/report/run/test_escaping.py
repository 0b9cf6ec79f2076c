"""What a suite and its cases are called is text, in every form of a report: neither markup nor script nor formula."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diag.report.run import markdown, page, side_by_side
from diag.report.run.document import Document, document
from diag.report.run.markdown import frame_lines, text
from diag.report.text import plain
from diag.suite.comparison import compare
from diag.suite.run import open_run
from tests.report.run.parsed import Elements, Tables, markdown_tables, rendered, words
from tests.suite.conftest import HEADER
from tests.suite.folders import trial, write_run

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
CLOSING = "</style></svg></pre><script>"
TABLE = "a | b \\| c"
FORMULA = "$x$ and $$y$$"
LINK = "[here](javascript:alert(1)) ![x](http://elsewhere/x.png) <http://elsewhere>"
EMPHASIS = "_a_ *b* `c` ~~d~~ &amp; # e"
TERMINAL = "\x1b[2J\u202e back"
HOSTILE = [SCRIPT, IMAGE, CLOSING, TABLE, FORMULA, LINK, EMPHASIS, TERMINAL]
NAMES = "script image closing table formula link emphasis terminal".split()

SUITE = (
    HEADER
    + """
HOSTILE = {hostile!r}

def made(seed, label="x"):
    return {{}}

def drawn(results):
    from diag.report import suite_figures
    return suite_figures.curves(results.frame, "seed", "score", ylabel=HOSTILE)

drawn.__doc__ = HOSTILE

def ranked(results):
    table = results.ranking([HOSTILE, "plain"], score="high")
    table[HOSTILE] = HOSTILE
    return table

ranked.__doc__ = HOSTILE

def late(results):
    return results.values("late", case=HOSTILE)

suite = diag.Suite(
    question=HOSTILE,
    cases={{HOSTILE: diag.Experiment(made), "plain": diag.Experiment(made)}},
    answer=lambda results: HOSTILE,
    notes=[HOSTILE],
    figures={{HOSTILE: drawn}},
    tables={{HOSTILE: ranked, HOSTILE + " again": late}},
    claims=[
        diag.Claim(HOSTILE, HOSTILE, lambda r: {{HOSTILE: r.values("score", case="plain")}}, above=0.0, unit=HOSTILE),
        diag.Claim(HOSTILE + " too", HOSTILE, late, above=0.0, unit=HOSTILE),
    ],
)
"""
)


def hostile_run(folder: Path, hostile: str, shift: float = 0.0) -> Path:
    records = [
        trial(case, seed, score=seed + shift, environment={"device": hostile, "torch": f"2.{shift}"})
        for case in (hostile, "plain")
        for seed in range(3)
    ]
    header = {"commit": hostile, "settings": {"quick": False, "seeds": None, "set": {"label": hostile}}}
    source = SUITE.format(hostile=hostile)
    return write_run(folder, records, source=source, verdicts={hostile: "holds"}, **header)


@pytest.fixture(scope="module", params=HOSTILE, ids=NAMES)
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Document]:
    """What everything is called, and the report of a run in which it is."""
    folder = hostile_run(tmp_path_factory.mktemp("hostile") / "run", request.param)
    return request.param, document(open_run(folder, trust=True))


def squeezed(value: str) -> str:
    return " ".join(value.split())


def test_on_the_page(held: tuple[str, Document]) -> None:
    hostile, content = held
    shown = page.render(content)
    elements = Elements(shown).all
    assert [tag for tag, _ in elements if tag in ("script", "img", "iframe", "object")] == ["script"]
    assert not [a for _, a in elements if [name for name in a if name.startswith("on")]]
    said = squeezed(words(shown))
    # Question, answer, statement, source, part, unit, note, title, caption, heading, cell, what is left out.
    assert said.count(squeezed(plain(hostile))) >= 15
    labels = [a.get("aria-label") for tag, a in elements if tag == "svg"]
    assert any(plain(hostile) in plain(one) for one in labels)
    assert "\x1b" not in shown and "\u202e" not in shown


def test_in_markdown(held: tuple[str, Document]) -> None:
    hostile, content = held
    written = markdown.render(content)
    shown = rendered(written)
    tags = {tag for tag, _ in Elements(shown).all}
    assert tags <= set("h1 h2 h3 p ul li table thead tbody tr th td strong img pre code".split())
    images = [attributes["src"] for tag, attributes in Elements(shown).all if tag == "img"]
    assert all(re.fullmatch(r"figures/[a-z0-9-]+\.svg", str(one)) for one in images)
    assert len(images) == 1
    said = squeezed(words(shown))
    assert said.count(squeezed(plain(hostile))) >= 12
    claims, ranking = markdown_tables(written)
    assert {len(row) for row in claims} == {4}
    assert {len(row) for row in ranking} == {4}
    assert ranking[1][0] == squeezed(plain(hostile)) or ranking[2][0] == squeezed(plain(hostile))
    # A dollar begins a formula on GitHub.
    assert not re.search(r"(?<!\\)\$", written[: written.index("```console")])


def test_in_a_comparison(held: tuple[str, Document], tmp_path: Path) -> None:
    hostile, _ = held
    found = compare(hostile_run(tmp_path / "a", hostile), hostile_run(tmp_path / "b", hostile, 1.0))
    shown = side_by_side.page(found)
    elements = Elements(shown).all
    assert [tag for tag, _ in elements if tag in ("script", "img")] == ["script"]
    assert {row[0] for row in Tables(shown).tables[-1][1:]} == {plain(hostile), "plain"}
    written = side_by_side.markdown(found)
    assert {tag for tag, _ in Elements(rendered(written)).all} <= set(
        "h1 h2 p ul li table thead tbody tr th td".split()
    )
    assert {len(row) for one in markdown_tables(written) for row in one} == {8}
    assert "\x1b" not in shown + written


@settings(max_examples=150)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_reads_as_itself(value: str) -> None:
    """Within a line, in a heading, and in a cell."""
    for before, after in (("read: ", ""), ("# read: ", ""), ("- read: ", "")):
        shown = words(rendered(f"{before}{text(value)}{after}"))
        assert squeezed(shown) == squeezed(f"read: {plain(value)}")
    lines = frame_lines(pd.DataFrame({"name": [f"read: {value}"], value + "!": ["x"]}))
    (table,) = markdown_tables("\n".join(lines))
    assert [squeezed(one) for one in table[1]] == [squeezed(plain(f"read: {value}")), "x"]


@given(st.text(st.characters(codec="utf-8"), max_size=40))
@example("a")
@example("ª")
def test_any_text_is_a_cell_of_the_page(value: str) -> None:
    from diag.report.run.document import Table
    from diag.report.run.page import styled_table

    (table,) = Tables(
        styled_table(Table("t", "t", "", pd.DataFrame({"a": [value], value: ["x"]}).iloc[:, ::-1]))
    ).tables
    assert (value == "a" and table[1] == ["x"]) or table[1][1] == plain(value)
