"""One finished picture, with what is said about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plot:
    """A figure for a page.

    name: for links and file names. title: what is plotted, over what. caption: what the picture shows, with numbers;
    it is the alternative text too. svg: the picture, safe to put inline; its words are escaped.
    """

    name: str
    title: str
    caption: str
    svg: str
