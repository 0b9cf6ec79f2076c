"""Are the labels right? Train every case plainly, without diag: `python -m tests.corpus.verify_labels [name ...]`.

`--write` stores what was measured, and the state that follows, in `labels.json`; `--draw=ROUND` draws the faults of a
round of `split.py` anew before; `--missing` leaves out what has a label. Losses are averaged over ten
batches, dropout off, and read by the twin's loss where there is a twin: the loss of a faulty case may itself be the
fault. share = (twin's start - own end) / (twin's start - twin's end).

A healthy case must lower its loss by a tenth. A faulty one must have a twin that does, and either raise, end in what is
not finite, or reach less than half of its twin's progress: share < 0.5. One made by hand may also end at twice its
twin's loss. A fault that does less is kept as "no effect".
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from tests.corpus import HEALTHY, drawn, everything
from tests.corpus.case import Build, Case
from tests.corpus.labels import FILE, labels
from tests.corpus.split import ROUNDS

STEPS = 80
FALL = 0.1
"""The least relative fall of the loss that counts as learning."""
HALF = 0.5
"""The share of the twin's progress below which a fault has changed the outcome."""
SIGNIFICANT = 4


def train(build: Build, measure: Build | None = None, steps: int = STEPS) -> tuple[float, float, str]:
    """The loss before and after, over ten batches, and how training ended: "" or what was raised.

    measure: whose loss is read; the loss of a faulty case may itself be the fault.
    """
    read = measure().loss if measure else None
    workload = build()
    read = read or workload.loss
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
    except (RuntimeError, ValueError, IndexError) as error:
        return start, math.nan, type(error).__name__
    return start, _mean([_value(read, model, batch) for batch in batches[-10:]]), ""


def _value(loss: Callable[[nn.Module, Any], Tensor], model: nn.Module, batch: Any) -> float:
    with mock.patch("torch.nn.functional.dropout", lambda x, *_, **__: x):
        try:
            return float(loss(model, batch).detach())
        except (ValueError, IndexError, RuntimeError):  # distributions, tables and bce refuse what is not finite
            return math.nan


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def progress(start: float, end: float) -> float:
    """1 - end / start; negative without bound where the loss is not finite."""
    if not (math.isfinite(start) and math.isfinite(end)):
        return -math.inf
    return (start - end) / max(abs(start), 1e-12)


_TWINS: dict[str, tuple[float, float, str]] = {}


def _twin(case: Case) -> tuple[float, float, str]:
    """What the twin does, trained once for all faults of a family."""
    assert case.twin is not None
    if "+" not in case.name:
        return train(case.twin)
    if case.family not in _TWINS:
        _TWINS[case.family] = train(case.twin)
    return _TWINS[case.family]


def proof(case: Case) -> dict[str, Any]:
    """The state of a case and the numbers it follows from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a library's remark on a case is no matter here
        start, end, raised = train(case.build, case.twin)
        twin_start, twin_end, _ = _twin(case) if case.twin is not None else (math.nan, math.nan, "")
    if not case.causes:
        state = "healthy" if progress(start, end) > FALL or (not case.learns and math.isfinite(end)) else "doubtful"
        return {"state": state, "start": _short(start), "end": _short(end)}
    share = (twin_start - end) / (twin_start - twin_end) if twin_start != twin_end else math.nan
    changed = bool(raised) or not math.isfinite(end) or share < HALF
    if "+" not in case.name:  # by hand: some change what the loss is measured in, or are read off its last value
        changed |= progress(start, end) < progress(twin_start, twin_end) / 2 or end > 2 * twin_end > 0
    # A number that is no index tells nothing of training: the model refuses its input.
    sound = progress(twin_start, twin_end) > FALL and raised != "IndexError"
    state = "faulty" if sound and changed else "no effect" if sound and "+" in case.name else "doubtful"
    numbers = {"start": start, "end": end, "twin_start": twin_start, "twin_end": twin_end, "share": share}
    return {
        "state": state,
        **{key: _short(value) for key, value in numbers.items()},
        **({"raised": raised} if raised else {}),
    }


def _short(value: float) -> float | str:
    """Rounded, and as JSON can hold it."""
    return float(f"{value:.{SIGNIFICANT}g}") if math.isfinite(value) else str(value)


def main(arguments: list[str]) -> int:
    """Print every case and return the number of doubtful labels."""
    torch.set_num_threads(1)
    parts = [one for one in arguments if not one.startswith("--")]
    doubtful, known = 0, dict(labels())
    cases = everything()
    for part in [one.removeprefix("--draw=") for one in arguments if one.startswith("--draw=")]:
        stale = [name for name in known if "+" in name and name.partition("+")[0] in ROUNDS[part]]
        if "--missing" not in arguments:
            known = {name: one for name, one in known.items() if name not in stale}
        cases = [*(one for one in cases if one.name not in stale), *drawn.draw(HEALTHY, part)]
    for case in cases:
        if "--missing" in arguments and case.name in known:
            continue
        if parts and not any(part in case.name for part in parts):
            continue
        begun = time.perf_counter()
        known[case.name] = measured = proof(case)
        doubtful += measured["state"] == "doubtful"
        numbers = " ".join(f"{key} {value}" for key, value in measured.items() if key != "state")
        print(f"{measured['state']:10}{case.name:48}{numbers} ({time.perf_counter() - begun:.1f} s)", flush=True)
        if "--write" in arguments:
            _write(known)
    print(f"{doubtful} doubtful")
    return doubtful


def _write(known: dict[str, dict[str, Any]]) -> None:
    lines = [f"{json.dumps(name)}: {json.dumps(one)}" for name, one in known.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
