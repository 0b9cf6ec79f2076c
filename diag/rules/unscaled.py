"""Targets of another size than what a network of usual weights puts out."""

from __future__ import annotations

import pandas as pd

from diag.rules.evidence import Evidence, chance_of_fall
from diag.rules.finding import Finding
from diag.trace.schema import INDEXED

_FAR, _LARGE = 10.0, 10.0
"""How many times larger than the predictions targets are, after training too; and than 1."""
_ASTRAY = 100.0
"""The same where training breaks down, be it in its first step."""
_FEWEST = 5
"""Batches whose targets were seen."""
_HUGE, _LONG = 1e4, 0.05
"""Times the first predictions, and 1; the share of the steps that it takes to come near."""
_HALF, _STILL_FALLS = 0.5, 0.01
"""Of the targets' size, how far predictions have come in the middle at most, while the loss still falls."""


def unscaled(evidence: Evidence) -> Finding | None:
    """Targets that are far larger than what the network puts out: from the first step to the last, or so much that it
    is still on its way there in the middle."""
    if not evidence.clean_losses.size:
        return None
    rows = evidence.rows("activation", evidence.clean)
    targets = rows[(rows["role"] == "target") & (rows["rms"] > _LARGE)]
    for site, own in targets.groupby("site", sort=False):
        loss = str(site).removesuffix("[target]")
        if evidence.sites.loc[loss, "op"] in INDEXED:
            continue
        given = rows[rows["site"] == loss].groupby("step")["rms"].max()
        size = float(own["rms"].median())
        found = (
            _never_near(evidence, own, given, size)
            or _on_its_way(evidence, own, given, size)
            or _far_out(evidence, own, given)
        )
        if found is None:
            continue
        largest, said = found
        return Finding(
            "loss-not-decreasing",
            "warning" if evidence.acts else "error",  # a critic follows what the policy makes of it
            loss,
            f"The targets have mean {own['mean'].median():.3g} and rms {size:.3g}; {said} Weights are made for targets"
            " of about 1.",
            {"step": evidence.clean[0], "of": "target", "rms": size, "predictions": largest},
            "Standardize the targets: subtract the mean and divide by the standard deviation of the training set.",
            "LeCun et al. 1998, 'Efficient BackProp', section 4.5",
        )
    return None


def _never_near(evidence: Evidence, targets: pd.DataFrame, given: pd.Series, size: float) -> tuple[float, str] | None:
    """The largest predictions, where even they are far smaller, and what to say of it."""
    largest = float(given.max())
    broke = evidence.first_bad_step is not None or evidence.diverged_at is not None
    far = _ASTRAY if broke else _FAR
    if evidence.is_half_solved or len(targets) < (1 if broke else _FEWEST) or not size > far * largest:
        return None
    when = "the first step" if len(evidence.clean) == 1 else f"all {len(evidence.clean)} steps"
    return largest, f"predictions stay below rms {largest:.3g} in {when}."


def _far_out(evidence: Evidence, targets: pd.DataFrame, given: pd.Series) -> tuple[float, str] | None:
    """The predictions when they have come to half of their targets' size, which may move: where that takes long, from
    next to nothing beside targets that are huge."""
    sizes = targets.groupby("step")["rms"].max()
    nearness = (given / sizes).dropna()
    if len(nearness) < 3 * _FEWEST or not sizes.iloc[0] > _HUGE * max(1.0, float(given.iloc[0])):
        return None
    near = nearness.index[nearness >= _HALF]
    until = int(near[0]) if len(near) else evidence.clean[-1]
    if until < _LONG * evidence.clean[-1]:
        return None
    largest = float(given.loc[:until].max())
    return largest, (
        f"predictions begin at rms {float(given.iloc[0]):.2g}, and take until step {until} of {evidence.clean[-1]} to"
        " come to half of that: training goes into getting there."
    )


def _on_its_way(evidence: Evidence, targets: pd.DataFrame, given: pd.Series, size: float) -> tuple[float, str] | None:
    """The predictions of the middle, where they began far off and are not half as large, and the loss falls after."""
    if len(targets) < _FEWEST or len(given) < 3 * _FEWEST or not size > _FAR * float(given.iloc[:_FEWEST].median()):
        return None
    middle = float(given.iloc[int(0.45 * len(given)) : int(0.55 * len(given)) + 1].median())
    losses = evidence.clean_losses
    falls = chance_of_fall(losses.iloc[len(losses) // 2 :]) / 2 < _STILL_FALLS
    if evidence.alternates or not middle < _HALF * size or not falls:
        return None
    return middle, (
        f"after half of {len(evidence.clean)} steps predictions have come to rms {middle:.3g}, from"
        f" {float(given.iloc[0]):.2g} in the first, and the loss still falls: training goes into getting there."
    )
