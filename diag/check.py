"""A workload trained, watched and judged: the whole story of the first command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diag.errors import TargetError
from diag.probe.probe import Probe
from diag.report.diagnosis import Diagnosis, diagnose
from diag.trace import Trace
from diag.train.loop import Progress, train
from diag.train.snapshot import restored
from diag.train.workload import Workload, require_usable


def check(
    workload: Workload,
    steps: int = 30,
    *,
    progress: Progress | None = None,
    keep: Callable[[Trace], object] | None = None,
    title: str | None = None,
    command: str = "",
) -> Diagnosis:
    """Train a workload for a few steps, watch every layer, and say what is wrong.

    Model, optimizer and random states are afterwards what they were before. Without an optimizer no step is taken
    and the network is judged at initialization.

    Args: workload. steps: how many optimizer steps, at least 1. progress: called after each step. keep: called with
        what was measured, before it is judged. title, command: for the report.
    Raises: TargetError for a workload that cannot be trained: no parameters, no batches, a loss that is no scalar or
        has no gradient.
    """
    _validate(workload, steps, progress, keep)
    optimizers = [workload.optimizer] if workload.optimizer is not None else []
    probe = Probe([workload.model], optimizers, brief=True)
    with restored(workload):
        probe.start()
        try:
            train(workload, probe, steps, progress)
        finally:
            probe.stop()
    trace = probe.trace()
    if keep is not None:
        keep(trace)
    return diagnose(trace, title=title or type(workload.model).__name__, command=command)


def _validate(workload: Workload, steps: int, progress: Any, keep: Any) -> None:
    if not isinstance(workload, Workload):
        raise TargetError(
            f"diag.check takes a diag.Workload, got {type(workload).__name__}: "
            "diag.Workload(model, batches, loss, optimizer)"
        )
    require_usable(workload)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise TargetError(f"steps is a whole number from 1, got {steps!r}")
    for name, given in (("progress", progress), ("keep", keep)):
        if given is not None and not callable(given):
            raise TargetError(f"{name} is a function or None, got {type(given).__name__}")
    parameters = list(workload.model.parameters())
    if not parameters:
        raise TargetError(f"{type(workload.model).__name__} has no parameters: there is nothing to train")
    if not any(p.requires_grad for p in parameters):
        raise TargetError(f"no parameter of {type(workload.model).__name__} requires a gradient: everything is frozen")
