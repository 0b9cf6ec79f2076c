"""The page and the Markdown of a run: what is said, in which order, and that nothing of it comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from pathlib import Path

import pytest

from diag.report.run.document import Document
from tests.report.run.parsed import Elements, rendered, words


@pytest.fixture(scope="session")
def page(report: Path) -> str:
    return (report / "report.html").read_text()


def test_it_opens_with_the_answer_then_claims_pictures_tables_and_how(page: str, content: Document) -> None:
    parts = [
        "<h1>Does the higher rate learn faster?</h1>",
        "Of 4 claims, 2 hold, 1 does not, and 1 is undecided. What fails:",
        "The higher rate is better after 20 steps", "accuracy (true &gt; 0.1)", "The rates were chosen before",
        "What was seen", "Validation accuracy over the training, mean over seeds and its 95 % band.</figcaption>",
        "In numbers", "Both rates, the better one first.", ">The techniques</h2>", ">How it was measured</h2>",
        "diag run rates</code>",
    ]  # fmt: skip
    places = [page.index(part, page.index("<body")) for part in parts]
    assert places == sorted(places)
    assert "whoever reads the code" not in page
    assert "Left out" not in page and "unfinished" not in page[page.index("<body") :]


def test_the_markdown_says_the_same(report: Path, page: str) -> None:
    text = words(rendered((report / "report.md").read_text()))
    for sentence in (
        "Of 4 claims, 2 hold, 1 does not, and 1 is undecided. What fails: The higher rate is worse after 20 steps.",
        "The rates were chosen before any look.",
        "Both rates, the better one first.",
        "Bonferroni",
    ):
        assert sentence in " ".join(text.split()), sentence
        assert sentence in " ".join(words(page).split()), sentence


def test_every_figure_has_alternative_text_in_each_form(page: str, report: Path, content: Document) -> None:
    pictures = [attributes for tag, attributes in Elements(page).all if tag == "svg"]
    assert all(one.get("role") == "img" and one["aria-label"] for one in pictures)
    labels = [one["aria-label"] for one in pictures]
    assert [one.caption for one in content.pictures] == [
        "Validation accuracy over the training, mean over seeds and its 95 % band.",
        "Test accuracy of every trial.",
    ]
    assert labels[-2:] == [one.caption for one in content.pictures]
    # A strip for each claim, which tells its numbers to those who do not see it.
    assert len(labels) == 4 + 2
    assert all(re.search(r"\[.*\], n=3 .*\(true [<>] ", one or "") for one in labels[:4])
    images = [
        attributes for tag, attributes in Elements(rendered((report / "report.md").read_text())).all if tag == "img"
    ]
    assert [one["alt"] for one in images] == [one.caption for one in content.pictures]
    for one in images:
        assert (report / str(one["src"])).read_text().startswith("<?xml")


def test_identifiers_are_unique_and_every_link_leads_somewhere(page: str) -> None:
    elements = Elements(page).all
    identifiers = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    links = [
        attributes.get("href") or attributes.get("xlink:href") or ""
        for tag, attributes in elements
        if tag in ("a", "use")
    ]
    assert len(links) >= 5
    for link in links:
        assert link.startswith("#") and link[1:] in identifiers, link
    named = [attributes["aria-labelledby"] for _, attributes in elements if "aria-labelledby" in attributes]
    assert set(named) <= set(identifiers)


def test_nothing_comes_from_elsewhere(page: str) -> None:
    for tag, attributes in Elements(page).all:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes[name])
    assert not re.findall(r"""(?:src|href)=["']?\s*(?:https?:)?//""", page)
    assert not re.findall(r"""url\(\s*["']?(?!#|data:)""", page)
    assert "@import" not in page


def test_the_policy_lets_the_one_script_run_and_nothing_else(page: str) -> None:
    (policy,) = [a["content"] for tag, a in Elements(page).all if a.get("http-equiv") == "Content-Security-Policy"]
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    assert len(scripts) == 1 == page.count("<script")
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"


def test_it_is_small(report: Path) -> None:
    assert (report / "report.html").stat().st_size < 300_000
    assert sorted(one.name for one in report.iterdir()) == ["figures", "report.html", "report.md", "tables"]
    assert sorted(one.name for one in (report / "figures").iterdir()) == ["by-seed.svg", "learning.svg"]


def test_headings_do_not_skip_a_level(page: str) -> None:
    levels = [int(tag[1]) for tag, _ in Elements(page).all if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
