"""In which order remedies are tried, and in which they are told."""

from __future__ import annotations

from collections.abc import Sequence

from diag.prescribe.effect import Verdict
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import Remedy
from diag.prescribe.trial import Trial

_SHRINKS = (
    "activation",
    "initialization",
    "normalization",
    "learning rate",
    "loss",
    "optimizer",
    "residual",
    "clipping",
)
_GROWS = ("initialization", "learning rate", "normalization", "clipping", "residual", "activation", "loss", "optimizer")
_STEPS = ("learning rate", "normalization", "clipping", "initialization", "loss", "optimizer", "residual", "activation")

USUAL: dict[str, tuple[str, ...]] = {
    "vanishing-gradient": _SHRINKS,
    "collapsed-signal": _SHRINKS,
    "saturated-activation": _SHRINKS,
    "dead-units": ("initialization", "activation", "normalization", *_STEPS),
    "symmetric-units": _GROWS,
    "exploding-activation": _GROWS,
    "exploding-gradient": _GROWS,
    "non-finite": ("learning rate", "initialization", *_STEPS),
    "oversized-update": _STEPS,
    "diverging-loss": _STEPS,
    "stalled-update": ("learning rate", "optimizer", "loss", "initialization", "normalization"),
    "missing-gradient": ("optimizer", "loss", "initialization", "learning rate"),
    "loss-not-decreasing": ("learning rate", "initialization", "normalization", "activation", "optimizer", "loss"),
    "unrelated-targets": ("learning rate", "initialization", "normalization"),
}
"""Families of remedies by the rule that asks for them, the one that usually helps most first."""

MOST_OF_IT = 0.95
"""A larger effect than this share of the best one is no reason for a change that is harder to understand."""
_VERDICTS: dict[Verdict, int] = {"helped": 0, "did not help": 1, "diverged": 2, "could not be tried": 3}


def to_try(patient: Patient, proposed: Sequence[Remedy]) -> list[Remedy]:
    """What mends a fact first; then one remedy of each family, by the findings, roots first; then their second ones."""
    wanted = [family for rule in patient.rules for family in USUAL.get(rule, ())]
    families = list(dict.fromkeys([*wanted, *(one.family for one in proposed)]))
    count: dict[str, int] = {}
    keys: dict[str, tuple[bool, int, int]] = {}
    for one in proposed:
        number = count[one.family] = count.get(one.family, -1) + 1
        keys[one.name] = (not one.direct, number, families.index(one.family))
    return sorted(proposed, key=lambda one: keys[one.name])


def to_tell(trials: Sequence[Trial]) -> list[Trial]:
    """What helped first, by where the loss ends; the simplest on top of those that bring `MOST_OF_IT` of what the best
    brings. One change is simpler than two, and one that mends what was seen to be wrong simpler than another.
    """
    ordered = sorted(trials, key=lambda one: (_VERDICTS[one.verdict], _end(one)))
    helped = [one for one in ordered if one.helped and one.effect is not None]
    if not helped or helped[0].effect is None:
        return ordered
    best = helped[0].effect
    reach = best.remedy + (1 - MOST_OF_IT) * (min(best.control, best.start) - best.remedy)
    tied = [one for one in helped if _end(one) <= reach]
    simplest = min(tied, key=lambda one: (one.remedy.family == "combination", not one.remedy.direct, _end(one)))
    return [simplest, *(one for one in ordered if one is not simplest)]


def _end(trial: Trial) -> float:
    """The loss with it; without a training, fewer findings gone are worse."""
    return trial.effect.remedy if trial.effect is not None else -float(len(trial.gone or []))
