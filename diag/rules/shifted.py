"""Tests whose inputs are not scaled or centered as those of the training are, and that suffer from it."""

from __future__ import annotations

import math
from typing import Any

from diag.rules.answered import tests_of
from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.scales import guesses

_SAMPLES, _LAST = 30, 10
"""Samples of a test; measured steps before it that its inputs are held against."""
_SHIFT, _FACTOR = 1.0, 3.0
"""In deviations of a training's inputs, and a factor between sizes, that no split into parts gives."""
_AMONG = 2.0
"""How many times the deviation among means of training batches is less than that among samples."""
_WORSE = 3.0
"""Times the training's cross-entropy: a test's that suffers."""


def shifted_inputs(evidence: Evidence) -> Finding | None:
    """The last tests are of inputs with another mean, or of another size, and do far worse than training.

    The shift is sqrt(|d|) with d the difference of rms^2 - E var over samples, the mean square of the features' means,
    or the difference of the means, the larger one, over the deviation of the training's inputs over samples.
    """
    passes = [one for one in evidence.trace.coverage.get("tested") or () if one["site"] in evidence.sites.index]
    step = max((int(one["step"]) for one in passes), default=-1)
    if evidence.acts or evidence.alternates or not _suffers(evidence, step):
        return None
    for one in passes:
        if one["step"] != step or one["samples"] < _SAMPLES or not one["rms"] > 0:
            continue
        trained = _trained(evidence, str(one["site"]), step)
        if trained is None:
            continue
        deviation = math.sqrt(trained["sample_var"])
        own, other = (each["rms"] ** 2 - each["sample_var"] for each in (one, trained))
        shift = max(abs(one["mean"] - trained["mean"]), math.sqrt(abs(own - other))) / deviation
        factor = max(one["rms"] / trained["rms"], trained["rms"] / one["rms"])
        if shift >= _SHIFT or factor >= _FACTOR:
            return _told(one, trained, shift)
    return None


def _trained(evidence: Evidence, site: str, step: int) -> dict[str, float] | None:
    """Mean, rms and variance over samples of the inputs that were trained on; None where these differ among batches."""
    rows = evidence.rows("activation", [one for one in evidence.clean if one <= step][-_LAST:], ("input",))
    rows = rows[rows["site"] == site]
    if not len(rows) or not rows["sample_var"].median() > 0:
        return None
    if _AMONG * float(rows["mean"].std()) > float(rows["sample_var"].median()) ** 0.5:
        return None
    return {name: float(rows[name].median()) for name in ("mean", "rms", "sample_var")}


def _suffers(evidence: Evidence, step: int) -> bool:
    """Whether tests after this step are far worse than training: by cross-entropy, or, of numbers, worse than
    always the mean of what is wanted, where training has learned most of what there is."""
    tests = [one for one in tests_of(evidence) if int(one["step"]) == step]
    known = guesses(evidence)
    if known is not None:
        before = known[0][known[0].index <= step].iloc[-_LAST:]
        worst = max((float(one["loss"]) for one in tests if "loss" in one), default=math.nan)
        return bool(len(before)) and worst > _WORSE * float(before.median())
    return evidence.is_half_solved and any(_is_off(one) for one in tests)


def _is_off(test: dict[str, Any]) -> bool:
    return bool(test.get("spread", 0.0) > 0 and test["error"] > test["spread"])


def _told(one: dict[str, Any], trained: dict[str, float], shift: float) -> Finding:
    return Finding(
        "evaluation-mismatch",
        "error",
        str(one["site"]),
        f"The model is tested on inputs of mean {one['mean']:.3g} and rms {one['rms']:.3g} at {one['site']}, and"
        f" trained on such of mean {trained['mean']:.3g} and rms {trained['rms']:.3g}: features lie {shift:.2g}"
        " deviations from where they were, and tests do far worse than training.",
        {
            "step": int(one["step"]),
            "of": "tested input",
            "shift": shift,
            "mean": float(one["mean"]),
            "rms": float(one["rms"]),
            "trained_mean": trained["mean"],
            "trained_rms": trained["rms"],
        },
        "Do to the data that are tested what is done to those of training, with the same numbers: division by 255, mean"
        " and standard deviation of the training set.",
        "LeCun et al. 1998, 'Efficient BackProp', section 4.3",
    )
