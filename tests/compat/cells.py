"""The parameters of a test of every cell: what is said not to hold must fail."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pytest
import torch

from tests.compat.registry import COLUMNS, Row


def cells_of(rows: Sequence[Row], nightly: Collection[str] = ()) -> list[Any]:
    """One `pytest.param(row, column)` per cell. nightly: the names of rows that wait for the night."""
    cells = []
    for row in rows:
        for column in COLUMNS:
            word, reason = row.claim(column)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if word == "no" else []
            marks += [pytest.mark.slow] if row.slow else []
            marks += [pytest.mark.nightly] if row.name in nightly else []
            cells.append(pytest.param(row, column, marks=marks, id=f"{row.name}-{column}"))
    return cells


@contextlib.contextmanager
def within(row: Row, column: str, record: Any) -> Iterator[None]:
    """Skip without the packages it needs, ignore its own warnings, and tell the table's writer which cell this is."""
    for package in row.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    if row.hosts and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    record("cell", (row.name, column))
    with warnings.catch_warnings():
        for message in row.ignored:
            warnings.filterwarnings("ignore", message=message)
        yield
