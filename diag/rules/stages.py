"""Training in stages: optimizers that follow one another, as in pretraining and fine-tuning, rather than take turns."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

_FEWEST_ANEW, _NEARLY_ALL = 12, 0.9
_LONG = 30
"""Steps of a stage that can be judged without those of the others."""


def stage_of(steps: pd.DataFrame, trained: Collection[int]) -> pd.DataFrame:
    """The steps in which a model is trained: of stages, those that hold any of the steps in which it was seen to be, or
    the longest of these, if it is long enough to be judged alone.

    All steps where one optimizer took them, or where several took turns, or where each was made for one step, which
    counts as one optimizer. steps: as in a trace. trained: some of them.
    """
    ended = steps[steps["optimizer"] >= 0]
    if are_anew(steps):
        return steps.assign(optimizer=steps["optimizer"].clip(upper=0))
    runs = (ended["optimizer"] != ended["optimizer"].shift()).cumsum()
    if runs.nunique() < 2 or runs.nunique() != ended["optimizer"].nunique():
        return steps
    own = runs[ended["step"].isin(list(trained))]
    own = runs[runs.isin(own.unique())] if len(own) else runs
    sizes = own.value_counts().sort_index()
    if len(sizes) > 1 and sizes.max() >= _LONG:
        own = own[own == sizes.idxmax()]
    return steps.loc[own.index]


def are_anew(steps: pd.DataFrame) -> bool:
    """Whether nearly every step has an optimizer of its own."""
    numbers = steps.loc[steps["optimizer"] >= 0, "optimizer"]
    return bool(numbers.nunique() >= max(_FEWEST_ANEW, _NEARLY_ALL * len(numbers)))
