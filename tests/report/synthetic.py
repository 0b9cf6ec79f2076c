"""Traces made up for tests: a chain of linear layers and nonlinearities whose gradient vanishes, or does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from diag.report.diagnosis import Diagnosis
from diag.rules.finding import Finding
from diag.trace import Trace, schema


def build_trace(
    sites: int = 5,
    steps: int = 30,
    op: str = "sigmoid",
    decay: float = 0.25,
    rename: dict[int, str] | None = None,
    seed: int = 0,
) -> Trace:
    """A trace of `sites` outputs: linear, op, linear, ...; the gradient shrinks by `decay` per layer going back."""
    rng = np.random.default_rng(seed)
    names = [f"layers.{i // 2}" if i % 2 == 0 else f"layers.{i // 2}:{op}" for i in range(sites)]
    for index, name in (rename or {}).items():
        names[index] = name
    rows = [
        row
        for step in range(steps)
        for i in range(sites)
        for row in _output_rows(rng, names, i, step, steps, op, decay)
    ]
    rows += [
        row
        for step in range(steps)
        for i in range(0, sites, 2)
        for row in _parameter_rows(names[i], i, step, decay, sites)
    ]
    return Trace(
        frame=_typed(rows, schema.FRAME),
        steps=_typed([_step_row(step, decay) for step in range(steps)], schema.STEPS),
        sites=_typed(_site_rows(names, op), schema.SITES),
        units=_typed(
            [_unit_row(names[i], i, step, op) for step in range(steps) for i in range(1, sites, 2)], schema.UNITS
        ),
        meta={"torch": "2.13.0", "device": "cpu"},
    )


def build_diagnosis(sites: int = 5, steps: int = 30, healthy: bool = False, **options: Any) -> Diagnosis:
    """A diagnosis with one error (and a consequence), one warning and one note; or a healthy one."""
    coverage = {
        "steps": steps,
        "sites": sites,
        "modules_seen": sites,
        "modules_total": sites + 1,
        "not_seen": ["auxiliary_head"],
        "notes": ["updates were not observed: no optimizer was given"],
    }
    options.setdefault("op", "relu" if healthy else "sigmoid")
    options.setdefault("decay", 0.98 if healthy else 0.25)
    trace = build_trace(sites, steps, **options)
    title = "ReLU, He initialization" if healthy else "sigmoid, legacy uniform"
    site = str(trace.sites["site"].iloc[0]) if len(trace.sites) else ""
    return Diagnosis([] if healthy else findings(site), trace, coverage, title, "diag check model.py:build --steps 30")


def findings(site: str) -> list[Finding]:
    """An error with a consequence, a warning, a note."""
    stalled = Finding(
        "stalled-update", "warning", f"{site}.weight", "the median update is 3.1e-09 of the weight", {"ratio": 3.1e-9}
    )
    vanishing = Finding(
        "vanishing-gradient",
        "error",
        site,
        "the gradient shrinks by 4.0 per layer on its way back; at the first layer it is 9.5e-07 of the last's",
        {"step": 0, "decay_per_layer": 0.25, "first_over_last": 9.5e-7, "sites": [site, "layers.2"]},
        "use ReLU with He initialization, or put normalization between the layers",
        "Glorot & Bengio 2010, section 4.2",
        (stalled,),
    )
    saturated = Finding(
        "saturated-activation",
        "warning",
        site,
        "31% saturated",
        {"step": 29, "share": float("nan")},
        "scale the inputs",
    )
    return [vanishing, saturated, Finding("symmetric-units", "note", site, "2 of 64 rows are equal", {"step": 0})]


def _output_rows(
    rng: np.random.Generator, names: list[str], i: int, step: int, steps: int, op: str, decay: float
) -> list[dict[str, Any]]:
    linear, depth = i % 2 == 0, (len(names) - 1 - i) / 2
    noise = float(np.exp(rng.normal(0, 0.05)))
    rms = (0.9 + 0.3 * step / steps if linear else 0.5) * noise
    base = {
        "step": step,
        "site": names[i],
        "call": 0,
        "order": i,
        "op": "linear" if linear else op,
        "count": 8192.0,
        "nonfinite": 0.0,
    }
    activation = base | {
        "kind": "activation",
        "mean": 0.1,
        "var": rms**2,
        "rms": rms,
        "min": -2 * rms,
        "max": 2 * rms,
        "units": 64.0,
    }
    activation["zero_fraction"] = 0.48 * noise if op == "relu" and not linear else 0.0
    activation["saturated_fraction"] = np.nan if linear else min(0.05 + 0.4 * step / steps * i / len(names), 1.0)
    activation["dead_units"] = float((i * step) % 5) if op == "relu" and not linear else 0.0
    gradient = 0.02 * decay**depth * (1 + step / steps) * noise
    return [
        activation,
        base
        | {"kind": "gradient", "mean": 0.0, "var": gradient**2, "rms": gradient, "min": -gradient, "max": gradient},
    ]


def _parameter_rows(name: str, i: int, step: int, decay: float, sites: int) -> list[dict[str, Any]]:
    base = {
        "step": step,
        "site": f"{name}.weight",
        "call": 0,
        "order": i,
        "op": "weight",
        "count": 4096.0,
        "nonfinite": 0.0,
    }
    gradient = 0.1 * decay ** ((sites - 1 - i) / 2)
    sizes = {"weight": 0.12, "weight_gradient": gradient, "update": 1e-2 * gradient * (1 + 0.3 * np.sin(step))}
    return [base | {"kind": kind, "mean": 0.0, "rms": rms, "var": rms**2} for kind, rms in sizes.items()]


def _step_row(step: int, decay: float) -> dict[str, Any]:
    loss = 2.303 - (0.002 if decay < 0.5 else 0.06) * step
    return {
        "step": step,
        "loss": loss,
        "loss_known": True,
        "lr": 0.1,
        "optimizer": 0,
        "backward_passes": 1,
        "batch": step,
    }


def _site_rows(names: list[str], op: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i, name in enumerate(names):
        linear = i % 2 == 0
        base = {
            "site": name,
            "kind": "output",
            "module": "Linear" if linear else "",
            "op": "linear" if linear else op,
            "order": i,
        }
        role = "layer" if linear else "nonlinearity"
        rows.append(
            base
            | {"role": role, "shape": "128x64", "trainable": linear, "optimized": None, "model": "Net", "owner": name}
        )
        if linear:
            own = {
                "site": f"{name}.weight",
                "kind": "parameter",
                "module": "",
                "op": "weight",
                "role": "parameter",
                "order": i,
            }
            rows.append(own | {"shape": "64x64", "trainable": True, "optimized": True, "model": "Net", "owner": name})
    return rows


def _unit_row(name: str, i: int, step: int, op: str) -> dict[str, Any]:
    dead = min(step // 4, i % 9) if op == "relu" else 0
    return {"step": step, "site": name, "call": 0, "units": 64, "dead": dead, "sleeping": 1, "revived": 0}


def _typed(rows: list[dict[str, Any]], columns: tuple[schema.Column, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=schema.names(columns)).astype(schema.dtypes(columns))
