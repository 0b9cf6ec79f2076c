"""Reports read back: tables of Markdown and of HTML as lists of texts, and Markdown as a reader's program shows it."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

from markdown_it import MarkdownIt

VOID = {"meta", "link", "br", "img", "wbr", "input", "hr"}


class Tables(HTMLParser):
    """The tables of a page, in order: a list of rows, the first of which are the headings; and the classes of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.classes: list[list[list[str]]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
            self.classes.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
            self.classes[-1].append([])
        elif tag in ("th", "td"):
            self._inside = True
            self.tables[-1][-1].append("")
            self.classes[-1][-1].append(dict(attrs).get("class") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.tables[-1][-1][-1] += data


def markdown_tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text, as GitHub's dialect has them."""
    return Tables(rendered(text)).tables


def rendered(text: str) -> str:
    """Markdown as HTML. Raw HTML stays HTML, as on most sites."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").render(text)


def words(page: str) -> str:
    """What is read on a page: its text, without tags."""
    return html.unescape(re.sub(r"<[^>]*>", "", page))


class Elements(HTMLParser):
    """Every element of a page, as its tag and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))
