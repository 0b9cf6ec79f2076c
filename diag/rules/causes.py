"""One cause, one error: findings that follow from another are listed under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from diag.rules.evidence import CRAWL
from diag.rules.finding import SEVERITIES, Finding

_SLOW = ("stalled-update", "loss-not-decreasing", "unrelated-targets")
_FADES = ("vanishing-gradient", "collapsed-signal", "missing-gradient", "dead-units", "saturated-activation")
_STALLING = ("vanishing-gradient", "collapsed-signal", "dead-units", "saturated-activation")
_SHUT = ("dead-units", "saturated-activation")
_GROWS = ("exploding-gradient", "exploding-activation", "oversized-update", "diverging-loss", "non-finite")

_PLAIN = (
    "squash",
    "log-probabilities",
    "broadcast",
    "batch axis",
    "evaluation",
    "mask",
    "shift",
    "signs",
    "ahead",
    "scrambled",
    "one entry",
    "own target",
    "vain clip",
    "reach",
    "range",
    "target",
    "sorted",
    "one target",
    "one side",
    "optimizer",
    "confined",
    "flat",
    "smoothing",
    "bonus",
    "decided",
    "ignored",
    "pos_weight",
    "averaged",
    "first step",
    "own ratio",
    "untaught",
    "one class",
    "one sample",
    "several classes",
    "class weights",
    "lengths",
    "empty",
    "padding",
    "driven out",
    "reshaped",
    "class axis",
    "ends",
    "pairs",
)
"""Seen as they are, in shapes, names and ranges: they follow from nothing that training does."""

_SET = ("schedule", "frozen", "clip", "betas", "scaled away", "underflow", "zeros", "standing", "lagging", "made anew")
"""What the user has set follows from nothing either."""

_VAIN = ("stalled-update", "unrelated-targets", "oversized-update", "collapsed-signal")
"""What becomes of a network whose loss cannot be lowered by what it is to learn: it puts out one number for all."""

_UNGUIDED = {
    "vanishing-gradient": (None,),
    "collapsed-signal": ("spread",),
    "stalled-update": (None,),
    "dead-units": (None,),
}
"""What becomes, by rule and kind, of a network that could tell samples apart and finds nothing to learn of them: what
it makes of them fades, and no gradient of the usual size is of use."""
_FAINT = 1e-5
"""What is left of a gradient at the bottom, below which it is a cause of its own."""
_ALIVE = 3e-4
"""An update over its weight, near the usual one, with which something would be learned if there were anything."""
_USUAL_DECAY = 0.01
"""A weight decay that shrinks weights only where nothing else moves them."""

_IN_TESTS = ("tested samples", "tested pairs", "evaluated loss")
"""Where what was learned shows to be of no use."""
_SPOILS_TESTS = ("uncleared", "lagging", "standing")
"""What more than the loss's own misfits may show there."""

_FLAT = ("vanishing-gradient", "missing-gradient", "dead-units")
"""What a loss without a slope looks like from below, and its own clamp where that was seen."""

_BRINGS = {
    "batch axis": _FADES,
    "evaluation": (*_FADES, *_GROWS),
    "mask": _FADES,
    "flat": _FLAT,
    "log-probabilities": _GROWS,
    "target": _GROWS,
    "reach": _FLAT,
}
"""What more follows: where samples mix, time is left without a path; where nothing normalizes, scales change freely."""

_NO_CAUSE = (
    "Nothing else that was measured tells why: signal, gradients and steps are of usual size. So it is with labels that"
    " do not belong to their inputs, and with a network that needs more steps than these."
)

