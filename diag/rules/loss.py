"""What the loss itself says."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.registry import rule

_FEWEST_STEPS = 12


@rule("diverging-loss")
def diverging_loss(evidence: Evidence) -> Iterator[Finding]:
    """The loss grows far beyond where it began."""
    if not evidence.trains or evidence.diverged_at is None:
        return
    losses = evidence.losses.dropna()
    step = evidence.diverged_at
    yield Finding(
        "diverging-loss",
        "error",
        "loss",
        f"The loss goes from {losses.iloc[0]:.3g} to {losses.loc[step]:.3g} in step {step}, and to"
        f" {_farthest(losses.to_numpy()):.3g} at its worst.",
        {
            "step": step,
            "first": float(losses.iloc[0]),
            "then": float(losses.loc[step]),
            "worst": _farthest(losses.to_numpy()),
        },
        "Lower the learning rate by a factor of ten, clip the gradient's norm, standardize inputs and targets, and"
        " check the loss's sign and zero_grad().",
        "Goodfellow et al. 2016, section 8.2.4; Karpathy 2019",
    )


def _farthest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[np.argmax(np.abs(finite))])


@rule("loss-not-decreasing")
def loss_not_decreasing(evidence: Evidence) -> Iterator[Finding]:
    """The loss does not fall beyond its noise; an error where its floor explains it."""
    if not evidence.trains:
        return
    capped = _softmax_twice(evidence)
    if capped is not None:
        yield capped
        return
    losses = evidence.losses.dropna()
    losses = losses[losses.index <= evidence.clean[-1]]
    if evidence.alternates or len(losses) < _FEWEST_STEPS or evidence.loss_falls() or (losses == 0).all():
        return
    yield Finding(
        "loss-not-decreasing",
        "warning",
        "loss",
        f"The loss does not fall beyond its noise: {losses.iloc[:3].mean():.4g} in the first three steps,"
        f" {losses.iloc[-3:].mean():.4g} in the last three of {len(losses)}.",
        {
            "step": int(losses.index[0]),
            "first": float(losses.iloc[:3].mean()),
            "last": float(losses.iloc[-3:].mean()),
            "steps": len(losses),
        },
        "See whether it can fit one small batch; if it can, the learning rate or the number of steps is too small, or"
        " labels and inputs do not belong together.",
        "Karpathy 2019, 'overfit a single batch'",
    )


def _softmax_twice(evidence: Evidence) -> Finding | None:
    """Cross-entropy of probabilities instead of logits: its gradient with respect to a final softmax is dense and
    sums to zero.

    With p in [0, 1] and C classes the loss cannot fall below log(e + C - 1) - 1, nor rise above log(e + C - 1).
    """
    rows = evidence.rows("activation", evidence.clean)
    rows = rows[~rows["role"].isin(["input"])]
    if not len(rows):
        return None
    last = rows.sort_values("order").iloc[-1]
    classes = last["shape"].split("x")[-1] if isinstance(last["shape"], str) else ""
    if last["op"] != "softmax" or not classes.isdigit() or int(classes) < 3:
        return None
    gradient = evidence.rows("gradient", evidence.clean)
    gradient = gradient[gradient["site"] == last["site"]]
    ceiling = math.log(math.e + int(classes) - 1)
    losses = evidence.losses.reindex(evidence.clean).dropna()
    if not len(gradient) or not len(losses) or not losses.between(ceiling - 1 - 1e-6, ceiling + 1e-6).all():
        return None
    dense = (gradient["zero_fraction"] < 0.5) & (gradient["mean"].abs() < 1e-3 * gradient["rms"])
    # Near uniform probabilities cross-entropy's gradient is 1/C - 1 at one class against 1/C at the others.
    if not dense.all() or not (gradient["min"].abs() > 2 * gradient["max"].abs()).all():
        return None
    return Finding(
        "loss-not-decreasing",
        "error",
        str(last["site"]),
        f"The cross-entropy is taken of probabilities: {last['site']} is a softmax, and cross_entropy applies another. "
        f"The loss cannot fall below {ceiling - 1:.3f}; it goes from {losses.iloc[0]:.3f} to {losses.iloc[-1]:.3f}.",
        {
            "step": int(losses.index[0]),
            "classes": int(classes),
            "floor": ceiling - 1,
            "first": float(losses.iloc[0]),
            "last": float(losses.iloc[-1]),
        },
        "Remove the softmax and give torch.nn.functional.cross_entropy the logits.",
        "torch.nn.CrossEntropyLoss documentation: 'the input is expected to contain the unnormalized logits'",
    )
