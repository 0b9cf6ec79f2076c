"""Watches a network learn, says what is wrong with its training and why.

`check` trains a `Workload` for some steps and judges it; `watch` does the same inside a training loop of yours.
A `Suite` of `Recipe`s compares techniques and judges `Claim`s; `run_suite` runs it.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diag.check import check as check
    from diag.gate.gate import gate as gate
    from diag.prescribe.prescribe import prescribe as prescribe
    from diag.recipes.recipe import Recipe as Recipe
    from diag.report.diagnosis import Diagnosis as Diagnosis
    from diag.rules.finding import Finding as Finding
    from diag.rules.registry import rule as rule
    from diag.suite.claim import Claim as Claim
    from diag.suite.load import load_suite as load_suite
    from diag.suite.run import run_suite as run_suite
    from diag.suite.suite import Experiment as Experiment
    from diag.suite.suite import Suite as Suite
    from diag.suite.suite import axes as axes
    from diag.trace import Trace as Trace
    from diag.train.workload import Workload as Workload
    from diag.watch import Watch as Watch
    from diag.watch import watch as watch

__version__ = "0.1.0"

__all__ = [
    "Claim",
    "Diagnosis",
    "Experiment",
    "Finding",
    "Recipe",
    "Suite",
    "Trace",
    "Watch",
    "Workload",
    "__version__",
    "axes",
    "check",
    "gate",
    "load_suite",
    "prescribe",
    "rule",
    "run_suite",
    "watch",
]

# Loaded on first use: torch, pandas and seaborn take seconds, and `diag --help` needs none of them.
_HOMES = {
    "Claim": "diag.suite.claim",
    "Experiment": "diag.suite.suite",
    "Recipe": "diag.recipes.recipe",
    "Suite": "diag.suite.suite",
    "axes": "diag.suite.suite",
    "load_suite": "diag.suite.load",
    "run_suite": "diag.suite.run",
    "gate": "diag.gate.gate",
    "Diagnosis": "diag.report.diagnosis",
    "Finding": "diag.rules.finding",
    "Trace": "diag.trace",
    "Watch": "diag.watch",
    "Workload": "diag.train.workload",
    "check": "diag.check",
    "prescribe": "diag.prescribe.prescribe",
    "rule": "diag.rules.registry",
    "watch": "diag.watch",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diag' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(types.ModuleType):
    """The package itself, in which a function keeps its name against the submodule that holds it.

    Python binds a submodule to its parent on import: without this, `import diag.check` would replace the function
    `diag.check` by the module of that name.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, types.ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
