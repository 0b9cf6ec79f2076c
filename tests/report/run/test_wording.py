"""The range in which a claim is true, in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from diag.report.run.wording import true_range


@pytest.mark.parametrize(
    ("above", "below", "text"),
    [
        (0.1, None, "> 0.1"),
        (None, 1 / 12, "< 0.0833"),
        (0.0, 1.0, "> 0 and < 1"),
        (0.9999, None, "> 0.9999"),
        (1 - 1e-9, None, "> 0.999999999"),
        (None, 1.00001, "< 1.00001"),
    ],
)
def test_a_bound_near_one_is_not_one(above: float | None, below: float | None, text: str) -> None:
    verdict: Any = SimpleNamespace(above=above, below=below)
    assert true_range(verdict) == text
