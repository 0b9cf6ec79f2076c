"""Shapes as a trace writes them: `64x128`, `scalar`."""

from __future__ import annotations

from collections.abc import Sequence


def shape_text(shape: Sequence[int]) -> str:
    """A shape as `64x128`; `scalar` for none."""
    return "x".join(map(str, shape)) or "scalar"


def sizes(text: str) -> tuple[int, ...]:
    """The inverse of `shape_text`."""
    return tuple(int(size) for size in text.split("x")) if text != "scalar" else ()


def are_crossed(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether one is N x 1 and the other N, of more than one: their difference is N x N."""
    long, short = (one, other) if len(one) > len(other) else (other, one)
    return len(long) == 2 and len(short) == 1 and long[1] == 1 and long[0] == short[0] > 1
