"""A trace read as a chain of layers, norms and elementwise activations, for theory; or why it is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from diag.errors import DiagError
from diag.theory.activations import Activation, activation
from diag.theory.network import Affine, BatchNorm, Bend, Dropout, Reshape, State, Step
from diag.theory.window import window_of
from diag.trace import Trace
from diag.trace.schema import BESIDE
from diag.trace.shapes import sizes

_CLOSE = 0.02
"""Of input and output: how well an activation's extremes must follow from its input's; bfloat16 rounds to 0.4 %."""

_BEYOND = ("attention", "recurrent", "embedding")

_NAMES = {"clamp": "relu"}
"""The probe records a clamp only where it is a rectifier."""


class NoChainError(DiagError):
    """Why a trace is no chain that theory covers: the message completes `no prediction: ...`."""


Key = tuple[str, int]
"""A site and which call of it."""


@dataclass(frozen=True)
class Met:
    """A tensor that the forward pass met: its site, what was measured there, and the site's description."""

    site: str
    call: int
    op: str
    role: str
    owner: str
    shape: tuple[int, ...]
    row: pd.Series

    @property
    def key(self) -> Key:
        """Of its rows in the frame."""
        return self.site, self.call


@dataclass(frozen=True)
class Link:
    """A tensor and the steps of theory that lead to it from the one before.

    offset: of a layer, fan_in mean(w)^2 / mean(w^2): what a mean of the weights adds where all inputs are alike.
    """

    met: Met
    steps: tuple[Step, ...]
    offset: float = 0.0


@dataclass(frozen=True)
class Chain:
    """From the input to the last layer. step: of training, the first one measured. gradients: their rms."""

    step: int
    start: State
    links: list[Link]
    gradients: dict[Key, float]


def read_chain(trace: Trace) -> Chain:
    """The chain of the first forward pass of the first measured step.

    Raises: NoChainError with the reason where the network, as far as the trace shows it, is none.
    """
    if trace.frame.empty:
        raise NoChainError("nothing was observed")
    if trace.sites["model"].nunique() > 1:
        raise NoChainError("several models are watched")
    step = int(trace.frame["step"].min())
    frame = trace.frame[trace.frame["step"] == step].drop_duplicates(["kind", "site", "call"])
    met = _pass(trace.sites, frame[frame["kind"] == "activation"])
    reader = _Reader(trace.sites, frame[frame["kind"] == "weight"])
    start, shape = reader.start(met[0])
    links = []
    normed = any(one.op == "batch_norm" for one in met)
    for before, one in pairwise(met):
        steps, shape = reader.steps(one, before, shape, normed)
        links.append(Link(one, tuple(steps), reader.offset if one.role == "layer" else 0.0))
    _reject_two_bends(links)
    rows = frame[frame["kind"] == "gradient"]
    gradients = {(str(site), int(call)): float(rms) for site, call, rms in rows[["site", "call", "rms"]].to_numpy()}
    return Chain(step, start, links, gradients)


def _pass(sites: pd.DataFrame, frame: pd.DataFrame) -> list[Met]:
    """What the first forward pass met from the input to the last layer, in order."""
    described = sites[sites["kind"] == "output"].set_index("site")
    rows = frame[frame["site"].isin(described.index)].sort_values("order", kind="stable")
    met = [
        Met(
            site,
            int(row["call"]),
            str(row["op"]),
            str(known["role"]),
            str(known["owner"]),
            sizes(str(known["shape"])),
            row,
        )
        for site, row in zip(rows["site"].astype(str), (one for _, one in rows.iterrows()), strict=True)
        if (known := described.loc[site])["role"] not in ("loss", *BESIDE)
    ]
    for one in met:
        if one.role in _BEYOND:
            raise NoChainError(f"{one.site} is {_article(one.op)}, which theory does not cover")
    inputs = [one for one in met if one.role == "input"]
    first = [one for one in inputs if one.call == 0]
    if len(first) != 1:
        raise NoChainError(f"one floating-point input is needed, {len(first)} were seen")
    end = next((one.row["order"] for one in inputs if one.call > 0), math.inf)
    met = [one for one in met if one.row["order"] < end and one.role != "input"]
    layers = [i for i, one in enumerate(met) if one.role == "layer"]
    if len(layers) < 2:
        raise NoChainError("there are fewer than two layers")
    return first + met[: layers[-1] + 1]


