"""Recurrences of which one time step alone counts: what their hidden weights carry on is a state of zeros."""

from __future__ import annotations

import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding, listed
from diag.rules.scales import is_open
from diag.trace.shapes import sizes

_LOOPED = 3
"""Calls in a pass, of a single time step each, that are a loop over time."""


def of_first_step(evidence: Evidence, table: pd.DataFrame, zero: pd.DataFrame) -> Finding | None:
    """What carries a recurrent state on gets a gradient of exactly zero, while what reads the input gets one: the state
    is that of the start, which is zero."""
    names = [name for name in zero.index if "weight_hh" in str(name)]
    reads = [str(name).replace("weight_hh", "weight_ih") for name in names]
    told = [name for name, read in zip(names, reads, strict=True) if read in table.index and table.loc[read, "reached"]]
    carried = [name for name in table.index if "weight_hh" in str(name)]
    if not told or not evidence.trains:
        return None
    owners = [str(table.loc[name, "owner"]) for name in told]
    single = all(_has_single_step(evidence, owner) for owner in owners)
    if single and len(told) == len(carried) and (calls := min(_calls(evidence, owner) for owner in owners)) >= _LOOPED:
        return _started_anew(evidence, told, calls)
    backward = all(str(name).endswith("_reverse") for name in told)
    return Finding(
        "missing-gradient",
        "warning" if single or backward or len(told) < len(carried) or not is_open(evidence) else "error",
        told[0],
        f"The gradient of {listed(told)} is exactly zero in every step: of the recurrence only the output of its first"
        f" step{', at the end of the sequence,' if backward else ''} is used, or the sequence has a single step. What"
        " comes after it has no part in the output.",
        {"step": evidence.clean[0], "of": "first step", "parameters": told[:20], "count": len(told)},
        "Take both ends, output[:, -1] of the forward half and output[:, 0] of the backward half, or h_n."
        if backward
        else "Take the last step's output, output[:, -1], or h_n; look at batch_first and at which dimension is time.",
        "torch.nn.LSTM documentation, 'Outputs: output, (h_n, c_n)'",
    )


def _started_anew(evidence: Evidence, told: list[str], calls: int) -> Finding:
    """A loop over time calls a recurrence step by step, and each call begins with a state of zeros."""
    return Finding(
        "missing-gradient",
        "error" if is_open(evidence) else "warning",
        told[0],
        f"The gradient of {listed(told)} is exactly zero in every step: a pass calls it {calls} times, with a single"
        " time step each, and every call begins with a state of zeros. What one call has seen is not handed on to the"
        " next.",
        {"step": evidence.clean[0], "of": "first step", "parameters": told[:20], "count": len(told), "calls": calls},
        "Keep the state that it returns, and give it to the next call: out, state = rnn(x, state).",
        "torch.nn.GRU documentation, 'h_0: defaults to zeros if not provided'",
    )


def _calls(evidence: Evidence, owner: str) -> int:
    """How often a module is called in a pass of training, as the first steps show."""
    rows = evidence.rows("activation", evidence.early)
    calls = rows.loc[rows["site"].eq(owner) | rows["site"].str.startswith(f"{owner}["), "call"]
    return int(calls.max()) + 1 if len(calls) else 0


def _has_single_step(evidence: Evidence, owner: str) -> bool:
    """Whether what a recurrence puts out has a single step for each of several samples."""
    named = (site for site in evidence.sites.index if site == owner or str(site).startswith(f"{owner}["))
    first = next(named, None)
    shape = () if first is None else sizes(str(evidence.sites.loc[first, "shape"]))
    return len(shape) == 3 and 1 in shape[:2]
