"""What mean-field theory predicts of a network's first step, beside what was measured, and where the two part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from diag.rules.chain import Chain, Link, Met, NoChainError, read_chain
from diag.rules.thresholds import resolve
from diag.settings import load_settings
from diag.theory.network import Affine, State, back_propagate, propagate
from diag.trace import Trace

COLUMNS = (
    "site",
    "call",
    "role",
    "measured",
    "predicted",
    "ratio",
    "limit",
    "gradient_measured",
    "gradient_predicted",
    "gradient_ratio",
)
_ERRORS = 3.0
"""Standard errors that chance is granted."""
_NOTICEABLE = math.log(1.1)
_OFFSET = 1.0
"""Where a mean of the weights doubles what a layer puts out, if its inputs are alike."""


def _nothing() -> pd.DataFrame:
    kinds = {"site": "string", "role": "string", "call": "int64"}
    return pd.DataFrame({name: pd.Series([], dtype=kinds.get(name, "float64")) for name in COLUMNS})


@dataclass(frozen=True)
class Prediction:
    """Theory beside measurement.

    table: per site of the chain, in forward order: measured and predicted rms of the activation, their ratio, the
    limit beyond which (or below whose inverse) it departs, and the same of the gradient, which is taken from the last
    layer's and has no limit. departs_at: the first layer or norm that departs; None for none. why_not: the reason
    where nothing is predicted, else "". step: of training.
    """

    table: pd.DataFrame = field(default_factory=_nothing)
    departs_at: str | None = None
    why_not: str = ""
    step: int = 0

    @property
    def layers(self) -> pd.DataFrame:
        """The rows of layers and norms: what activations make follows from them."""
        return self.table[self.table["role"].isin(["layer", "normalization"])]

    @property
    def ratio(self) -> float:
        """Measured over predicted where it departs, else where it is furthest from 1; NaN for no prediction."""
        rows = self.layers
        if self.departs_at is not None:
            return float(rows.loc[rows["site"] == self.departs_at, "ratio"].iloc[0])
        known = rows.loc[rows["ratio"] > 0, "ratio"]
        return float(known.loc[np.log(known).abs().idxmax()]) if len(known) else math.nan

    @property
    def says(self) -> str:
        """One line for people."""
        if self.why_not:
            return f"no prediction: {self.why_not}"
        if self.departs_at is not None:
            return f"departs at {self.departs_at} (measured {_times(self.ratio)} the prediction)"
        if math.isnan(self.ratio):
            return "no signal, as predicted"
        count = int((self.table["role"] == "layer").sum())
        return f"spread as predicted within {_times(max(self.ratio, 1 / self.ratio))} through {count} layers"

    def to_dict(self) -> dict[str, Any]:
        """For the coverage of a diagnosis; what is not known is None."""
        return {
            "says": self.says,
            "departs_at": self.departs_at,
            "ratio": None if math.isnan(self.ratio) else self.ratio,
            "why_not": self.why_not or None,
        }


def predict(trace: Trace, thresholds: Mapping[str, float] | None = None) -> Prediction:
    """What theory says of the first measured step, for a chain of layers; `why_not` says why where it is no chain.

    From the input's measured rms upwards, q' = fan_in E[w^2] E[phi^2] + E[b^2] with the network's own weights; from the
    last layer's measured gradient downwards, fan_out E[w^2] E[phi'^2]. thresholds: in place of those of
    `[tool.diag.thresholds]`.

    Raises: DiagError for an unknown threshold.
    Source: Poole et al. 2016, equation 3; Schoenholz et al. 2017, section 4.
    """
    given = load_settings()["thresholds"] if thresholds is None else thresholds
    factor = resolve(given)["prediction_factor"]
    try:
        chain = read_chain(trace)
        table = _table(chain, factor)
        _reject_unseen(chain)
    except NoChainError as error:
        return Prediction(why_not=str(error))
    kept = table[table["role"].isin(["layer", "normalization"])]
    apart = kept[(kept["ratio"] > kept["limit"]) | (kept["ratio"] * kept["limit"] < 1)]
    return Prediction(table, str(apart["site"].iloc[0]) if len(apart) else None, step=chain.step)


def _table(chain: Chain, factor: float) -> pd.DataFrame:
    steps = [step for link in chain.links for step in link.steps]
    states = propagate(chain.start, steps)
    ends = np.cumsum([len(link.steps) for link in chain.links])
    if not all(math.isfinite(state.rms) for state in states):
        raise NoChainError("a signal of this size is beyond floating point")
    top = chain.gradients.get(chain.links[-1].met.key, math.nan) ** 2
    gradients = back_propagate(top, steps, states)
    rows = []
    for link, end in zip(chain.links, ends, strict=True):
        met, state = link.met, states[end]
        measured, slope = float(met.row["rms"]), chain.gradients.get(met.key, math.nan)
        expected = gradients[end].rms
        ratios = _ratio(measured, state.rms), _ratio(slope, expected)
        limit = factor * math.exp(_ERRORS * state.sampled)
        rows.append((met.site, met.call, met.role, measured, state.rms, ratios[0], limit, slope, expected, ratios[1]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _reject_unseen(chain: Chain) -> None:
    """A trace shows no addition: it betrays itself where a layer gets more than its neighbor gives, both ways.

    Each layer is held to the measured rms of what stands before it, and the gradient there to the layer's own. One such
    place may be chance; two are the shortcuts of a residual network, or weights that are random no longer. Where the
    weights' mean alone explains it, the layer is left to depart. Two layers that get less betray a product, such as a
    gate's.
    """
    more = [link.met.site for below, link in pairwise(chain.links) if _gets_more(chain, below.met, link)]
    if len(more) > 1:
        raise NoChainError(
            f"{more[0]} gets more than what stands before it puts out, and so do {len(more) - 1} others: shortcuts, "
            "which a trace does not show, or weights that are not random"
        )
    less = [link.met.site for below, link in pairwise(chain.links) if _gets_less(below.met, link)]
    if len(less) > 1:
        raise NoChainError(
            f"{less[0]} gets less than what stands before it puts out, and so do {len(less) - 1} others: a product, "
            "which a trace does not show, or weights that are not random"
        )


def _gets_more(chain: Chain, below: Met, link: Link) -> bool:
    affine = next((step for step in link.steps if isinstance(step, Affine)), None)
    if affine is None or link.offset > _OFFSET:
        return False
    window = affine.window
    even = [np.ones(shape) for shape in ((window.inputs, window.outputs) if window else ((), ()))]
    up = affine.forward(State(even[0] * float(below.row["rms"]) ** 2)).rms
    down = affine.backward(State(even[1] * chain.gradients.get(link.met.key, math.nan) ** 2), State(even[0])).rms
    back = chain.gradients.get(below.key, math.nan)
    if not (up > 0 and down > 0 and back > 0 and link.met.row["rms"] > 0):
        return False
    excess = math.log(float(link.met.row["rms"]) / up), math.log(back / down)
    # Both err by chance, the one over the layer's units, the other over its inputs.
    chance = math.sqrt(0.5 / affine.units + 0.5 * affine.aspect / affine.units)
    return min(excess) > _NOTICEABLE and sum(excess) > _ERRORS * chance


def _gets_less(below: Met, link: Link) -> bool:
    """Of linear layers alone: the edges of an image leave a convolution less, too."""
    affine = next((step for step in link.steps if isinstance(step, Affine)), None)
    if affine is None or affine.window is not None or link.offset > _OFFSET:
        return False
    expected = affine.forward(State(np.asarray(float(below.row["rms"]) ** 2))).rms
    if not (expected > 0 and link.met.row["rms"] > 0):
        return False
    deficit = math.log(expected / float(link.met.row["rms"]))
    return deficit > 2 * _NOTICEABLE and deficit > _ERRORS * math.sqrt(0.5 / affine.units)


def _ratio(measured: float, predicted: float) -> float:
    """NaN where nothing was predicted, and nothing is there."""
    return measured / predicted if predicted > 0 else math.inf if measured > 0 else math.nan


def _times(ratio: float) -> str:
    return f"{ratio:.2g}x" if ratio < 100 else f"{ratio:.0f}x"
