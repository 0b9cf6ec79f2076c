"""Predictions in tests: whether they fit what is wanted of them, as they do in training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from diag.rules.answered import is_late, tests_of
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.scales import began_far
from diag.trace.schema import INDEXED
from diag.trace.shapes import sizes

_LEAST, _MANY = 30, 100
"""Samples that a test must have to be judged; to show that nothing was learned."""
_TRAINED, _TESTED = 64, 512
"""Samples of a batch that are scored: in training, of classes four times as many, and in tests."""
_AS_THE_MEAN = 0.05
"""How far an error is from that of the mean, of the latter, to be no better and no worse."""
_PLAIN, _HALF = 5.0, 0.5
"""Standard errors by which predictions fit what is trained on, for certain; the share of that fit that tests lack."""


_APART = (
    "Look at inputs beside their targets as the network gets them, of both sets: have they been shuffled or sorted"
    " apart? If they belong together, there are too few samples."
)
_SMALLER = (
    "Initialize what the outputs are made of smaller, embeddings with a standard deviation of 0.02 to 0.1 rather than"
    " 1, so that the first predictions are no larger than the targets."
)


def fits_nothing(evidence: Evidence) -> tuple[int, float] | None:
    """Samples and standard errors of the best of the last tests, at the end of training, where in none of them
    predictions fit their own targets better than others."""
    tests = [one for one in _last(evidence) if one["samples"] >= _MANY and is_late(evidence, int(one["step"]))]
    best = max(tests, key=lambda one: float(one["z"]), default=None)
    if best is None or best["z"] >= evidence.thresholds["unrelated_error"]:
        return None
    return int(best["samples"]), float(best["z"])


def fits_something(evidence: Evidence) -> bool:
    """Whether in one of the last tests of numbers predictions fit their own targets better, for certain; of classes the
    share that is told right says it better, since samples that come in clusters are no proof. Nor is a fit by which
    numbers are told no better than by their mean, as an untrained network may have."""
    limit = evidence.thresholds["unrelated_warning"]
    return any(one["z"] >= limit and "right" not in one and not _tells_the_mean(one) for one in _last(evidence))


def _tells_the_mean(test: dict[str, Any]) -> bool:
    """Whether the squared error is that of the mean of what is wanted."""
    return bool(abs(test.get("error", 0.0) - test.get("spread", math.inf)) < _AS_THE_MEAN * test.get("spread", 0.0))


def by_heart(evidence: Evidence) -> Finding | None:
    """Predictions fit what is trained on, and in a last test fit their own targets no better than others.

    The correlation of n pairs is z / sqrt(n - 1). Error where that of the test, and what chance may hide of it, is
    below half of what training's would give.
    """
    limit = evidence.thresholds["unrelated_error"]
    for test in _last(evidence):
        pairs, batches = min(test["samples"] / test["batches"], _TESTED), float(test["batches"])
        for site, z, alike in _trained(evidence):
            expected = alike * math.sqrt(max(pairs - 1, 1) * batches)
            if z < _PLAIN or test["z"] >= limit or max(test["z"], 0.0) + limit >= _HALF * expected:
                continue
            begun = began_far(evidence)
            wide = (
                ""
                if begun is None
                else f" The first squared error was {begun[0]:.3g}, where the targets' mean has {begun[1]:.3g}: outputs"
                " are far too large from the start, and it is these that are unlearned, sample by sample."
            )
            return Finding(
                "evaluation-mismatch",
                "error",
                site,
                f"Predictions of {test['samples']} samples that are tested fit their own targets no better than those"
                f" of other samples: by {test['z']:.2f} standard errors, where as good a fit as that of training, which"
                f" is beyond chance by {z:.3g}, would give {expected:.3g}. What is learned holds for the training"
                f" samples alone.{wide}",
                {
                    "step": int(test["step"]),
                    "of": "tested pairs",
                    "z": float(test["z"]),
                    "expected": expected,
                    "samples": int(test["samples"]),
                },
                _SMALLER if wide else _APART,
                "Zhang et al. 2017, 'Understanding deep learning requires rethinking generalization', section 2",
            )
    return None


def _trained(evidence: Evidence) -> Iterator[tuple[str, float, float]]:
    """Per loss: the standard errors by which predictions fit in the second half of training, and their correlation."""
    rows = evidence.rows("activation", evidence.clean[len(evidence.clean) // 2 :], ("pairing",))
    for name, own in rows.groupby(rows["site"].str.removesuffix("[pairing]"), sort=False):
        site, shape = str(name), sizes(str(evidence.sites.loc[str(name), "shape"]))
        most = 4 * _TRAINED if evidence.sites.loc[site, "op"] in INDEXED and len(shape) == 2 else _TRAINED
        z = float((own["mean"] * own["count"]).sum() / own["count"].sum() ** 0.5)
        yield site, z, float(own["mean"].median()) / math.sqrt(max(min(shape[0], most) - 1, 1))


def _last(evidence: Evidence) -> list[dict[str, Any]]:
    """The tests after the last step that has any, of samples enough."""
    tests = [one for one in tests_of(evidence) if "z" in one and one["samples"] >= _LEAST]
    step = max((int(one["step"]) for one in tests), default=-1)
    return [one for one in tests if one["step"] == step]
