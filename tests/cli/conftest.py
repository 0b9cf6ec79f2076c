"""The command line run in this process, and stand-ins for what it calls."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from diag.cli.app import main
from diag.report.diagnosis import Diagnosis
from diag.rules.finding import Finding, Severity
from diag.trace import Trace


@dataclass
class Result:
    """What a person, and a shell, get of one command."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("check", "model.py:build")` as on the command line."""

    def _run(*arguments: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            main([str(one) for one in arguments])
        code = exit.value.code
        assert isinstance(code, int)
        return Result(code, *capfd.readouterr())

    return _run


def finding(severity: Severity) -> Finding:
    return Finding(
        "vanishing-gradient", severity, "0", "the gradient falls by 3.2 per layer", {"step": 4}, "use ReLU", "-"
    )


def diagnosis(*severities: Severity) -> Diagnosis:
    """One finding of each severity."""
    return Diagnosis([finding(one) for one in severities], Trace(), {"steps": 3}, "a title")


@dataclass
class Script:
    """The stand-in for a script that was watched: what it gave, and how it was called."""

    trace: Trace
    exit_code: int = 0
    error: str | None = None
    interrupted: bool = False
    rank: int = 0
    silent: bool = False
    calls: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def fake_check(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`.diagnosis` is what `check` finds, `.during` is run while it trains, `.calls` says how it was called."""
    state = SimpleNamespace(diagnosis=diagnosis(), during=lambda: None, calls=[])

    def check(workload: Any, steps: int = 30, **options: Any) -> Diagnosis:
        state.calls.append({"workload": workload, "steps": steps, **options})
        state.during()
        return state.diagnosis

    monkeypatch.setitem(sys.modules, "diag.check", _module("diag.check", check=check))
    target = _module("diag.train.target", load_target=lambda spec, *, input_shape=None: (spec, input_shape))
    monkeypatch.setitem(sys.modules, "diag.train.target", target)
    return state


@pytest.fixture
def fake_watch(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`.outcome` is what the script gave, `.diagnosis` what is read from its trace, `.calls` how it was called."""
    import pandas as pd

    trace = Trace(frame=pd.DataFrame({"step": [0]}))
    state = SimpleNamespace(diagnosis=diagnosis(), outcome=Script(trace), calls=[], during=lambda: None)

    def watch_script(script: Any, argv: list[str], **options: Any) -> Script:
        state.calls.append({"script": str(script), "argv": argv, **options})
        state.during()
        return state.outcome

    def diagnose(trace: Trace, **options: Any) -> Diagnosis:
        state.calls.append(options)
        return state.diagnosis

    monkeypatch.setitem(sys.modules, "diag.train.script", _module("diag.train.script", watch_script=watch_script))
    monkeypatch.setitem(sys.modules, "diag.watch", _module("diag.watch", diagnose=diagnose))
    return state


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module
