"""Traces put together by hand: sites with a value per step, parameters with update ratios, a loss curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.judge import RULES
from diag.rules.thresholds import resolve
from diag.trace import Trace, schema

Value = float | Sequence[float] | Callable[[int], float]
"""The same for every step, one a step, or a function of the step."""

UNITS = 32
DEFAULTS = resolve({})


def falling(step: int) -> float:
    """A loss that falls by 5 % a step."""
    return 2.3 * 0.95**step


def flat(step: int) -> float:
    """A loss that only wobbles."""
    return 2.3 + 0.01 * math.sin(7 * step)


def slowly(step: int) -> float:
    """A loss that falls by less than a tenth, but by more than a twentieth, over 30 steps."""
    return 2.3 * 0.9965**step


class Net:
    """A network under observation. Every method adds something to it; `build` makes the trace.

    steps: how many. loss: its value per step; None where none was seen. optimizer: its number per step; None for none.
    model: the one that what is added next belongs to. coverage: what was not observed.
    """

    def __init__(self, steps: int = 30, loss: Value | None = falling, optimizer: Value | None = 0.0) -> None:
        self._steps, self._optimizer = steps, optimizer
        self.model = ""
        self.coverage: dict[str, Any] = {}
        self._frame: list[dict[str, Any]] = []
        self._sites: list[dict[str, Any]] = []
        self._units: list[dict[str, Any]] = []
        self._losses = [None if loss is None else _at(loss, step) for step in range(steps)]

    def output(
        self,
        site: str,
        role: str = "layer",
        op: str = "linear",
        rms: Value = 1.0,
        gradient: Value | None = 0.01,
        spread: Value = 0.5,
        samples: int = 64,
        units: int = UNITS,
        dead: Value | None = None,
        call: int = 0,
        bad: Mapping[tuple[str, int], int] | None = None,
        of_gradient: Mapping[str, float] | None = None,
        **columns: Value,
    ) -> Net:
        """A site's output, placed after those there are.

        gradient: its rms; None for none. spread: variance over samples over mean square. dead: units dead over the
        window. bad: (kind, step) to the number of non-finite values. columns: more of the activation's,
        of_gradient: of the gradient's.
        """
        order, bad = len([one for one in self._sites if one["kind"] == "output"]), bad or {}
        for step in range(self._steps):
            given = {"dead_units": _at(dead, step) if dead is not None else 0.0, "zero_fraction": 0.0}
            given |= {name: _at(value, step) for name, value in columns.items()}
            given |= {"units": float(units), "sample_var": _at(spread, step) * _at(rms, step) ** 2}
            base = {"step": step, "site": site, "call": call, "order": order + call, "op": op}
            base["count"] = float(samples * units)
            self._row(base, "activation", _at(rms, step), bad, **given)
            if gradient is not None:
                self._row(base, "gradient", _at(gradient, step), bad, **(of_gradient or {}))
            if dead is not None:
                counts = {"units": units, "dead": int(_at(dead, step)), "sleeping": 0, "revived": 0}
                self._units.append({"step": step, "site": site, "call": call, **counts})
        described = {
            "kind": "output",
            "model": self.model,
            "module": "",
            "op": op,
            "role": role,
            "shape": f"{samples}x{units}",
        }
        if not any(one["site"] == site for one in self._sites):
            self._sites.append({"site": site, "order": order, "trainable": role == "layer", "owner": site, **described})
        return self

    def parameter(
        self,
        site: str,
        shape: str = f"{UNITS}x{UNITS}",
        rms: Value = 0.1,
        gradient: Value | None = 0.01,
        ratio: Value | None = 1e-3,
        trainable: bool = True,
        optimized: bool | None = True,
        order: int | None = None,
        twins: tuple[float, float] | None = None,
        bad: Mapping[tuple[str, int], int] | None = None,
    ) -> Net:
        """A parameter of the site added last. ratio: of update to weight; twins: equal rows of weight and gradient."""
        bad = bad or {}
        owner = next((one["site"] for one in reversed(self._sites) if one["kind"] == "output"), "")
        order = len([one for one in self._sites if one["kind"] == "output"]) - 1 if order is None else order
        op = "weight" if "x" in shape else "bias"
        for step in range(self._steps):
            base = {"step": step, "site": site, "call": 0, "order": order, "op": op}
            base["count"] = float(math.prod(int(size) for size in shape.split("x")))
            equal = [{"twin_units": count} for count in twins] if twins else [{}, {}]
            self._row(base, "weight", _at(rms, step), bad, **equal[0])
            if gradient is not None:
                self._row(base, "weight_gradient", _at(gradient, step), bad, **equal[1])
            if ratio is not None and self._optimizer is not None:
                self._row(base, "update", _at(rms, step) * _at(ratio, step), bad)
        described = {"kind": "parameter", "module": "", "op": op, "role": "parameter", "shape": shape, "order": order}
        described["model"] = self.model
        optimized = optimized if self._optimizer is not None else None
        self._sites.append({"site": site, "trainable": trainable, "optimized": optimized, "owner": owner, **described})
        return self

    def build(self) -> Trace:
        """The trace."""
        steps = [
            {
                "step": step,
                "loss": loss,
                "loss_known": loss is not None,
                "lr": None if self._optimizer is None else 0.1,
                "optimizer": -1 if self._optimizer is None else int(_at(self._optimizer, step)),
                "backward_passes": 1,
                "batch": step,
            }
            for step, loss in enumerate(self._losses)
        ]
        return Trace(
            _typed(self._frame, schema.FRAME),
            _typed(steps, schema.STEPS),
            _typed(self._sites, schema.SITES),
            _typed(self._units, schema.UNITS),
            dict(self.coverage),
        )

    def _row(
        self, base: dict[str, Any], kind: str, rms: float, bad: Mapping[tuple[str, int], int], **more: Any
    ) -> None:
        known = {"mean": 0.0, "var": rms**2, "rms": rms, "min": -2 * rms, "max": 2 * rms, "zero_fraction": 0.0}
        self._frame.append(
            {**base, "kind": kind, **known, "nonfinite": float(bad.get((kind, base["step"]), 0)), **more}
        )


def chain(
    gradients: Sequence[float] = (0.01,) * 6,
    rms: Sequence[float] | None = None,
    op: str = "relu",
    adaptive: bool = False,
    weights: bool = True,
    net: Net | None = None,
    **net_options: Any,
) -> Net:
    """An input and layers 0, 2, 4, ... with a nonlinearity between; gradient and activation rms of each, bottom first.

    adaptive: every weight moves by 1e-3 of itself, as under Adam; else in proportion to its gradient, as under SGD.
    """
    net = net or Net(**net_options)
    net.output("Net:input", "input", "input", gradient=None)
    top = gradients[-1] or 1.0
    for number, gradient in enumerate(gradients):
        size = rms[number] if rms else 1.0
        net.output(f"{2 * number}", rms=size, gradient=gradient)
        if weights:
            ratio = 1e-3 if adaptive else 1e-3 * gradient / top
            net.parameter(f"{2 * number}.weight", gradient=gradient, ratio=ratio)
            net.parameter(f"{2 * number}.bias", f"{UNITS}", gradient=gradient, ratio=ratio)
        if op and number < len(gradients) - 1:
            net.output(f"{2 * number + 1}", "nonlinearity", op, rms=size / 2, gradient=gradient, zero_fraction=0.5)
    return net


def even(first: float, last: float, count: int = 8) -> list[float]:
    """Values from first to last by equal factors."""
    return [first * (last / first) ** (number / (count - 1)) for number in range(count)]


def found(rule: str, net: Net | Trace, **thresholds: float) -> list[Finding]:
    """What one rule says."""
    trace = net.build() if isinstance(net, Net) else net
    return list(RULES[rule](Evidence(trace, resolve(thresholds))))


def only(rule: str, net: Net | Trace, **thresholds: float) -> Finding:
    """The one thing that a rule says."""
    [finding] = found(rule, net, **thresholds)
    assert finding.rule == rule
    return finding


def evidence(net: Net) -> Evidence:
    """The trace as rules read it."""
    return Evidence(net.build(), DEFAULTS)


def _at(value: Any, step: int) -> float:
    if callable(value):
        return float(value(step))
    return float(value[step]) if isinstance(value, Sequence) else float(value)


def _typed(rows: list[dict[str, Any]], columns: tuple[schema.Column, ...]) -> pd.DataFrame:
    return pd.DataFrame({one.name: pd.array([row.get(one.name) for row in rows], one.dtype) for one in columns})