class _Reader:
    """Turns sites into steps, with what the trace holds of their tensors and parameters."""

    def __init__(self, sites: pd.DataFrame, weights: pd.DataFrame) -> None:
        self._parameters = sites[sites["kind"] == "parameter"]
        self._rms = dict(zip(weights["site"].astype(str), weights["rms"].astype(float), strict=True))
        self._mean = dict(zip(weights["site"].astype(str), weights["mean"].astype(float), strict=True))
        self._used: set[str] = set()
        self._positions: tuple[int, ...] = ()
        self.offset = 0.0

    def start(self, met: Met) -> tuple[State, tuple[int, ...]]:
        """The measured input; nothing tells how uneven it is over positions, so it is taken as even."""
        _require_finite(met)
        row = met.row
        spread = float(row["var"]) if len(met.shape) > 2 or math.isnan(row["sample_var"]) else float(row["sample_var"])
        second, self._positions = float(row["rms"]) ** 2, met.shape[2:]
        return State(np.full(met.shape[2:], second), max(second - spread, 0.0)), met.shape

    def steps(self, met: Met, before: Met, shape: tuple[int, ...], normed: bool) -> tuple[list[Step], tuple[int, ...]]:
        """From the tensor before to this one, and this one's shape. shape: of the signal there."""
        _require_finite(met)
        if met.op == "linear":
            return self._linear(met, shape), met.shape
        if met.op in ("conv1d", "conv2d", "conv3d"):
            return [self._convolution(met, shape)], met.shape
        if met.role == "other" and _is_unchanged(met, before):
            # Flattened or folded anew; what a reshaping that is no module does, the next layer finds out.
            self._positions = met.shape[2:] if met.shape != shape else self._positions
            return [Reshape(self._positions)] if met.shape != shape else [], met.shape
        if met.op == "batch_norm" and met.row["count"] == before.row["count"]:
            return [self._batch_norm(met)], shape
        if met.role == "nonlinearity" and met.row["count"] == before.row["count"]:
            return [Bend(_activation(met, before), correlated=normed)], shape
        if met.op == "dropout" and met.row["count"] == before.row["count"]:
            return [_dropout(met, before)], shape
        if met.op == "Identity":
            raise NoChainError(f"{met.site} does not take what stands before it: a branch")
        raise NoChainError(f"{met.site} is {_article(met.op)}, which theory does not cover")

    def _linear(self, met: Met, shape: tuple[int, ...]) -> list[Step]:
        (units, fan_in), weight, bias = self._weights(met)
        affine = Affine(fan_in * weight, bias, units / fan_in, units)
        if fan_in in (shape[-1], math.prod(shape[1:])):
            # Of a sequence, it treats all positions alike.
            self._positions = ()
            return [affine] if len(shape) == 2 else [Reshape(), affine]
        raise NoChainError(f"{met.site} takes {fan_in} features, and what stands before it gives {shape[-1]}: a branch")

    def _convolution(self, met: Met, shape: tuple[int, ...]) -> Affine:
        (units, channels, *kernel), weight, bias = self._weights(met)
        alike = len(shape) == len(met.shape) == len(kernel) + 2 and self._positions == shape[2:]
        if not alike or shape[1] % channels:
            given = "x".join(map(str, shape[1:]))
            raise NoChainError(f"{met.site} takes {channels} channels, and what stands before it gives {given}")
        window = window_of(shape[2:], met.shape[2:], tuple(kernel))
        if window is None:
            raise NoChainError(f"no stride and padding explain the shape of {met.site}: dilation, or a branch")
        groups, self._positions = shape[1] // channels, window.outputs
        return Affine(channels * math.prod(kernel) * weight, bias, units / groups / channels, units, window)

    def _batch_norm(self, met: Met) -> BatchNorm:
        square = {row["op"]: self._square(row["site"]) for row in self._owned(met)}
        return BatchNorm(square.get("weight", 1.0), square.get("bias", 0.0))

    def _weights(self, met: Met) -> tuple[tuple[int, ...], float, float]:
        """Shape of the one matrix, its mean square, and that of the bias: 0 for none."""
        owned = self._owned(met)
        matrices = [row for row in owned if "x" in row["shape"]]
        biases = [row for row in owned if "x" not in row["shape"]]
        if len(matrices) != 1 or len(biases) > 1:
            raise NoChainError(f"the weight of {met.site} is not known: its module has {len(matrices)} matrices")
        bias = self._square(biases[0]["site"]) if biases else 0.0
        shape, name = sizes(matrices[0]["shape"]), matrices[0]["site"]
        square = self._square(name)
        self.offset = math.prod(shape[1:]) * self._mean[name] ** 2 / square if square > 0 else 0.0
        return shape, square, bias

    def _owned(self, met: Met) -> list[dict[str, Any]]:
        if met.owner in self._used:
            raise NoChainError(f"{met.site} is called more than once in a forward pass")
        self._used.add(met.owner)
        rows: list[Any] = self._parameters[self._parameters["owner"] == met.owner].to_dict("records")
        return rows

    def _square(self, parameter: str) -> float:
        if not math.isfinite(self._rms.get(parameter, math.nan)):
            raise NoChainError(f"{parameter} was not measured")
        return self._rms[parameter] ** 2


