"""In which order remedies are tried, and in which they are told."""

from __future__ import annotations

import math
from collections.abc import Sequence

from diag.prescribe.effect import Effect, Verdict
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
    "vanishing-gradient": ("gates", *_SHRINKS),
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
NEARLY = 0.9
"""Nor is one than this share, where the intervals of the two losses overlap: chance may have made it."""
_VERDICTS: dict[Verdict, int] = {
    "helped": 0,
    "cannot tell": 1,
    "did not help": 1,
    "diverged": 2,
    "could not be tried": 3,
}


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
    """What helped first, by where the loss ends; on top the simplest of those that bring about what the best brings.

    One that makes no new errors is simpler than one that does, fewer changes simpler than more, and one that mends what
    was seen to be wrong simpler than another.
    """
    ordered = sorted(trials, key=lambda one: (_VERDICTS[one.verdict], _end(one)))
    helped = [(one, one.effect) for one in ordered if one.helped and one.effect is not None]
    if not helped:
        return ordered
    tied = [one for one, effect in helped if _is_tied(effect, helped[0][1])]
    simplest = min(tied, key=lambda one: (bool(one.errors), one.remedy.parts, not one.remedy.direct, _end(one)))
    return [simplest, *(one for one in ordered if one is not simplest)]


def adds_nothing(trial: Trial, others: Sequence[Trial]) -> bool:
    """Whether it is more changes than one of the others, and all seeds of both ended with exactly the same loss."""
    fewer = [one.ends for one in others if one.ends and one.remedy.parts < trial.remedy.parts]
    finite = bool(trial.ends) and all(map(math.isfinite, trial.ends))
    return finite and any(all(a == b for a, b in zip(trial.ends, ends, strict=False)) for ends in fewer)


def _is_tied(effect: Effect, best: Effect) -> bool:
    """Whether it takes about as much as the best off what the untreated loss counts as, of either the lower."""
    base = min(best.base, effect.base)
    share = (base - effect.end) / (base - best.end) if base > best.end else 1.0
    return share >= MOST_OF_IT or (share >= NEARLY and _shifted(effect, effect.low) <= _shifted(best, best.high))


def _shifted(effect: Effect, bound: float) -> float:
    """The loss with it, at an end of the interval."""
    if effect.measure == "log ratio":
        return effect.base * math.exp(min(bound, 50.0))
    return effect.base + bound


def _end(trial: Trial) -> float:
    """The loss with it; without a training, fewer findings gone are worse."""
    return trial.effect.remedy if trial.effect is not None else -float(len(trial.gone or []))
