from __future__ import annotations

import functools
import importlib.resources
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from diag.atomic import WriteError
from diag.report.diagnosis import Diagnosis
from diag.report.page import render, write_page
from diag.trace import Trace
from tests.report.synthetic import build_diagnosis

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"wbr", "meta", "link", "br", "img", "hr", "input", "path", "use", "image"}


class Outline(HTMLParser):
    """Tags, attributes and headings; fails where an element is closed that was not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@functools.cache
def page_of(count: int) -> str:
    return render([build_diagnosis(5, 4), build_diagnosis(9, 4, healthy=True)][:count], "Does it learn?")


def test_the_page_opens_with_the_verdict_then_what_to_do_then_what_was_seen() -> None:
    text = page_of(1)
    parts = [
        "Does it learn?</h1>",
        "1 error, 1 warning, 1 note",
        "What to do",
        "use ReLU with He",
        "Glorot &amp; Bengio",
        "stalled-update",
    ]
    parts = [
        *parts[:4],
        "What follows from it",
        "Glorot &amp; Bengio 2010",
        "What was seen",
        "<svg",
        "Site by site",
        "How it was measured",
    ]
    parts += ["auxiliary_head", "diag check model.py:build --steps 30", "What the words mean"]
    places = [text.index(part, text.index("<body")) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize("count", [1, 2])
def test_the_page_is_well_formed_with_headings_in_order_and_every_figure_described(count: int) -> None:
    outline = Outline(page_of(count))
    assert outline.headings[0] == 1
    assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    pictures = [attributes for tag, attributes in outline.tags if tag == "svg"]
    assert len(pictures) >= 5 * count
    assert all(p.get("role") == "img" and re.search(r"\d", p.get("aria-label") or "") for p in pictures)
    identifiers = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_nothing_is_loaded_and_nothing_runs() -> None:
    outline = Outline(page_of(2))
    assert not {tag for tag, _ in outline.tags} & {"script", "iframe", "object", "embed", "img", "base", "form"}
    for tag, attributes in outline.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes[name])
    assert "@import" not in render([], "t")


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></svg><script>"]
)
def test_what_comes_from_the_user_is_text_everywhere(hostile: str) -> None:
    diagnosis = build_diagnosis(5, 2, rename={0: hostile, 3: hostile + "2"})
    diagnosis.coverage[hostile] = hostile
    diagnosis.coverage["notes"] = [hostile]
    diagnosis.trace.meta[hostile] = hostile
    diagnosis.findings[0].evidence[hostile] = [hostile]
    held = Diagnosis(diagnosis.findings, diagnosis.trace, diagnosis.coverage, hostile, hostile)
    text = render([held, held], hostile)
    tags = {tag for tag, _ in Outline(text).tags}
    assert not tags & {"script", "img"}
    assert "<script" not in text
    assert "onerror=alert(1)>" not in text


def test_two_diagnoses_open_with_a_comparison_and_differ_in_every_anchor() -> None:
    text = page_of(2)
    assert (
        text.index("Side by side")
        < text.index('href="#network-1"')
        < text.index("compare-gradients")
        < text.index("What to do")
    )
    assert text.count('<p class="verdict') == 2
    assert 'id="network-2"' in text


def test_more_networks_than_colors_are_counted() -> None:
    diagnosis = build_diagnosis(5, 1)
    diagnosis.trace.frame = diagnosis.trace.frame[diagnosis.trace.frame["kind"] == "gradient"]
    diagnosis.trace.steps = Trace().steps
    text = render([diagnosis] * 7, "Seven")
    assert "The figures above show the first 6 of 7 networks." in text
    assert 'id="network-7"' in text


def test_an_empty_trace_says_that_nothing_was_judged() -> None:
    text = render([Diagnosis([], Trace(), {"notes": ["the script never trained"]})], "Empty")
    assert "could not judge: nothing was observed" in text
    assert "the script never trained" in text
    assert "<svg" not in text
    assert "<table" not in text
    assert "No diagnosis was given" in render([], "None")


def test_a_long_table_shows_a_selection_and_folds_the_whole() -> None:
    text = render([build_diagnosis(300, 2, decay=0.9)], "t")
    assert re.search(r"\d\d of 300 sites", text)
    assert "<summary>All 300 sites</summary>" in text
    assert text.count("<code>layers.<wbr>88:<wbr>sigmoid</code>") >= 1


def test_three_hundred_sites_make_a_small_page(tmp_path: Path) -> None:
    diagnoses = [build_diagnosis(300, 30, decay=0.8), build_diagnosis(300, 30, healthy=True)]
    path = write_page(diagnoses, tmp_path / "page.html", "t")
    assert path.stat().st_size < 3_000_000


def test_a_page_that_cannot_be_written_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"^cannot write .*page\.html: "):
        build_diagnosis(3, 1).to_html(tmp_path / "file" / "page.html")


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast_on_its_ground(dark: bool, luminance: Callable[[str], float]) -> None:
    css = (importlib.resources.files("diag.report") / "templates" / "page.css").read_text(encoding="utf-8")
    light, deep = css.split("@media screen and (prefers-color-scheme: dark)")
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", deep if dark else light))
    pairs = [
        ("ink", "paper"),
        ("ink", "card"),
        ("soft", "paper"),
        ("soft", "card"),
        ("link", "paper"),
        ("link", "card"),
    ]
    for severity in ("error", "warning", "note", "healthy"):
        pairs += [(severity, f"{severity}-soft"), (severity, "card")]
    for front, ground in pairs:
        low, high = sorted((luminance(colors[front]), luminance(colors[ground])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (front, ground)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.slow
def test_a_browser_shows_the_page_without_an_error_or_a_request(tmp_path: Path) -> None:
    page = write_page(
        [
            build_diagnosis(5, 4, rename={0: "<script>document.title='run'</script>"}),
            build_diagnosis(5, 4, healthy=True),
        ],
        tmp_path / "page.html",
        "Does it learn?",
    )
    quiet = [
        "--headless",
        "--no-sandbox",
        "--enable-logging=stderr",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-sync",
    ]
    quiet += ["--disable-component-update", "--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND"]
    result = subprocess.run(
        [str(CHROMIUM), *quiet, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "<title>Does it learn?</title>" in result.stdout, "no script of the user's ran"
    assert result.stdout.count("<svg role=") >= 8
    # The page's own policy forbids every load, so a request of any kind is an error in the console.
    assert "default-src 'none'" in result.stdout
    assert "CONSOLE" not in result.stderr, [line for line in result.stderr.splitlines() if "CONSOLE" in line]
