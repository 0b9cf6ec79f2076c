"""Every cell of the compatibility table: what is claimed of a set-up holds, and what is said not to hold does not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compat.cells import cells_of, within
from tests.compat.columns import CHECKS, COPIERS
from tests.compat.registry import COLUMNS, COPIES, Setup
from tests.compat.rows import ROWS
from tests.compat.table import ALL, PAGE, page


@pytest.mark.parametrize("row, column", cells_of(ROWS))
def test_cell(row: Setup, column: str, record_property: Any) -> None:
    with within(row, column, record_property):
        CHECKS[column](row)


def test_the_page_is_what_the_tests_claim() -> None:
    assert list(CHECKS) == list(COLUMNS)
    assert tuple(COPIERS) == COPIES
    assert len({row.name for row in ALL}) == len(ALL)
    assert PAGE.read_text(encoding="utf-8") == page(ALL), "python -m tests.compat.table"