EXPLAINS: dict[str, tuple[str, ...]] = {
    "non-finite": (*_GROWS, *_FADES, *_SLOW, "symmetric-units"),
    "missing-gradient": (*_SLOW, "vanishing-gradient"),
    "symmetric-units": (*_SLOW, *_FADES),
    "exploding-activation": (
        *_GROWS,
        *_SLOW,
        "vanishing-gradient",
        "dead-units",
        "saturated-activation",
        "collapsed-signal",
        "missing-gradient",
    ),
    "dead-units": (*_SLOW, *_FADES, "symmetric-units"),
    "saturated-activation": (*_SLOW, *_FADES, "exploding-gradient"),
    "oversized-update": (*_GROWS, *_FADES, *_SLOW, "symmetric-units"),
    "exploding-gradient": (*_GROWS, *_SLOW, "dead-units", "saturated-activation"),
    "diverging-loss": (*_GROWS, *_FADES, *_SLOW, "symmetric-units"),
    "vanishing-gradient": (*_SLOW, "collapsed-signal", "missing-gradient", "symmetric-units"),
    "collapsed-signal": (*_SLOW, *_FADES, *_GROWS, "symmetric-units"),
    "stalled-update": ("loss-not-decreasing", "unrelated-targets"),
    "unrelated-targets": ("loss-not-decreasing",),
    "loss-not-decreasing": ("stalled-update",),
}
"""What each rule's pathology brings about. The order is that of precedence among those that begin in the same step."""

_PRECEDENCE = {name: position for position, name in enumerate(EXPLAINS)}


def join(findings: Sequence[Finding], orders: Mapping[str, float] | None = None) -> list[Finding]:
    """The findings with those that follow from an earlier one listed as its consequences; the gravest first.

    A consequence never begins before its cause, and is never graver. orders: of sites in the forward pass; what stands
    below an explosion in the step in which it begins does not follow from it.
    """
    below = _Below(findings, orders or {})
    ordered = sorted(
        _lifted(findings), key=lambda one: (SEVERITIES.index(one.severity), _began(one), below.precedence(one))
    )
    roots: list[Finding] = []
    for finding in ordered:
        cause = next(
            (
                number
                for number, root in enumerate(roots)
                if _explains(root, finding) and not below.stands_below(finding, root)
            ),
            None,
        )
        if cause is None:
            roots.append(finding)
        else:
            roots[cause] = replace(roots[cause], consequences=(*roots[cause].consequences, finding))
    if sum(one.severity != "note" for one in roots) == 1:
        roots = [_unexplained(one) for one in roots]
    return roots


def _unexplained(finding: Finding) -> Finding:
    """A loss that does not fall, alone: the text says that no cause was seen; an error where tests tell as much."""
    alone = finding.rule == "loss-not-decreasing" and finding.severity == "warning" and not finding.consequences
    if not alone or "of" in finding.evidence:
        return finding
    known = finding.evidence
    if "tested" not in known:
        return replace(finding, message=f"{finding.message} {_NO_CAUSE}")
    return replace(
        finding,
        severity="error",
        message=f"{finding.message} {_tests_of(known)} {_NO_CAUSE}",
        remedy="Look at inputs beside their labels as the network gets them: has one of the two been shuffled, sorted"
        f" or shifted without the other? {finding.remedy}",
    )


def _tests_of(known: Mapping[str, Any]) -> str:
    if "z" in known:
        return (
            f"Predictions of {known['tested']} samples that are tested fit their own targets no better than those of"
            f" other samples, by {known['z']:.2f} standard errors."
        )
    return (
        f"Of {known['tested']} samples that are tested {known['right']} are told right; always the commonest label"
        f" would be right in {known['guess']:.1%}."
    )


class _Below:
    """What is shut below the place where activations explode, in the same step."""

    def __init__(self, findings: Sequence[Finding], orders: Mapping[str, float]) -> None:
        self._orders = orders
        self._shut = [one for one in findings if one.rule in _SHUT and one.severity == "error"]

    def stands_below(self, effect: Finding, cause: Finding) -> bool:
        """Whether `effect`, units that are shut, stands below `cause`, an explosion, and is as old."""
        if cause.rule != "exploding-activation" or cause.evidence.get("of") or effect.rule not in _SHUT:
            return False
        places = [self._orders.get(one.site, -1.0) for one in (effect, cause)]
        return _onset(effect) == _onset(cause) and 0 <= places[0] < places[1]

    def precedence(self, finding: Finding) -> float:
        """Before others of the same step; an explosion comes after what is shut below it."""
        if any(self.stands_below(one, finding) for one in self._shut):
            return _PRECEDENCE["saturated-activation"] + 0.25
        return _precedence(finding)


