"""The published thresholds of other tools, applied to the same 30 steps; their alarms in diag's names of rules.

The trace has the root mean square of a gradient where the tools take its mean size, which is smaller by about a fifth
for a normal one. What needs accuracy (AUTOTRAINER's oscillation) or elements that were not kept is left out. Each tool
is given its mildest reading: a threshold must be crossed in the median of the steps it looks at, if it names no other.
DeepDiagnosis' alarm by the range of the input, for which diag has no rule, is called `input-range`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from diag.trace import Trace

LAYERS = ("layer", "recurrent")


def _rows(trace: Trace, kind: str) -> pd.DataFrame:
    rows = trace.frame[trace.frame["kind"] == kind].copy()
    return rows.join(trace.sites.set_index("site")[["role", "shape"]], on="site")


def _matrices(trace: Trace, kind: str) -> pd.DataFrame:
    rows = _rows(trace, kind)
    return rows[rows["shape"].astype(str).str.contains("x", regex=False)]


def _losses(trace: Trace) -> pd.Series:
    return trace.steps.loc[trace.steps["loss_known"].astype(bool), "loss"]


def _broken(trace: Trace) -> bool:
    return bool((trace.frame["nonfinite"] > 0).any() or not np.isfinite(_losses(trace)).all())


def autotrainer(trace: Trace) -> set[str]:
    """Zhang et al. 2021: vanishing, exploding, dying, a loss of a thousand; slow, with loss in place of accuracy."""
    found: set[str] = set()
    gradient = _matrices(trace, "weight_gradient")
    size = gradient.groupby("site").agg(rms=("rms", "median"), order=("order", "min"), zero=("zero_fraction", "median"),
                                        low=("min", "min"), high=("max", "max")).sort_values("order")  # fmt: skip
    if len(size) > 1:
        first, last = float(size["rms"].iloc[0]), float(size["rms"].iloc[-1])
        if first < 1e-4 and (last == 0 or first / last < 1e-3):
            found |= {"vanishing-gradient", "missing-gradient"}
        if max(size["high"].max(), -size["low"].min()) > 70:
            found.add("exploding-gradient")
        if (size["zero"] >= 0.7).any():
            found.add("dead-units")
    if _broken(trace):
        found |= {"non-finite", "exploding-gradient"}
    losses = _losses(trace)
    if len(losses) and losses.iloc[-1] >= 1e3:
        found.add("diverging-loss")
    if len(losses) > 1 and float((-losses.diff() / losses.abs().iloc[0]).max()) < 0.01:
        found |= {"loss-not-decreasing", "stalled-update"}
    return found


def sagemaker(trace: Trace) -> set[str]:
    """The built-in rules: vanishing, exploding, dead ReLU, saturation, poor weights, update ratio, loss."""
    found: set[str] = set()
    gradient = _matrices(trace, "weight_gradient").groupby("site")["rms"].median()
    if (gradient < 1e-7).any():
        found |= {"vanishing-gradient", "missing-gradient"}
    if _broken(trace):
        found |= {"non-finite", "diverging-loss"}
    out = _rows(trace, "activation").sort_values(["step", "order", "call"])
    dead = out[out["op"] == "relu"].groupby("site")["zero_fraction"].median()
    if (dead > 0.99).any():
        found.add("dead-units")
    # Its thresholds are on what goes into tanh and sigmoid: here the typical size of what stands before.
    before = out.groupby("step")["rms"].shift(1)
    for op, limit in (("tanh", 9.5), ("sigmoid", 17.0)):
        if (before[out["op"] == op].groupby(out["site"]).median() > limit).any():
            found.add("saturated-activation")
    early = out[(out["step"] < 10) & out["role"].isin(LAYERS)].groupby("site")["var"].median()
    if len(early) > 1 and early.max() > 10 * early.min():
        found |= {"collapsed-signal", "exploding-activation", "symmetric-units"}
    ratio = trace.parameters.groupby("site")["update_ratio"].median().dropna()
    if (ratio > 10).any():
        found.add("oversized-update")
    if len(ratio) and (ratio < 1e-8).any():
        found.add("stalled-update")
    losses = _losses(trace).to_numpy()
    if any(losses[i + 10] > 0.999 * losses[i] for i in range(0, len(losses) - 10, 10)):
        found.add("loss-not-decreasing")
    return found


def deepdiagnosis(trace: Trace) -> set[str]:
    """Wardat et al. 2022: step size, variance of activations, input range, dead nodes, no number."""
    found: set[str] = set()
    wide = trace.parameters
    lr = wide["step"].map(trace.steps.set_index("step")["lr"])
    ratio = (lr * wide["gradient_norm"] / wide["norm"].where(wide["norm"] > 0)).groupby(wide["site"]).median().dropna()
    if (ratio < 1e-5).any():
        found |= {"stalled-update", "vanishing-gradient"}
    if (ratio > 1e-1).any():
        found |= {"oversized-update", "exploding-gradient"}
    out = _rows(trace, "activation")
    variance = out[out["role"].isin(LAYERS)].groupby("site")["var"].median()
    if (variance < 1e-5).any():
        found |= {"collapsed-signal", "saturated-activation"}
    if (variance > 10).any():
        found.add("exploding-activation")
    inputs = out[out["role"] == "input"]
    if len(inputs) and (inputs["max"].max() > 1 or inputs["min"].min() < -1):
        found.add("input-range")
    dead = out[out["op"] == "relu"].groupby("site")["dead_units"].median()
    if (dead > 0).any():
        found.add("dead-units")
    if _broken(trace):
        found.add("non-finite")
    losses = _losses(trace)
    if len(losses) and losses.iloc[-1] > losses.iloc[0]:
        found |= {"diverging-loss", "loss-not-decreasing"}
    return found


BASELINES: dict[str, Callable[[Trace], set[str]]] = {
    "AUTOTRAINER": autotrainer,
    "SageMaker Debugger": sagemaker,
    "DeepDiagnosis": deepdiagnosis,
}
