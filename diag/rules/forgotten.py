"""Recurrent modules of torch whose state fades from step to step, which no hook sees within them."""

from __future__ import annotations

import math

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.trace.shapes import sizes

_FEWEST = 8
"""Time steps over which a state has to last."""
_OWN = r"(?:^|\.)weight_hh(?:_l\d+(?:_reverse)?)?$"


def forgotten(evidence: Evidence) -> Finding | None:
    """The loss stands still, and a state is a small part of itself one step later, by its weights or its gate."""
    if not evidence.stuck:
        return None
    return _by_gate(evidence) or _by_weight(evidence)


def _by_gate(evidence: Evidence) -> Finding | None:
    """Of an LSTM: sigmoid(b) of the state is kept, with b the bias of the forget gate."""
    known, limit = evidence.trace.coverage.get("forget_bias") or {}, evidence.thresholds["forget_bias_error"]
    low = {one: known[one] for one in evidence.named("forget_bias") if known[one] <= limit and _length(evidence, one)}
    if not low:
        return None
    site = min(low, key=lambda one: low[one])
    kept = 1 / (1 + math.exp(-low[site]))
    return _finding(evidence, site, f"The forget gate of {site} has a bias of {low[site]:.2g} on average", kept)


def _by_weight(evidence: Evidence) -> Finding | None:
    """Of a recurrence without gates: the state is multiplied by a matrix of this size."""
    plain = set(evidence.sites.index[evidence.sites["op"] == "rnn"])
    rows = evidence.rows("weight", evidence.clean[:1])
    rows = rows[rows["site"].str.contains(_OWN, regex=True) & rows["owner"].isin(plain)]
    units = rows["shape"].map(lambda shape: sizes(str(shape))[-1]).astype(float)
    scale = (rows["rms"] * units**0.5).set_axis(rows["owner"])
    scale = scale[[bool(_length(evidence, str(owner))) for owner in scale.index]]
    if not len(scale) or scale.min() > evidence.thresholds["forgets_error"]:
        return None
    site, kept = str(scale.idxmin()), float(scale.min())
    return _finding(evidence, site, f"The recurrent weight of {site} is {kept:.2g} times an orthogonal matrix", kept)


def _length(evidence: Evidence, site: str) -> int:
    """How many time steps a module is given, where they are enough to be forgotten; of a cell, its calls in a pass."""
    shape = sizes(str(evidence.sites.loc[site, "shape"]))
    first = site in (evidence.trace.coverage.get("time_first") or ())
    length = shape[0 if first else 1] if len(shape) == 3 else 0
    if f"{site}.weight_hh" in evidence.sites.index:  # a cell: of the modules, each layer has a number
        rows = evidence.rows("activation", evidence.clean)
        calls = rows.loc[rows["site"] == site, "call"]
        length = int(calls.max()) + 1 if len(calls) else 0
    return length if length >= _FEWEST else 0


def _finding(evidence: Evidence, site: str, said: str, kept: float) -> Finding:
    length = _length(evidence, site)
    return Finding(
        "vanishing-gradient",
        "error",
        site,
        f"{said}: of a state about {kept:.2g} is left after each step, {kept**length:.0e} after the {length} of a"
        " sequence, and of its gradient no more on the way back. The loss stands still.",
        {"step": evidence.clean[0], "of": "recurrence", "kept": kept, "length": length},
        "Initialize the forget gate's bias to 1 or more, and recurrent weights orthogonally.",
        "Jozefowicz et al. 2015, section 2.2; Pascanu, Mikolov & Bengio 2013, section 2",
    )
