"""The pages as a browser shows them: nothing asked for, nothing complained of, legible, sortable, at every width."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from diag.report.page import write_page as write_diagnosis
from diag.report.run import page, side_by_side
from diag.report.run.document import Document, Table, document
from diag.suite.comparison import compare
from diag.suite.run import open_run
from tests.report.run.browser import Browser
from tests.report.run.test_escaping import EMPHASIS, hostile_run
from tests.report.synthetic import build_diagnosis
from tests.suite.folders import trials, write_run

pytestmark = pytest.mark.slow

KINDS = ["run", "hostile", "comparison", "diagnosis"]
AA = 4.5
"""The least contrast of text, WCAG 2.2, level AA."""
KEYS = pd.DataFrame(
    {
        "number": [10, 9, -math.inf, 1.2e-7, math.inf, math.nan, -3],
        "spread": [0.93, 0.095, 12.0, -1e5, math.nan, 1e5, 0.5],
        "spread ±": [0.01, 0.2, 3.0, 4.0, 1.0, math.nan, math.inf],
        "name": ["10 layers", "9 layers", "b", "infinite", "a", None, "init=x"],
        "rate": ["lr=0.3", "lr=0.05 k=2", "lr=10", "lr=1e-3", "lr=0.05 k=10", "lr=0.05", "lr=2"],
        "mixed": [3, "x", 1, None, "a", 2, "10"],
    }
)


@pytest.fixture(scope="module")
def pages(report: Path, run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    hostile = "<script>document.title = 'ran'</script>" + EMPHASIS
    run = hostile_run(folder / "hostile", hostile)
    other = write_run(folder / "other", trials("test_accuracy", **{"lr=0.01": [0.9, 0.91, 0.9], "lr=0.2": [0.1] * 3}))
    (folder / "compare.html").write_text(side_by_side.page(compare(run_folder, other)))
    diagnoses = [build_diagnosis(9, 4), build_diagnosis(9, 4, healthy=True)]
    return {
        "run": report / "report.html",
        "hostile": page.write_page(document(open_run(run, trust=True)), folder / "hostile.html"),
        "comparison": folder / "compare.html",
        "diagnosis": write_diagnosis(diagnoses, folder / "diagnosis.html", "Does it learn?"),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_no_complaint_and_no_request(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    browser.open(pages[kind])
    browser.script("for (const one of document.querySelectorAll('details')) one.open = true; scrollTo(0, 1e6)")
    if kind != "diagnosis":
        browser.script("for (const one of document.querySelectorAll('thead button')) one.click()")
    assert browser.complaints() == []
    requests = browser.requests()
    assert requests[0] == pages[kind].as_uri()
    assert not [one for one in requests[1:] if not one.startswith("data:")]
    assert browser.script("return document.title") != "ran"


def test_what_would_be_a_complaint_is_seen(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """The tests above could not fail otherwise."""
    text = pages["run"].read_text().replace("</main>", "<img src='other.png'><script>1 +</script></main>")
    (tmp_path / "page.html").write_text(text)
    browser.open(tmp_path / "page.html")
    said = " ".join(browser.complaints())
    assert "Content Security Policy" in said and "other.png" in said


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_text_has_contrast(browser: Browser, pages: dict[str, Path], kind: str, dark: bool) -> None:
    browser.open(pages[kind], dark=dark)
    ground = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 27)" if dark else "rgb(247, 248, 249)")
    found = browser.contrasts()
    assert len(found) > 40
    assert [one for one in found if one[0] < AA] == []


def test_a_text_without_contrast_is_seen(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["run"])
    browser.script("document.querySelector('figure svg text').style.fill = '#c0c0c0'")
    browser.script("document.querySelector('.answer').style.opacity = 0.4")
    assert len([one for one in browser.contrasts() if one[0] < AA]) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_described(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    browser.open(pages[kind])
    labels = browser.script(
        "return [...document.querySelectorAll('svg')].map((one) => [one.getAttribute('role'), one.ariaLabel])"
    )
    assert len(labels) >= (0 if kind == "comparison" else 2)
    assert all(role == "img" and label.strip() for role, label in labels)


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_the_window(browser: Browser, pages: dict[str, Path], kind: str, width: int) -> None:
    browser.open(pages[kind], width=width)
    wide, inner = browser.script("return [document.documentElement.scrollWidth, innerWidth]")
    assert inner == width
    assert wide <= width


def test_in_print_there_is_no_list_of_contents(browser: Browser, pages: dict[str, Path]) -> None:
    shown = "return getComputedStyle(document.querySelector('.contents')).display"
    browser.open(pages["run"])
    assert browser.script(shown) == "flex"
    browser.open(pages["run"], media="print")
    assert browser.script(shown) == "none"
    assert browser.script("return getComputedStyle(document.querySelector('main')).display") == "block"


def test_a_press_sorts_by_number_and_another_one_turns_it(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["run"])
    assert browser.sort("huge") == "ascending"
    assert browser.column("huge") == ["-inf", "-3", "2.0e-07", "12345", "1.0e+05", "inf"]
    assert browser.sort("huge") == "descending"
    assert browser.column("huge") == ["inf", "1.0e+05", "12345", "2.0e-07", "-3", "-inf"]
    # What is missing stays at the end, whichever way.
    assert browser.sort("reached") == "ascending"
    rising = browser.column("reached")
    assert browser.sort("reached") == "descending"
    falling = browser.column("reached")
    assert rising[3:] == falling[3:] == ["-"] * 3
    assert rising[:3] == falling[2::-1] == sorted(rising[:3], key=float)
    # Rows move whole, and one column at a time is named as the sorted one.
    frame = pd.DataFrame({name: browser.column(name, 1) for name in ("case", "test loss")})
    assert frame.loc[frame["case"] == "lr=0.2", "test loss"].tolist() == falling[:3]
    assert browser.script("return document.querySelectorAll('[aria-sort]').length") == 1
    assert browser.script("return document.querySelector('[aria-sort]').innerText.trim()") == "reached"


def test_another_table_is_left_alone(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["run"])
    before = browser.column("case", 1)
    assert browser.sort("case", 0) == "ascending"
    assert browser.column("case", 0) == ["lr=0.01", "lr=0.2"]
    assert browser.column("case", 1) == before


def test_a_keyboard_sorts_too(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["run"])
    browser.script("[...document.querySelectorAll('thead button')].find((one) => one.innerText === 'huge').focus()")
    browser.driver.switch_to.active_element.send_keys("\ue007")
    assert browser.column("huge")[0] == "-inf"


@pytest.mark.parametrize(
    ("column", "ascending"),
    [
        ("number", ["-inf", "-3", "1.2e-07", "9", "10", "inf", "-"]),
        (
            "spread",
            ["-1.0e+05 ± 4", "0.10 ± 0.20", "0.5 ± inf", "0.930 ± 0.010", "12.0 ± 3.0", "1.0e+05", "- ± 1"],
        ),
        ("name", ["9 layers", "10 layers", "a", "b", "infinite", "init=x", "-"]),
        ("rate", ["lr=1e-3", "lr=0.05", "lr=0.05 k=2", "lr=0.05 k=10", "lr=0.3", "lr=2", "lr=10"]),
        ("mixed", ["1", "2", "3", "10", "a", "x", "-"]),
    ],
)
def test_keys(browser: Browser, content: Document, tmp_path: Path, column: str, ascending: list[str]) -> None:
    tables: Any = [Table("keys", "Keys", "", KEYS)]
    browser.open(page.write_page(dataclasses.replace(content, tables=tables), tmp_path / "keys.html"))
    assert browser.sort(column) == "ascending"
    assert browser.column(column) == ascending
    assert browser.sort(column) == "descending"
    missing = [one for one in ascending if one in ("", "-", "- ± 1")]
    present = [one for one in ascending if one not in missing]
    # In a column of both, numbers stay before names.
    turned = ["3", "2", "1", "x", "a", "10"] if column == "mixed" else present[::-1]
    assert browser.column(column) == turned + missing
