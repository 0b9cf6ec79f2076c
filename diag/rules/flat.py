"""A loss that has no slope where the network stands: every term of it lies in the flat part."""

from __future__ import annotations

import numpy as np

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.trace.operations import OF_LOSS

_FEWEST = 12
_FEW, _MOSTLY = 3, 0.9
"""Backward passes, and the share of those that were looked at, that begin at 0."""
_SAME = 1e-6
"""Of a loss: what a sum of the same terms differs by in single precision."""


def flat(evidence: Evidence) -> Finding | None:
    """From the first step to the last the loss is one number, and its gradient is exactly zero at the network's end.

    Units that are dead have a gradient above them; here there is none at the last layer's own output either.
    """
    losses = evidence.clean_losses
    gradients = evidence.rows("gradient", evidence.clean)
    gradients = gradients[~gradients["site"].str.contains(OF_LOSS, regex=True)]
    weights = evidence.rows("weight_gradient", evidence.clean)
    if len(losses) < _FEWEST or evidence.alternates or not len(gradients) or not len(weights):
        return None
    matrices = evidence.rows("weight", evidence.clean[:1])
    if (matrices.loc[matrices["shape"].str.contains("x", regex=False), "rms"] == 0).any():
        return None  # factors that are zero let nothing through, whatever the loss is
    if (gradients["rms"] != 0).any() or (weights["rms"] != 0).any() or evidence.first_bad_step is not None:
        return None
    value = float(losses.median())
    if float(np.abs(losses - value).max()) > _SAME * abs(value):
        return None
    site = str(gradients.sort_values("order")["site"].iloc[-1])
    if value == 0:
        small = _underflown(evidence, site)
        if small is not None:
            return small
    what = (
        "0: a margin that counts as kept by every sample" if value == 0 else f"{value:.4g}: a bound that it is cut at"
    )
    return Finding(
        "loss-not-decreasing",
        "error",
        "loss",
        f"The loss is flat: in all {len(losses)} steps it is {what}, and its gradient is exactly zero at {site}"
        " already, the last place of the network. Nothing in the network is dead; no step can move it.",
        {"step": evidence.clean[0], "of": "flat", "value": value, "steps": len(losses), "top": site},
        "Look at what stands in relu() or clamp() in the loss: the sign of the margin, which of two scores or distances"
        " is subtracted, and a bound that is below what the loss begins with.",
        "Goodfellow et al. 2016, section 8.2.2: flat regions; Schroff et al. 2015, equation 2",
    )


def _underflown(evidence: Evidence, site: str) -> Finding | None:
    """The loss is 0 as half a precision holds nothing as small as what a factor has made of it."""
    known = evidence.trace.coverage.get("terms") or {}
    if not known or known["underflown"] < max(_FEW, _MOSTLY * known["looked"]):
        return None
    return Finding(
        "loss-not-decreasing",
        "error",
        "loss",
        f"The loss underflows: it was multiplied by {known['scale']:.2g} in half precision, which leaves exactly 0 in"
        f" {known['underflown']} of {known['looked']} backward passes that were looked at, and no gradient anywhere.",
        {"step": evidence.clean[0], "of": "flat", "value": 0.0, "scale": known["scale"], "top": site},
        "Multiply the loss by a factor above 1, as torch.amp.GradScaler does, or compute it in float32: loss.float().",
        "Micikevicius et al. 2018, 'Mixed precision training', section 3.2: loss scaling",
    )
