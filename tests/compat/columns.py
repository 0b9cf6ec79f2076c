"""The columns of the table: each a check of one set-up that raises AssertionError where it does not hold."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import diag
from diag.report.diagnosis import diagnose
from diag.trace import Trace
from diag.trace.schema import BESIDE
from tests.compat.oracle import Oracle, joined, plain, state_of
from tests.compat.registry import Job, Setup
from tests.probe.conftest import assert_nothing_left

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Snaps:
    """What the oracle needs of every pass: the state of the model and the batch, by step."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.steps: list[list[tuple[dict[str, torch.Tensor], Any]]] = []

    def __call__(self, batch: Any = None, *, more: bool = False) -> None:
        if not more:
            self.steps.append([])
        self.steps[-1].append((state_of(self._model), batch))


def ignore(batch: Any = None, *, more: bool = False) -> None:
    """The `snap` of a training that nobody checks."""


@contextlib.contextmanager
def watching(job: Job) -> Iterator[Callable[[], Trace]]:
    """The job's own way to be watched, or `diag.watch`."""
    if job.watch is not None:
        with job.watch() as trace:
            yield trace
        return
    with diag.watch(job.model, job.optimizers or None) as watch:
        yield lambda: watch.trace


def watched(job: Job) -> tuple[Trace, Snaps]:
    """Train under the watch."""
    snaps = Snaps(job.model)
    with watching(job) as trace:
        job.train(snaps)
    return trace(), snaps


def noted(job: Job, snaps: Snaps) -> list[Oracle]:
    """What each step should have shown."""
    notes = []
    for passes in snaps.steps:
        note = Oracle(job.precision, job.cleared)
        for state, batch in passes:
            note.begin(state)
            job.oracle(note, batch)
        notes.append(note)
    return notes


def check_works(setup: Setup) -> None:
    """As many steps as there were, each with its loss; all modules seen; no finding of something missing."""
    job = setup.fresh()
    trace, snaps = watched(job)
    if not job.reports:
        return
    losses = [note.losses[0] if job.cleared else sum(note.losses) for note in noted(job, snaps)]
    assert len(losses) >= 3
    losses = losses if job.loss_known else [np.nan] * len(losses)
    assert trace.steps["loss"].tolist() == pytest.approx(losses, rel=job.tolerance, nan_ok=True)
    assert tuple(trace.coverage["not_seen"]) == job.not_seen
    assert trace.coverage["gradients"]
    steps = sorted(set(trace.frame["step"]))
    assert steps == [step for step in range(len(losses)) if job.measured(step)], steps
    findings = diagnose(trace).findings
    assert "missing-gradient" not in {finding.rule for finding in findings if finding.severity != "note"}


def check_values(setup: Setup) -> None:
    """Every row that there should be and no other, each with the oracle's numbers."""
    job = setup.fresh()
    trace, snaps = watched(job)
    if not job.reports:
        return
    for step, note in enumerate(noted(job, snaps)):
        if not job.measured(step):
            continue
        frame = trace.frame[(trace.frame["step"] == step) & (trace.frame["op"] != "input")]
        for kind, expected in (("activation", note.activations), ("gradient", note.gradients)):
            known = {key: joined(one) for key, one in expected.items() if (kind, key[0]) not in setup.absent}
            assert known, f"the oracle noted no {kind}"
            _compare(frame, kind, known, job.tolerance)
        mine = job.stepping(step)
        for kind, by_name in (("weight", note.weights), ("weight_gradient", note.weight_gradients)):
            known = {(name, 0): joined([one]) for name, one in by_name.items() if name.startswith(mine)}
            _compare(frame, kind, known, job.tolerance)


def _compare(frame: pd.DataFrame, kind: str, expected: dict[tuple[str, int], np.ndarray], tolerance: float) -> None:
    # Of a loss that is a function, and of targets beside a loss, the numbers have tests of their own.
    frame = frame[(frame["kind"] == kind) & ~frame["op"].isin(BESIDE) & ~frame["site"].str.startswith("loss:")]
    rows = {(row.site, row.call): row for row in frame.itertuples()}
    assert set(rows) == set(expected), f"{kind}: {set(rows) ^ set(expected)}"
    for key, values in expected.items():
        row, rms = rows[key], float(np.sqrt((values**2).mean()))
        where = f"{kind} of {key}"
        assert row.count == values.size, where
        assert row.rms == pytest.approx(rms, rel=tolerance, abs=1e-12), where
        assert row.mean == pytest.approx(values.mean(), abs=tolerance * rms + 1e-12), where
        assert row.var == pytest.approx(values.var(), rel=tolerance, abs=tolerance * rms**2 + 1e-12), where