def _activation(met: Met, before: Met) -> Activation:
    """The function, with the parameters that its extremes betray, if they follow from those of what stands before."""
    op = _NAMES.get(met.op, met.op)
    low, high, bottom, top = (float(one.row[end]) for one in (before, met) for end in ("min", "max"))
    try:
        function = activation(op, **_parameters(op, low, high, bottom, top))
    except DiagError as error:
        raise NoChainError(f"{met.site} is {_article(op)}, which theory does not cover") from error
    ends, found = np.array([low, high]), np.array([bottom, top])
    # What rounding the input does, too: each end by its own size, since the larger would hide a wrong parameter.
    slack = _CLOSE * (np.abs(found) + np.abs(ends * function.slope(ends))) + 1e-30
    wrong = np.abs(function.phi(ends) - found) > slack
    if wrong[1] or (function.rises and wrong[0]):
        raise NoChainError(
            f"{met.site} is not {op} of what {before.site} puts out: a branch, or parameters that are not torch's"
        )
    return function


def _dropout(met: Met, before: Met) -> Dropout:
    zero, out = (float(one.row["zero_fraction"]) for one in (before, met))
    if not 0 <= zero < 1 or not out < 1:
        raise NoChainError(f"{met.site} leaves nothing")
    return Dropout(min((1 - out) / (1 - zero), 1.0))


def _is_unchanged(met: Met, before: Met) -> bool:
    """Whether a module only passes on or reshapes: every statistic is as it was."""
    one, other = met.row, before.row
    same = all(one[column] == other[column] for column in ("count", "min", "max"))
    return same and bool(abs(one["rms"] - other["rms"]) <= 1e-4 * other["rms"])


def _require_finite(met: Met) -> None:
    if met.row["nonfinite"] > 0 or not math.isfinite(met.row["rms"]):
        raise NoChainError(f"{met.site} is not finite in the first step")


def _parameters(op: str, low: float, high: float, bottom: float, top: float) -> dict[str, float]:
    """What an activation's extremes say of its parameters; empty where they say nothing."""
    if op == "hardtanh":
        return {"min_val": bottom, "max_val": top} if bottom < top else {}
    if op in ("leaky_relu", "prelu") and low < 0:
        return {"negative_slope" if op == "leaky_relu" else "init": bottom / low}
    if op == "elu" and low < 0:
        return {"alpha": bottom / math.expm1(low)}
    if op == "swish" and 0 < top < high:
        return {"beta": math.log(top / (high - top)) / high}
    if op == "softplus" and bottom > 0:
        return _solved(op, "beta", low, bottom)
    if op == "celu" and bottom < 0:
        return _solved(op, "alpha", low, bottom)
    return {}


def _solved(op: str, parameter: str, x: float, y: float) -> dict[str, float]:
    """The parameter, from 1e-3 to 1e3, with which op(x) = y; op rises or falls with it throughout."""
    from scipy.optimize import brentq

    def excess(log_value: float) -> float:
        return float(activation(op, **{parameter: math.exp(log_value)}).phi(np.array([x]))[0]) - y

    reach = math.log(1e3)
    if excess(-reach) * excess(reach) >= 0:
        return {}
    return {parameter: math.exp(float(brentq(excess, -reach, reach, xtol=1e-10)))}


def _reject_two_bends(links: list[Link]) -> None:
    """An activation's input must be normal: an affine layer's output, or that of a norm on one."""
    bent = False
    for link in links:
        for step in link.steps:
            if isinstance(step, Bend):
                if bent:
                    raise NoChainError(f"{link.met.site} follows a nonlinearity with no layer between")
                bent = True
            elif isinstance(step, Affine):
                bent = False


def _article(op: str) -> str:
    spelt = op in ("lstm", "rnn", "rms_norm", "rrelu")
    return f"{'an' if op[:1].lower() in 'aeiou' or spelt else 'a'} {op}"
