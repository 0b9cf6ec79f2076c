"""Training set-ups of known state: on healthy ones any error is a false alarm, faulty ones have a known cause.

HEALTHY and FAULTY are made by hand; `everything()` adds variations of further families, and faults injected into
them at graded strengths.
"""

from __future__ import annotations

import importlib
from dataclasses import replace

from tests.corpus.case import Case

_HEALTHY = ("mlp", "conv", "recurrent", "attention", "training", "generative", "transformers")
_FAULTY = ("init", "activation", "optimizer", "graph", "nonfinite", "recurrent", "data")


def _collect(state: str, families: tuple[str, ...]) -> list[Case]:
    found = []
    for name in families:
        cases: list[Case] = importlib.import_module(f"{__name__}.{state}_{name}").CASES
        for case in cases:
            family = f"by hand: {name}" if state == "healthy" else "by hand: faulty"
            found.append(replace(case, family=family, fault="" if state == "healthy" else f"by hand: {name}"))
    return found


HEALTHY: list[Case] = _collect("healthy", _HEALTHY)
FAULTY: list[Case] = _collect("faulty", _FAULTY)


def everything() -> list[Case]:
    """All cases; those that are drawn are made when they are asked for, since that needs transformers."""
    from tests.corpus import drawn

    return [*HEALTHY, *FAULTY, *drawn.varied(), *drawn.drawn(HEALTHY)]
