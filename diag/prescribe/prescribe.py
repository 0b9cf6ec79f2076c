"""From a training that does not go well to remedies that were shown to help."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from diag.errors import DiagError
from diag.prescribe.arm import LAST, Arm
from diag.prescribe.copies import Source, require_own_loss
from diag.prescribe.effect import LEARNED, MARGIN
from diag.prescribe.losses import measure_of
from diag.prescribe.mistakes import DOUBTFUL, is_mistaken
from diag.prescribe.patient import Patient
from diag.prescribe.remedy import Advice
from diag.prescribe.search import Search
from diag.prescribe.trial import Bench, Trial
from diag.prescribe.watched import STEPS, Watched, watch
from diag.rules.finding import json_safe
from diag.train.loop import Progress
from diag.train.snapshot import restored
from diag.train.user_code import user_code
from diag.train.workload import Workload


@dataclass(frozen=True)
class Prescription:
    """What is wrong, and what was tried against it.

    watched: findings and trace of the user's training. controls: how it ends, per seed. trials: what helped first, the
    largest effect on top. advice: what was not tried, and why. untried: names of what time or number left out.
    """

    watched: Watched
    controls: list[Arm] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    steps: int = 0
    seeds: int = 0

    @property
    def best(self) -> Trial | None:
        """The remedy that helped most; None if none did."""
        return self.trials[0] if self.trials and self.trials[0].helped else None

    @property
    def simpler(self) -> Trial | None:
        """The best single change that helped and mends what was itself seen to be wrong, where the best is not one."""
        best = self.best
        if best is None or best.effect is None or (best.remedy.parts == 1 and best.remedy.direct):
            return None
        return next((one for one in self.trials if one.helped and one.remedy.parts == 1 and one.remedy.direct), None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe values: `remedies`, each with `change`, `helped`, `effect` and `code`, the best first."""
        content = {
            "schema": 1,
            "healthy": self.watched.healthy,
            "findings": [one.to_dict() for one in self.watched.findings],
            "remedies": [one.to_dict() for one in self.trials],
            "advice": [vars(one) for one in self.advice],
            "untried": self.untried,
            "notes": self.notes,
            "control": [
                {"seed": a.seed, "start": a.start, "final": a.final, "diverged": a.diverged} for a in self.controls
            ],
            "how": {
                "steps": self.steps,
                "seeds": self.seeds,
                "final_over_last": LAST,
                "margin": MARGIN,
                "learned": LEARNED,
            },
            "coverage": self.watched.trace.coverage,
        }
        safe: dict[str, Any] = json_safe(content)
        return safe


def prescribe(
    workload: Workload,
    steps: int = 60,
    seeds: int = 3,
    most: int = 8,
    *,
    everything: bool = False,
    budget: float | None = None,
    progress: Progress | None = None,
) -> Prescription:
    """Judge a training, and try what may help it, each remedy on a copy and beside an untouched one.

    steps, seeds: of each training; as many steps, 30 at the least, are judged, and a seed decides the order of the
    batches and what a remedy draws. most: remedies that are tried. everything: try remedies on a healthy training too.
    budget: seconds, after which no other is begun. progress: called with trainings done and to do. The user's model,
    optimizer and random state are left as they were.

    Raises: DiagError for a workload that cannot be trained, or whose loss trains a model of its own, and for arguments
    of another kind.
    """
    if not isinstance(workload, Workload):
        raise DiagError(f"prescribe takes a diag.Workload, got {type(workload).__name__}: diag.Workload(model, ...)")
    whole = all(isinstance(one, int) and not isinstance(one, bool) for one in (steps, seeds, most))
    if not whole or steps < 5 or seeds < 1 or most < 1:
        raise DiagError(f"prescribe takes steps from 5, seeds and most from 1; got {steps!r}, {seeds!r} and {most!r}")
    number = budget is None or (isinstance(budget, (int, float)) and not isinstance(budget, bool))
    if not number or (budget is not None and not budget >= 0):
        raise DiagError(f"the budget is a number of seconds from 0, or None; got {budget!r}")
    if progress is not None and not callable(progress):
        raise DiagError(f"progress is a function of trainings done and to do, or None; got {type(progress).__name__}")
    ends = math.inf if budget is None else time.monotonic() + budget
    with restored(workload):
        bench = _bench(workload, steps, seeds, lambda: time.monotonic() > ends)
        if bench.watched.clean and not everything and not _is_doubtful(bench):
            return Prescription(bench.watched, steps=steps, seeds=seeds)
        search = Search(bench, most, progress, everything)
        search.run()
        return _told(search, steps)


def _bench(workload: Workload, steps: int, seeds: int, is_late: Callable[[], bool] = lambda: False) -> Bench:
    """The workload's batches read once, its copies, and what the rules say of as many steps as are trained, and of
    `STEPS` at the least."""
    judged = _materialized(workload, max(steps, STEPS))
    batches = judged[:steps]
    source = Source(Workload(workload.model, batches, workload.loss, workload.optimizer), batches[0])
    require_own_loss(source, batches[0])
    with source.fresh() as lent:
        watched = watch(lent, judged, len(judged))
    measure, what = measure_of(workload, watched, batches)
    return Bench(source, batches, judged, watched, seeds, measure, what, is_late)


def _is_doubtful(bench: Bench) -> bool:
    """Whether what can be seen without a finding is worth a trial: a mistaken option, hidden sigmoids."""
    source = bench.source
    patient = Patient(source.template, source.fresh, bench.batches, bench.watched)
    return is_mistaken(source.optimizer) or patient.usual_activation in DOUBTFUL


def _materialized(workload: Workload, steps: int) -> list[Any]:
    """The first batches, as many as there are steps; again from the start where there are fewer."""
    with user_code("reading the batches"):
        found = list(itertools.islice(workload.batches, steps))
    if not found:
        raise DiagError("the workload's batches are empty: give at least one batch, or an iterator that is not spent")
    return list(itertools.islice(itertools.cycle(found), steps))


def _told(search: Search, steps: int) -> Prescription:
    bench = search.bench
    notes = [f"all trainings are compared by {bench.measured_by}"] if bench.measured_by else []
    notes += ["the time was up before everything was tried"] if bench.is_late() else []
    if bench.source.why_not:
        notes.append(f"{bench.source.why_not}: changes of its structure were not tried")
    return Prescription(
        bench.watched,
        [bench.controls[seed] for seed in sorted(bench.controls)],
        search.trials,
        search.advice,
        search.untried,
        notes,
        steps,
        bench.seeds,
    )