def check_identical(setup: Setup) -> None:
    """Two trainings of the same seed, one of them watched."""
    ends = []
    for watches in (False, True):
        job = setup.fresh()
        with watching(job) if watches else contextlib.nullcontext():
            before = [one.clone() for one in state_of(job.model).values()]
            job.train(ignore)
        after = state_of(job.model)
        assert any(not torch.equal(old, new) for old, new in zip(before, after.values(), strict=False)), "it trained"
        ends.append((after, [one.state_dict() for one in job.optimizers], torch.get_rng_state()))
    (alone, states, random), (seen, seen_states, seen_random) = ends
    assert alone.keys() == seen.keys()
    for name, one in alone.items():
        assert torch.equal(one, seen[name]), f"{name}: by {(one - seen[name]).abs().max().item():g}"
    assert torch.equal(random, seen_random)
    for one, other in zip(states, seen_states, strict=True):
        _same(one, other)


def _same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(plain(one), plain(other))
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            _same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        for left, right in zip(one, other, strict=True):
            _same(left, right)
    else:
        assert one == other


def hooks_of(model: nn.Module) -> list[tuple[str, str, int]]:
    """How many hooks hang on each module and tensor: some set-ups have their own."""
    found = [(path, kind, len(getattr(one, kind))) for path, one in model.named_modules() for kind in _HOOKS]
    for name, one in [*model.named_parameters(), *model.named_buffers()]:
        found.append((name, "tensor", len(one._backward_hooks or ())))
    return found


def check_hooks_gone(setup: Setup) -> None:
    """After a training that ends well, and after one whose second step raises in a forward pass."""
    for fails in (False, True):
        alone = setup.fresh()
        alone.train(ignore)
        job = setup.fresh()
        with contextlib.suppress(_Broken):
            with watching(job):
                job.train(_breaking(job) if fails else ignore)
            assert not fails, "the training should have been stopped"
        assert_nothing_left()
        if not fails:
            assert hooks_of(job.model) == hooks_of(alone.model)
        assert torch._dynamo.eval_frame._stance.stance == "default"


class _Broken(Exception):
    """What stops the training."""


def _raise(*args: Any, **kwargs: Any) -> Any:
    raise _Broken


def _breaking(job: Job) -> Callable[..., None]:
    """A `snap` that has the last leaf raise in the second step."""
    leaves = [one for one in job.model.modules() if not list(one.children())]
    count = iter(range(1000))

    def snap(batch: Any = None, *, more: bool = False) -> None:
        if more or next(count) != 1:
            return
        if job.fails_in_loop:
            raise _Broken
        (job.fails_in or leaves[-1]).forward = _raise  # type: ignore[method-assign]

    return snap


COPIERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


class _Refused(Exception):
    """A model that cannot be copied."""


def check_copies(setup: Setup) -> None:
    """Copies made at the start of every pass, before every backward pass, and afterwards; what torch refuses, it does
    unwatched too.
    """
    for name, copier in COPIERS.items():
        for watches in (False, True):
            job = setup.fresh()
            with pytest.raises(_Refused) if name in setup.refused else contextlib.nullcontext():
                _train_copying(job, copier, watches)


def _train_copying(job: Job, copier: Callable[[nn.Module], nn.Module], watches: bool) -> None:
    backward = torch.Tensor.backward

    def snap(batch: Any = None, *, more: bool = False) -> None:
        try:
            twin = copier(job.model)
        except Exception as error:
            raise _Refused from error
        _same(state_of(twin), state_of(job.model))
        assert [one for one in hooks_of(twin) if one[2]] == [one for one in hooks_of(job.model) if one[2]]

    def copying(loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        snap()
        backward(loss, *args, **kwargs)

    with watching(job) if watches else contextlib.nullcontext(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", copying)
        job.train(snap)
    snap()


CHECKS: dict[str, Callable[[Setup], None]] = {
    "works": check_works,
    "values": check_values,
    "identical": check_identical,
    "hooks gone": check_hooks_gone,
    "copies": check_copies,
}
