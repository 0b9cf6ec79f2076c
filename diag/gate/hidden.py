"""Regressions that their own worst trials hide.

Student's t can fall when one trial becomes worse, since the spread grows faster than the mean: a gate that looked at it
alone would pass a run because a part of it got worse.
"""

from __future__ import annotations

import numpy as np

from diag.gate.samples import RESOLUTION, Sample, spread

CAPS = 16
"""Bounds that are tried between two neighboring values."""


def capped_p(samples: list[Sample], p: np.ndarray) -> np.ndarray:
    """The least p of each sample when its values above some bound are taken for that bound: p*(x) = min over c of
    p(min(x, c)), so that harm which is added to a trial cannot raise it.

    p: without a bound. It may tell that a pass would be wrong, not that there is a regression: it exceeds its level.
    """
    found = p.copy()
    groups: dict[tuple[bool, tuple[int, int]], list[int]] = {}
    for i, one in enumerate(samples):
        # Where the mean is within the margin no bound makes it worse than that.
        if one.harm > one.margin:
            groups.setdefault((one.paired, one.sizes), []).append(i)
    for members in groups.values():
        found[members] = _of_one_shape([samples[i] for i in members])
    return found


def _of_one_shape(samples: list[Sample]) -> np.ndarray:
    """samples: all paired or none, and of the same sizes."""
    from scipy import special

    paired, sizes = samples[0].paired, samples[0].sizes
    values = np.sort([one.new - one.baseline if paired else one.new for one in samples], axis=1)
    last = values.shape[1] - 1
    places = np.linspace(0, last, CAPS * last + 1)
    below = np.minimum(places.astype(int), last - 1)
    caps = values[:, below] + (places - below) * (values[:, below + 1] - values[:, below])
    capped = np.minimum(values[:, None, :], caps[:, :, None])
    margin = np.array([[one.margin] for one in samples])
    own = np.maximum(capped.var(axis=2, ddof=1), (RESOLUTION * margin) ** 2)
    before = np.array([[one.variances[0]] for one in samples])
    error, freedom = spread((own,) if paired else (before, own), sizes)
    harm = capped.mean(axis=2) - np.array([[0.0 if paired else one.means[0]] for one in samples])
    least: np.ndarray = special.stdtr(freedom, -(harm - margin) / error).min(axis=1)
    return least
