"""Are the labels right? Train every case plainly, without diag: `python -m tests.corpus.verify_labels [name ...]`.

Progress is 1 - end / start, both averaged over ten batches, by the twin's loss where there is a twin. A healthy case
must make some. A faulty one must make less than half of its twin's, or end at twice its twin's loss, or above the
middle of its twin's.
"""

from __future__ import annotations

import copy
import itertools
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.corpus import FAULTY, HEALTHY
from tests.corpus.case import Build, Case

STEPS = 80


def train(build: Build, measure: Build | None = None, steps: int = STEPS) -> tuple[float, float, str]:
    """The loss before and after, over ten batches, and how training ended: "" or what was raised.

    measure: whose loss is read; the loss of a faulty case may itself be the fault.
    """
    workload = build()
    read = measure().loss if measure else workload.loss
    model, optimizer = workload.model, workload.optimizer
    assert optimizer is not None
    model.train()
    batches = list(itertools.islice(itertools.cycle(workload.batches), steps))
    start = _mean([_value(read, copy.deepcopy(model), batch) for batch in batches[:10]])
    try:
        for batch in batches:

            def closure(batch: Any = batch) -> Tensor:
                optimizer.zero_grad()
                loss = workload.loss(model, batch)
                loss.backward()
                return loss

            optimizer.step(closure)  # type: ignore[arg-type]
    except RuntimeError as error:
        return start, math.nan, type(error).__name__
    return start, _mean([_value(read, model, batch) for batch in batches[-10:]]), ""


def _value(loss: Callable[[nn.Module, Any], Tensor], model: nn.Module, batch: Any) -> float:
    return float(loss(model, batch).detach())


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def progress(start: float, end: float) -> float:
    """1 - end / start; negative without bound where the loss is not finite."""
    if not (math.isfinite(start) and math.isfinite(end)):
        return -math.inf
    return (start - end) / max(abs(start), 1e-12)


def judge(case: Case) -> tuple[bool, str]:
    """Whether plain training agrees with the label, and the numbers."""
    begun = time.perf_counter()
    start, end, raised = train(case.build, case.twin)
    seconds = time.perf_counter() - begun
    made = progress(start, end)
    line = f"{start:10.4g} -> {end:10.4g} {raised}"
    if not case.causes:
        return made > 0.1 or not case.learns, f"{line} ({seconds:.1f} s)"
    if case.twin is None:
        return made < 0.1, f"{line} ({seconds:.1f} s)"
    twin_start, twin_end, _ = train(case.twin)
    twin_made = progress(twin_start, twin_end)
    worse = made < twin_made / 2 or end > 2 * twin_end > 0 or end > (twin_start + twin_end) / 2
    return twin_made > 0.1 and worse, f"{line}   twin {twin_start:.4g} -> {twin_end:.4g} ({seconds:.1f} s)"


def main(parts: list[str]) -> int:
    """Print every case and return the number of doubtful labels."""
    torch.set_num_threads(1)
    doubtful = 0
    for state, cases in (("healthy", HEALTHY), ("faulty", FAULTY)):
        for case in cases:
            if parts and not any(part in f"{state}:{case.name}" for part in parts):
                continue
            agrees, line = judge(case)
            doubtful += not agrees
            print(f"{'ok   ' if agrees else 'DOUBT'} {state:8}{case.name:32}{line}", flush=True)
    print(f"{doubtful} doubtful")
    return doubtful


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