def _lifted(findings: Sequence[Finding]) -> list[Finding]:
    """A warning becomes an error where it brings about an error, weights that do not move, that no other explains.

    So does a step that remakes the weights, where units are shut after it, and a momentum that sums them up where
    anything is broken that it breaks. And one that brings about a loss that does
    not fall, where there is no error: together they are evidence. That
    targets are to blame is only a warning where anything else is.
    """
    errors = [one for one in findings if one.severity == "error"]
    stalls = [
        one
        for one in errors
        if one.rule == "stalled-update" and "of" not in one.evidence and not any(_explains(e, one) for e in errors)
    ]
    able: tuple[str, ...] = _STALLING
    if not errors:
        still = [one for one in findings if one.rule == "loss-not-decreasing" and one.severity == "warning"]
        stalls = [one for one in still if one.evidence.get("fall", 0.0) < CRAWL]
        able = (*_STALLING, "exploding-activation")
    vain = [one for one in findings if one.rule == "unrelated-targets"]
    blamed = [one for one in findings if one not in vain and one.severity != "note"]
    if any(not any(_explains(one, two) for one in vain) for two in blamed):
        findings = [replace(one, severity="warning") if one.rule == "unrelated-targets" else one for one in findings]
    shut = [one for one in errors if one.rule in (*_SHUT, "vanishing-gradient", "collapsed-signal")]
    wild = [one for one in findings if one.rule == "oversized-update" and "of" not in one.evidence]
    return [
        replace(one, severity="error")
        if one.severity == "warning"
        and (
            (one.rule in able and any(_explains(one, stall) for stall in stalls))
            or (one in wild and any(_explains(one, two) for two in shut))
            or (one.evidence.get("of") == "summed" and any(_explains(one, two) for two in errors))
        )
        else one
        for one in findings
    ]


def _explains(cause: Finding, effect: Finding) -> bool:
    if cause.evidence.get("of") == "underflow":
        wanting = effect.rule in (*_SLOW, *_FADES, *_GROWS, "symmetric-units")
        return cause.severity == "error" and wanting and _onset(cause) <= _onset(effect)
    if cause.evidence.get("of") == "zeros" and effect.rule in (*_SLOW, *_FADES):
        return cause.severity == "error" and "of" not in effect.evidence and _onset(cause) <= _onset(effect)
    if (cause.evidence.get("of"), effect.evidence.get("of")) == ("signs", "own target"):  # no pair is pushed apart
        return cause.severity == "error"
    if effect.evidence.get("of") in ("output", "guess", "sigmoid"):
        return cause.severity == "error" and _onset(cause) <= _onset(effect)
    if (
        effect.evidence.get("of") in (*_PLAIN, *_SET)
        or (effect.rule == "non-finite" and effect.severity == "note")  # as it is meant to be
        or cause.severity == "note"
        or (cause.rule == effect.rule and cause.rule != "non-finite")
    ):
        return False
    if cause.evidence.get("of") == "calls":
        return (
            cause.severity == "error"
            and effect.rule in (*_SLOW, *_FADES, "oversized-update")
            and _onset(cause) <= _onset(effect)
        )
    if effect.evidence.get("faint") and cause.rule in ("vanishing-gradient", "collapsed-signal"):
        return cause.severity == "error" and _onset(cause) <= _onset(effect)
    if "momentum" in (cause.evidence.get("of"), effect.evidence.get("of")):  # it shows in eval() alone
        return False
    if effect.evidence.get("of") == "step" and cause.rule in _STALLING:
        return False  # even what gets a whole gradient does not move
    if cause.evidence.get("of") == "range" and effect.rule in _GROWS:  # the loss has no bottom
        return cause.severity == "error" and _onset(cause) <= _onset(effect)
    if cause.evidence.get("of") in _SPOILS_TESTS and effect.evidence.get("of") in _IN_TESTS:
        return cause.severity == "error"
    if cause.rule == "loss-not-decreasing" and cause.evidence.get("of") in _PLAIN:
        vain = (*_VAIN, *_BRINGS.get(cause.evidence["of"], ()))
        follows = effect.rule in vain or effect.evidence.get("of") in _IN_TESTS
        return cause.severity == "error" and follows and _onset(cause) <= _onset(effect)
    if cause.rule == "unrelated-targets":  # it is seen late, but was so from the start
        kind = effect.evidence.get("of")
        unguided = cause.evidence.get("able") and kind in _UNGUIDED.get(effect.rule, ()) and not _is_shut(effect)
        unbroken = cause.evidence.get("intact") and kind == "first"
        decay = effect.evidence.get("weight_decay") if kind == "shrink" else None
        slow = effect.rule == "stalled-update" and kind is None and effect.severity == "warning"
        alive = slow and float(effect.evidence.get("update_ratio", 0.0)) >= _ALIVE
        shrinks = cause.evidence.get("able") and decay is not None and decay <= _USUAL_DECAY
        return bool(unguided or unbroken or shrinks or alive) or effect.rule in EXPLAINS[cause.rule]
    return effect.rule in EXPLAINS.get(cause.rule, ()) and _onset(cause) <= _onset(effect)


