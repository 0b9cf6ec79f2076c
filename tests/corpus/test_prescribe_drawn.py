"""The sample of injected faults on which remedies are scored, and the page that tells of it."""

from __future__ import annotations

import pytest

from tests.corpus.labels import state
from tests.corpus.prescribe_drawn import CURABLE, Row, sample
from tests.corpus.prescribe_report import page
from tests.corpus.split import FIT_BASES


def row(name: str, half: str, share: float, remedy: str = "He initialization") -> Row:
    return Row(name, half, share, share - 0.05, 0.2, remedy, remedy, 1.0)


@pytest.mark.slow
def test_no_family_is_in_both_halves_and_each_half_is_large() -> None:
    halves = sample()
    families = {half: {one.family for one in cases} for half, cases in halves.items()}
    assert not families["mended"] & families["scored"]
    assert not families["fresh"] & (families["mended"] | families["scored"])
    assert not (families["mended"] | families["scored"]) & set(FIT_BASES)
    assert all(len(cases) >= 30 for cases in halves.values())
    assert len(families["mended"] | families["scored"]) >= 30
    for one in (*halves["mended"], *halves["scored"], *halves["fresh"]):
        assert one.fault in CURABLE
        assert one.twin is not None
        assert state(one.name) == "faulty"
    assert [one.name for one in sample()["scored"]] == [one.name for one in halves["scored"]]


def test_the_page_counts_what_reaches_nine_tenths() -> None:
    rows = [
        row("gcn+lr-down@0.001", "fresh", 0.96),
        row("gat+lr-down@0.01", "fresh", 0.92),
        row("deit+zero-init@1", "fresh", 0.89, ""),
        row("maxout+lr-up@10", "mended", 1.2),
    ]
    told = page(rows)
    assert "On 3 injected faults in 3 model families" in told
    assert "progress in 2 of 3, 66.7 %" in told
    assert "| fresh | 3 | 2 of 3, 66.7 % (20.8 to 93.9) | 1 of 3," in told
    assert "| mended | 1 | 1 of 1, 100.0 %" in told
    assert "| lr-down | 2 of 2 |  |  |" in told
    assert "| deit+zero-init@1 | fresh | 89% | 20% | nothing helped |" in told
    assert told.index("deit+zero-init@1 |") < told.index("gat+lr-down@0.01 |") < told.index("maxout+lr-up@10 |")
