"""A loss made of derivatives with respect to the input, through activations that have no second one."""

from __future__ import annotations

import pandas as pd

from diag.rules.evidence import SIGNAL_ROLES, Evidence
from diag.rules.finding import Finding

_STRAIGHT = ("relu", "leaky_relu", "relu6", "prelu", "rrelu", "hardtanh", "threshold", "clamp")
"""Made of straight pieces: the second derivative is exactly zero."""
_FEWEST = 2


def no_curvature(evidence: Evidence) -> Finding | None:
    """In some call nothing reaches the loss but derivatives of the output, and they pass on exactly zero.

    The output itself has no gradient there, though what leads to it has one, which is zero in every step. An error
    where the loss does not fall: of first derivatives the weights, too, may be learned.
    """
    if not evidence.trains or not evidence.stuck:
        return None
    met = evidence.rows("activation", evidence.clean)
    ops = met.loc[met["role"] == "nonlinearity", "op"]
    layers = met[met["role"].isin(SIGNAL_ROLES)]
    if not len(ops) or not ops.isin(_STRAIGHT).all() or not len(layers):
        return None
    last = str(layers.sort_values("order").iloc[-1]["site"])
    gradients = evidence.rows("gradient", evidence.clean, (*SIGNAL_ROLES, "nonlinearity"))
    for call in sorted(met.loc[met["site"] == last, "call"].unique()):
        own = gradients[gradients["call"] == call]
        below = own[own["site"] != last]
        if (own["site"] == last).any() or below["site"].nunique() < _FEWEST or (below["rms"] != 0).any():
            continue
        if not _in_every_step(below, evidence):
            continue
        return _finding(evidence, str(ops.mode().iloc[0]), last, int(call))
    return None


def _in_every_step(below: pd.DataFrame, evidence: Evidence) -> bool:
    return set(below["step"]) == set(evidence.clean)


def _finding(evidence: Evidence, op: str, last: str, call: int) -> Finding:
    losses = evidence.clean_losses
    return Finding(
        "vanishing-gradient",
        "error",
        last,
        f"The loss takes derivatives of what {last} puts out with respect to the input (create_graph), and their"
        f" gradient is exactly zero in all {len(evidence.clean)} steps: {op} consists of straight pieces, whose second"
        f" derivative is zero everywhere. The loss stays at {losses.iloc[-3:].mean():.3g}.",
        {"step": evidence.clean[0], "of": "curvature", "op": op, "call": call, "last": float(losses.iloc[-1])},
        "Use an activation with smooth derivatives of the order that the equation has: tanh, SiLU, softplus or sine.",
        "Raissi et al. 2019, section 2: smooth activations; Sitzmann et al. 2020, section 3 (SIREN)",
    )
