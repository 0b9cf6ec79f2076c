"""What a gate looks at in a trial, which way is worse, and how much of it matters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from diag.errors import DiagError, nearest
from diag.suite.record import Record
from diag.trace.operations import LAYERS, NONLINEARITIES, OF_LOSS, RELU_LIKE

if TYPE_CHECKING:
    import pandas as pd


class GateError(DiagError):
    """A run and a baseline that cannot be held together, or a setting of the gate that does not exist."""


@dataclass(frozen=True)
class Metric:
    """One number per trial. better: more of it, less of it, a mean nearer to zero, or the same as it was. margin: a
    change below it does not matter; relative: nor one below this share of the baseline's mean, whichever is more.
    what: its definition."""

    name: str
    better: Literal["high", "low", "zero", "same"]
    margin: float
    relative: float
    unit: str
    what: str

    def margin_at(self, baseline: float) -> float:
        """The margin for a baseline of this mean."""
        return max(self.margin, self.relative * abs(baseline)) if math.isfinite(baseline) else self.margin


METRICS = {
    one.name: one
    for one in (
        Metric("test_accuracy", "high", 0.02, 0.0, "share", "accuracy on the test part"),
        Metric("test_loss", "low", 0.02, 0.10, "loss", "loss on the test part"),
        Metric("train_loss", "low", 0.02, 0.10, "loss", "loss on the training part"),
        Metric("steps_to_target", "low", 1.0, 0.10, "steps", "steps to the suite's target accuracy"),
        Metric("diverged", "low", 0.25, 0.0, "share of the trials", "trainings that diverged"),
        Metric(
            "gradient_decay", "zero", 0.02, 0.0, "decades per layer",
            "log10 of the gradient's rms, first over last layer, per layer between, at the first step; infinite where "
            "one is silent",
        ),
        Metric(
            "activation_decay", "zero", 0.02, 0.0, "decades per layer",
            "log10 of the activations' rms, last over first layer, per layer between, at the first step; infinite "
            "where one is silent",
        ),
        Metric(
            "update_ratio", "same", 0.2, 0.0, "decades",
            "log10 of the update's norm over the parameters' norm, at the first watched step that changed them",
        ),
        Metric("saturated", "low", 0.05, 0.0, "share", "saturated elements of the worst layer, at the last look"),
        Metric("dead", "low", 0.05, 0.0, "share", "units of the worst layer, zero on the whole batch of the last look"),
        Metric("findings_error", "low", 0.5, 0.0, "findings", "error-level findings of the rules"),
        Metric("unmoved", "low", 0.5, 0.0, "parameters", "parameter tensors that training left as they were"),
    )
}  # fmt: skip
"""Everything that a gate compares, in the order in which it is shown."""


def chosen_margins(changes: dict[str, float]) -> dict[str, Metric]:
    """The metrics with other margins.

    Raises: GateError for an unknown metric or a margin that is not positive.
    """
    from dataclasses import replace

    found = dict(METRICS)
    for name, margin in changes.items():
        if name not in METRICS:
            raise GateError(f"no metric '{name}' in a gate{nearest(name, METRICS)}; there are {', '.join(METRICS)}")
        if not (math.isfinite(margin) and margin > 0):
            raise GateError(f"the margin of {name} is a positive number, got {margin}")
        found[name] = replace(METRICS[name], margin=margin, relative=0.0)
    return found


def gated(record: Record) -> dict[str, float]:
    """The gate's metrics of one trial, without those that it did not measure; of an experiment what has these names."""
    found = {name: record.metrics[name] for name in METRICS if name in record.metrics}
    layers = record.table("layers") if "recipe" in record.content else None
    if layers is not None and len(layers):
        found |= of_layers(layers)
    return {name: found[name] for name in METRICS if name in found}


def of_layers(frame: pd.DataFrame) -> dict[str, float]:
    """Decay over depth at the first watched step, saturation and death at the last, over sites of nonlinearities; and
    the size of the first update."""
    sites = _nonlinearities(frame)
    found = {}
    for name, kind in (("activation_decay", "activation"), ("gradient_decay", "gradient")):
        rows = sites[(sites["kind"] == kind) & (sites["step"] == sites["step"].min())].sort_values("order")
        # Where no element is finite the trace has no rms: that layer was measured, and nothing came through it.
        rms = rows["rms"].astype(float).mask(rows["rms"].isna() & (rows["nonfinite"] > 0), math.inf)
        layers = rms.groupby(rows["site"], sort=False).first().to_numpy(float)
        decay = _decay(layers[::-1] if kind == "activation" else layers)
        if decay is not None:
            found[name] = decay
    last = sites[(sites["kind"] == "activation") & (sites["step"] == sites["step"].max())]
    saturated = last[~last["op"].isin(RELU_LIKE)]["saturated_fraction"].astype(float).max()
    share = (last["dead_units"].astype(float) / last["units"].astype(float)).max()
    size = _update_ratio(frame[frame["kind"].isin(["update", "weight"])])
    measured = (("update_ratio", size), ("saturated", saturated), ("dead", share))
    return found | {name: float(one) for name, one in measured if one == one}


def _nonlinearities(frame: pd.DataFrame) -> pd.DataFrame:
    """What recipes call activations; of a network of one's own its nonlinearities, or its layers too where it has fewer
    than two. What it is given, and what a loss is given, is none of its depth."""
    named = frame[frame["site"].astype(str).str.contains(r"activation$|:relu|recurrence")]
    if len(named):
        return named
    outputs = frame[frame["kind"].isin(["activation", "gradient"]) & ~frame["site"].astype(str).str.contains(OF_LOSS)]
    bent = outputs[outputs["op"].isin(NONLINEARITIES)]
    return bent if bent["site"].nunique() > 1 else outputs[outputs["op"].isin(LAYERS | NONLINEARITIES)]


def _decay(rms: np.ndarray) -> float | None:
    """log10(first / last) per layer, infinite where one is silent or not finite; None for fewer than two layers."""
    if len(rms) < 2 or np.isnan(rms).any():
        return None
    if not (np.isfinite(rms).all() and (rms > 0).all()):
        return math.inf
    return float(np.log10(rms[0] / rms[-1]) / (len(rms) - 1))


def _update_ratio(rows: pd.DataFrame) -> float:
    """log10(|update| / |parameters|) at the first step with an update; infinite where it is not finite or none came;
    nan where no update was measured."""
    if not (rows["kind"] == "update").any():
        return math.nan
    squares = rows["count"].astype(float) * rows["rms"].astype(float) ** 2
    norms = squares.groupby([rows["kind"], rows["step"]]).sum(min_count=1).pow(0.5).unstack("kind")
    if rows["nonfinite"].gt(0).any() or "weight" not in norms:
        return math.inf
    ratios = (norms["update"] / norms["weight"]).to_numpy(float)
    moved = ratios[np.isfinite(ratios) & (ratios > 0)]
    return float(np.log10(moved[0])) if len(moved) else math.inf
