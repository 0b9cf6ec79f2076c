"""How numbers are shown."""

from __future__ import annotations

import pytest

from diag.rules.finding import shown


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (1e-4, "less than 1%"), (0.02, "2%"), (0.5, "50%"), (0.9996, "more than 99%"), (1.0, "100%")],
)
def test_a_share_is_all_or_nothing_only_where_it_is(share: float, text: str) -> None:
    assert shown(share) == text
