"""A momentum so near 1 that steps are the sum of hundreds of gradients, or too long for what Adam divides by."""

from __future__ import annotations

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.scales import does_well

LONGEST = 0.995
"""1 / (1 - momentum) is 200 gradients; 0.9 is usual, 0.99 the most that is."""
_MARGIN = 0.95
"""By which the square of Adam's first beta may be above the second: schedules of one cycle raise it for a while."""
_RISEN = 1.3
"""Times the lowest loss: one that has risen again."""


def summed(momentum: float) -> float:
    """How many gradients a step adds up: 1 / (1 - momentum)."""
    return 1 / max(1 - momentum, 1e-9)


def remembers(evidence: Evidence) -> Finding | None:
    """Steps of lr * sum momentum^i gradient_(t-i): an error where the loss rises again, breaks down or never falls."""
    momentum = float(evidence.trace.coverage.get("momentum") or 0.0)
    if momentum < LONGEST or not evidence.trains:
        return None
    gradients = summed(momentum)
    harmed = evidence.stuck or evidence.diverged_at is not None or evidence.first_bad_step is not None
    return Finding(
        "oversized-update",
        "error" if harmed or _has_risen(evidence) else "warning",
        "optimizer",
        f"A momentum of {momentum:.6g} adds up the last {gradients:.0f} gradients: steps grow to {gradients:.0f} times"
        " the learning rate, and go on where the loss rises.",
        {"step": evidence.clean[0] if evidence.clean else 0, "of": "summed", "momentum": momentum},
        "Use a momentum of 0.9 (0.99 at most), at the same learning rate.",
        "Sutskever et al. 2013, 'On the importance of initialization and momentum in deep learning', section 3",
    )


def unbalanced(evidence: Evidence) -> Finding | None:
    """Adam's gradient is averaged over longer than its square, by which it is divided: beta_1^2 > beta_2.

    An error until next to nothing is left to learn.
    """
    betas = evidence.trace.coverage.get("betas") or []
    if len(betas) != 2 or not _MARGIN * betas[0] ** 2 > betas[1] or not evidence.trains:
        return None
    return Finding(
        "oversized-update",
        "warning" if does_well(evidence) else "error",
        "optimizer",
        f"The optimizer's betas are {betas[0]:g} and {betas[1]:g}: gradients are averaged over {summed(betas[0]):.3g}"
        f" steps and divided by the root of squares that are averaged over {summed(betas[1]):.3g}, so that a single"
        " small gradient makes a large step.",
        {"step": evidence.clean[0] if evidence.clean else 0, "of": "betas", "betas": betas},
        "Use betas of 0.9 and 0.999 (0.95 and 0.99 for the second are usual too); the first's square must stay below"
        " the second.",
        "Reddi et al. 2018, 'On the convergence of Adam and beyond', theorem 4: beta_1 < sqrt(beta_2)",
    )


def _has_risen(evidence: Evidence) -> bool:
    """Whether the last losses lie far above the lowest ones, each a median of a few."""
    losses = evidence.clean_losses.rolling(5, min_periods=3).median().dropna()
    return len(losses) >= 3 and bool((losses >= 0).all()) and float(losses.iloc[-1]) > _RISEN * float(losses.min())
