"""Thresholds lie beyond what healthy networks were measured to reach."""

from __future__ import annotations

import pytest

from diag.rules.null import NULL
from tests.rules.traces import DEFAULTS

FROM_BELOW = {
    "vanishing_error",
    "vanishing_crawl_error",
    "collapsed_scale_error",
    "collapsed_spread_error",
    "collapsed_spread_crawl_error",
    "lost_error",
    "lost_crawl_error",
    "weights_error",
    "stalled_error",
    "shrunk_error",
    "shrunk_crawl_error",
    "unrelated_error",
}
"""Those that alarm below their value."""


@pytest.mark.parametrize("name", NULL)
def test_no_healthy_set_up_reaches_the_threshold(name: str) -> None:
    null, value = NULL[name], DEFAULTS[name]
    farthest = null.quantiles[-1]
    assert null.count >= 200
    assert (farthest > value) if name in FROM_BELOW else (farthest < value), (farthest, null.farthest)
    ordered = sorted(null.quantiles, reverse=name in FROM_BELOW)
    assert list(null.quantiles) == ordered