def _is_shut(finding: Finding) -> bool:
    """Whether a gradient fades over time, so that what came early cannot be learned, or by more than a network that
    learns copes with; or whether all units of a layer are dead."""
    known = finding.evidence
    all_dead = 0 < known.get("units", 0) <= known.get("dead_units", 0)
    return all_dead or bool(known.get("recurs")) or float(known.get("ratio_bottom_to_top", 1.0)) < _FAINT


def _onset(finding: Finding) -> int:
    step = finding.evidence.get("step", 0)
    return int(step) if isinstance(step, (int, float)) else 0


def _began(finding: Finding) -> int:
    """Its onset; that of targets which a network could have learned is the start, as late as it is seen."""
    if finding.evidence.get("of") == "never ran":
        return -2
    return -1 if finding.evidence.get("able") else _onset(finding)


def _precedence(finding: Finding) -> float:
    kind = finding.evidence.get("of")
    # A gradient that is there but zero has a cause above it.
    if finding.rule in ("missing-gradient", "symmetric-units") and kind == "zero":
        return _PRECEDENCE["vanishing-gradient"] - 0.5
    # A signal that never comes in, or whose scale fades, is the cause of what fades with it; samples that merely look
    # alike are a companion.
    # That logits are too large from the start is the last thing that happens before the loss.
    if finding.rule == "exploding-activation" and kind == "output":
        return _PRECEDENCE["diverging-loss"] + 0.5
    if kind == "own target":
        return -0.5
    if kind in ("step", "calls", "curvature", "uncleared", "scaled", *_SET, *_PLAIN) or (
        finding.rule == "exploding-activation" and kind == "input"
    ):
        return -1.0
    if kind == "sign" and "passes" in finding.evidence:  # it was read off graphs
        return -1.0
    if kind == "zeroed":  # a norm that is infinite makes a clip a product with zero
        return _PRECEDENCE["oversized-update"] + 0.5
    if finding.evidence.get("faint"):  # under a gradient that does not come through, a usual decay wins too
        return _PRECEDENCE["collapsed-signal"] + 0.5
    if kind == "sigmoid":
        return len(_PRECEDENCE)  # told where nothing more certain is
    if kind == "recurrent":
        return _PRECEDENCE["symmetric-units"] - 0.25
    if finding.rule == "collapsed-signal" and kind in ("input", "dropout", "weights", "flattened", "posterior"):
        return _PRECEDENCE["symmetric-units"] - 0.5
    if finding.rule == "collapsed-signal" and kind == "scale":
        return _PRECEDENCE["saturated-activation"] + 0.5
    return _PRECEDENCE.get(finding.rule, len(_PRECEDENCE))
