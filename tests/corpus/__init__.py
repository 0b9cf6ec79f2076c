"""Training set-ups of known state: on HEALTHY ones any error is a false alarm, FAULTY ones have a known cause."""

from __future__ import annotations

import importlib

from tests.corpus.case import Case

_HEALTHY = ("mlp", "conv", "recurrent", "attention", "training", "generative", "transformers")
_FAULTY = ("init", "activation", "optimizer", "graph", "nonfinite", "recurrent", "data")


def _collect(state: str, families: tuple[str, ...]) -> list[Case]:
    return [case for family in families for case in importlib.import_module(f"{__name__}.{state}_{family}").CASES]


HEALTHY: list[Case] = _collect("healthy", _HEALTHY)
FAULTY: list[Case] = _collect("faulty", _FAULTY)
