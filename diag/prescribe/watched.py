"""A short training under the probe, and what the rules say of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from diag.prescribe.arm import seed_everything
from diag.probe.probe import Probe
from diag.rules.finding import Finding
from diag.rules.judge import judge
from diag.trace import Trace
from diag.train.loop import Progress, train
from diag.train.workload import Workload

STEPS = 30
"""As `diag check` watches: the least that is judged."""


@dataclass(frozen=True)
class Watched:
    """findings: the gravest first. trace: what they were read from."""

    findings: list[Finding]
    trace: Trace

    @property
    def healthy(self) -> bool:
        """Whether there is no error-level finding."""
        return all(one.severity != "error" for one in self.findings)

    @property
    def clean(self) -> bool:
        """Whether there is not even a warning."""
        return all(one.severity == "note" for one in self.findings)

    def rules(self, *severities: str) -> list[str]:
        """The names of the rules that found something of these severities (any, if none is given), roots first."""
        found = (one for one in _all(self.findings) if not severities or one.severity in severities)
        return list(dict.fromkeys(one.rule for one in found))


def _all(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Every finding, then what follows from them."""
    yield from findings
    for one in findings:
        yield from _all(one.consequences)


def watch(workload: Workload, batches: Sequence[Any], steps: int = STEPS, progress: Progress | None = None) -> Watched:
    """Train a workload for some steps under the probe and judge it. It is changed, and so is the random state."""
    seed_everything(0)
    probe = Probe([workload.model], [workload.optimizer] if workload.optimizer is not None else [])
    probe.start()
    try:
        train(Workload(workload.model, batches, workload.loss, workload.optimizer), probe, steps, progress)
    finally:
        probe.stop()
    trace = probe.trace()
    return Watched(judge(trace), trace)
