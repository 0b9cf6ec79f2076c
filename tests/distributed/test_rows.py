"""Every cell of the compatibility table that takes several processes, which are started once for all of them."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import pytest

from tests.compat.cells import cells_of, within
from tests.compat.registry import Setup
from tests.distributed.launch import launch_once
from tests.distributed.setups import RANKS, ROWS


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the ranks of a group of so many found."""

    return lru_cache(partial(launch_once, tmp_path_factory, "tests.distributed.worker"))


@pytest.mark.parametrize("row, column", cells_of(ROWS, [name for name, ranks in RANKS.items() if ranks > 2]))
def test_cell(row: Setup, column: str, results: Any, record_property: Any) -> None:
    with within(row, column, record_property):
        for rank, found in enumerate(results(RANKS[row.name])):
            error = found[f"{row.name}/{column}"]
            assert not error, f"rank {rank}: {error}"
