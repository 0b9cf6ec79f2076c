"""Numbers that are predicted in tests: whether they fit what is wanted, as they do in training."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from diag.rules.answered import is_late, tests_of
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.trace.shapes import sizes

_LEAST = 30
"""Samples that a test must have to be judged."""
_TRAINED = 64
"""Samples of a training batch that are scored."""
_PLAIN, _HALF = 5.0, 0.5
"""Standard errors by which predictions fit what is trained on, for certain; the share of that fit that tests lack."""


class Fit(NamedTuple):
    """A test: standard errors by which predictions fit their own numbers better than others, and how many samples."""

    z: float
    samples: int
    batches: int
    step: int


def fits_nothing(evidence: Evidence) -> bool:
    """Whether predictions of the last test, at the end of training, fit their own numbers no better than others."""
    test = _last_fit(evidence)
    return test is not None and is_late(evidence, test.step) and test.z < evidence.thresholds["unrelated_error"]


def fits_something(evidence: Evidence) -> bool:
    """Whether those of the last test fit their own numbers better, for certain."""
    test = _last_fit(evidence)
    return test is not None and test.z >= evidence.thresholds["unrelated_warning"]


def by_heart(evidence: Evidence) -> Finding | None:
    """Predictions fit what is trained on, and in the last test fit their own numbers no better than others.

    The correlation of n pairs is z / sqrt(n - 1). Error where that of the test, and what chance may hide of it, is
    below half of what training's would give.
    """
    test = _last_fit(evidence)
    rows = evidence.rows("activation", evidence.clean[len(evidence.clean) // 2 :], ("pairing",))
    if test is None or not len(rows) or test.z >= evidence.thresholds["unrelated_error"]:
        return None
    for site, own in rows.groupby(rows["site"].str.removesuffix("[pairing]"), sort=False):
        count = min(_TRAINED, sizes(str(evidence.sites.loc[str(site), "shape"]))[0])
        z = float((own["mean"] * own["count"]).sum() / own["count"].sum() ** 0.5)
        alike = float(own["mean"].median()) / math.sqrt(max(count - 1, 1))
        expected = alike * math.sqrt(max(test.samples / test.batches - 1, 1)) * math.sqrt(test.batches)
        if z < _PLAIN or max(test.z, 0.0) + evidence.thresholds["unrelated_error"] >= _HALF * expected:
            continue
        return Finding(
            "evaluation-mismatch",
            "error",
            str(site),
            f"Predictions of {test.samples} samples that are tested fit their own targets no better than those of other"
            f" samples: by {test.z:.2f} standard errors, where those of training, which fit theirs by {z:.3g} over"
            f" {int(own['count'].sum())} batches, would have {expected:.3g}: what is learned holds for the training"
            " samples alone.",
            {"step": test.step, "of": "tested numbers", "z": test.z, "expected": expected, "samples": test.samples},
            "Look at inputs beside their targets as the network gets them, of both sets: have they been shuffled or"
            " sorted apart? If they belong together, there are too few samples.",
            "Zhang et al. 2017, 'Understanding deep learning requires rethinking generalization', section 2",
        )
    return None


def _last_fit(evidence: Evidence) -> Fit | None:
    """The largest test after the last step that has any in which numbers are told."""
    tests = [one for one in tests_of(evidence) if "z" in one and one["samples"] >= _LEAST]
    if not tests:
        return None
    last: dict[str, Any] = max(tests, key=lambda one: (one["step"], one["samples"]))
    return Fit(float(last["z"]), int(last["samples"]), int(last["batches"]), int(last["step"]))
