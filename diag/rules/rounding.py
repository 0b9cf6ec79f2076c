"""Updates that are lost in the rounding of weights of half precision."""

from __future__ import annotations

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, shown

_COARSE = 1e-6
"""Updates over weights that single precision holds with room to spare."""
_LEAST = 3
"""Steps that are looked at."""


def rounded_away(evidence: Evidence) -> Finding | None:
    """Weights that a step leaves exactly as they are, though they have a gradient.

    Of bfloat16, which keeps 8 bits, an update below 1/512 of a weight is lost, of float16 one below 1/4096: told by the
    share of an update's elements that are 0, less that of the gradient's, where whole updates are such that float32
    would hold them.
    """
    steps = evidence.late
    updates, gradients = (evidence.rows(kind, steps) for kind in ("update", "weight_gradient"))
    known = updates[(updates["rms"] > 0) & updates["shape"].str.contains("x", regex=False).fillna(False)]
    if known["step"].nunique() < _LEAST or not evidence.trains:
        return None
    still = known.groupby("site")["zero_fraction"].median()
    idle = gradients.groupby("site")["zero_fraction"].median().reindex(still.index).fillna(1.0)
    ratios = evidence.parameters[evidence.parameters["step"].isin(steps)].groupby("site")["update_ratio"].median()
    lost = (still - idle)[ratios.reindex(still.index) > _COARSE]
    limit = evidence.thresholds["rounded_warning"]
    if not len(lost) or not float(lost.median()) >= limit:
        return None
    share, site = float(lost.median()), str(lost.idxmax())
    return Finding(
        "stalled-update",
        "warning" if evidence.is_half_solved else "error",
        site,
        f"In a step {shown(share)} of the elements of the median weight matrix stay exactly as they were, though they"
        f" have a gradient (most in {site}, {shown(float(lost.max()))}): the weights are of half precision, and what"
        " is added to them is lost in rounding.",
        {"step": int(known["step"].min()), "of": "rounded", "share": share},
        "Keep the weights in float32, and have torch.autocast compute in half precision; or use an optimizer that keeps"
        " a float32 copy or rounds stochastically.",
        "Micikevicius et al. 2018, 'Mixed precision training', section 3.1",
    )
