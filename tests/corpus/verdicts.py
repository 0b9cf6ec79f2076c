"""What diag and the baselines say of every case, kept in `build/accuracy` as long as the sources stand.

A trace is kept by the sources of the probe and of the corpus, a verdict by those of the rules as well.
"""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

from diag.trace import Trace
from diag.train.workload import Workload
from tests.corpus.baselines import BASELINES
from tests.corpus.case import Case
from tests.corpus.keys import ROOT, hashed, published_key, rules_key, trace_key

STEPS = 30
FOLDER = ROOT / "build" / "accuracy"


@dataclass(frozen=True)
class Verdict:
    """errors, warnings: rules of the findings, the gravest first. consequences: rules at error level that follow from
    one of these. baselines: by tool, the rules that it alarms by. crash: what was raised instead."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    consequences: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    baselines: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    crash: str = ""


def verdict(case: Case) -> Verdict:
    """From the cache, or anew."""
    file = FOLDER / "verdicts" / f"{case.name}.{hashed(rules_key(), trace_key(case))}.json"
    if file.is_file():
        return Verdict(**json.loads(file.read_text()))
    file.parent.mkdir(parents=True, exist_ok=True)
    _drop_stale(file, case)
    found = _judged(case)
    file.write_text(json.dumps(asdict(found)))
    return found


def _judged(case: Case) -> Verdict:
    from diag.rules.judge import judge

    try:
        trace, seconds = traced(case)
    except Exception as error:  # whatever it raises is a wrong answer, and is shown as one
        return Verdict(crash=f"{type(error).__name__}: {error}"[:500])
    findings = judge(trace, {})
    errors = [one for one in findings if one.severity == "error"]
    return Verdict(
        [one.rule for one in errors],
        [one.rule for one in findings if one.severity == "warning"],
        [two.rule for one in errors for two in one.consequences if two.severity == "error"],
        [f"{one.severity} {one.rule} at {one.site}: {one.message}" for one in findings if one.severity != "note"],
        _baselines(case, trace),
        seconds,
    )


def _baselines(case: Case, trace: Trace) -> dict[str, list[str]]:
    """By the published thresholds, which do not change when our rules do."""
    file = FOLDER / "baselines" / f"{case.name}.{hashed(published_key(), trace_key(case))}.json"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        _drop_stale(file, case)
        file.write_text(json.dumps({name: sorted(tool(trace)) for name, tool in BASELINES.items()}))
    known: dict[str, list[str]] = json.loads(file.read_text())
    return known


def traced(case: Case) -> tuple[Trace, float]:
    """The trace of the first 30 steps, from the cache or anew, and the seconds that took."""
    from diag.trace import load, save

    file = FOLDER / "traces" / f"{case.name}.{trace_key(case)}.parquet"
    if file.is_file():
        found = load(file)
        return found, float(found.meta.get("corpus_seconds", 0.0))
    file.parent.mkdir(parents=True, exist_ok=True)
    _drop_stale(file, case)
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a library's remark on a case is no matter here
        found = _watched(case.build())
    seconds = time.perf_counter() - begun
    found.meta["corpus_seconds"] = seconds
    save(found, file)
    return load(file), seconds


def _watched(workload: Workload) -> Trace:
    """What `diag.check` measures, without its verdict, which is asked for when the rules stand."""
    from diag.probe.probe import Probe
    from diag.train.loop import train
    from diag.train.snapshot import restored

    assert workload.optimizer is not None
    probe = Probe([workload.model], [workload.optimizer])
    with restored(workload):
        probe.start()
        try:
            train(workload, probe, STEPS)
        finally:
            probe.stop()
    return probe.trace()


def _drop_stale(file: Path, case: Case) -> None:
    """What older sources left for this case."""
    for stale in file.parent.glob(f"{case.name}.????????????{file.suffix}"):
        stale.unlink()
