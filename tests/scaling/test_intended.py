"""What shrinks by construction, and what only looks like it."""

from __future__ import annotations

import pandas as pd
import pytest

from diag.scaling.intended import intended
from diag.scaling.measure import COLUMNS, LAST
from diag.scaling.slopes import Slope, Verdict

TABLE = pd.DataFrame(
    [(8, 0, site, order, quantity, 0, 1.0) for order, site in enumerate(["inp", "f.0", "out"])
     for quantity in ("activation", "gradient")],
    columns=COLUMNS,
)  # fmt: skip


def one(site: str, quantity: str, step: int, slope: float, half: float = 0.05) -> Slope:
    low, high = slope - half, slope + half
    verdict: Verdict = "grows" if low > 0.15 else "shrinks" if high < -0.15 else "level"
    if verdict == "level" and max(-low, high) >= 0.15:
        verdict = "cannot tell"
    return Slope(site, quantity, step, slope, low, high, 1.0, verdict)


def found(slopes: list[Slope], axis: str = "width", optimizer: str = "AdamW") -> list[Slope]:
    return [slope for which in intended(slopes, TABLE, axis, [optimizer]).values() for slope in which]


@pytest.mark.parametrize(
    ("start", "after", "sound"),
    [(-0.5, 0.0, True), (-1.0, 0.0, True), (-0.5, 0.9, True), (-1.5, 0.0, False), (-0.5, -0.5, False)],
)
def test_a_readout_may_shrink_until_it_has_learned(start: float, after: float, sound: bool) -> None:
    slopes = [one(site, "activation", step, by) for site in ("out", LAST) for step, by in ((0, start), (4, after))]
    assert found(slopes) == ([slopes[0], slopes[2]] if sound else [])


def test_other_activations_may_not() -> None:
    assert (
        found([one(LAST, "activation", 0, 0.0), one(LAST, "activation", 4, 0.0), one("f.0", "activation", 0, -0.5)])
        == []
    )


@pytest.mark.parametrize(
    ("slope", "half", "optimizer", "sound"),
    [
        (-0.5, 0.05, "Adam", True),
        (-0.2, 0.1, "MuonWithAuxAdam", True),
        (-0.5, 0.05, "SGD", False),
        (-0.9, 0.05, "Adam", False),
        (0.5, 0.05, "Adam", False),
        (-0.1, 0.4, "Adam", False),  # which may as well grow
    ],
)
def test_gradients_behind_a_readout_matter_to_plain_steps(
    slope: float, half: float, optimizer: str, sound: bool
) -> None:
    slopes = [one("f.0", "gradient", 0, slope, half), one("f.0", "gradient", 4, slope, half)]
    assert found(slopes, optimizer=optimizer) == (slopes if sound else [])


@pytest.mark.parametrize(
    ("bottom", "branch", "sound"), [(0.0, -0.45, True), (-0.5, -0.45, False), (0.0, -0.9, False), (0.5, -0.45, False)]
)
def test_a_branch_may_shrink_where_the_stream_does_not(bottom: float, branch: float, sound: bool) -> None:
    slopes = [one("inp", "gradient", 0, bottom), one("f.0", "gradient", 0, branch), one("out", "gradient", 0, -0.3)]
    assert found(slopes, "depth", "SGD") == ([slopes[1]] if sound else [])
    # The same of activations, where the branch's last weights hold the scale: held to the output.
    slopes = [one(LAST, "activation", 0, bottom), one("f.0", "activation", 0, branch)]
    assert found(slopes, "depth", "SGD") == ([slopes[1]] if sound else [])
