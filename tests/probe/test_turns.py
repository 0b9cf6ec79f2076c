"""However seldom one looks, every optimizer of several that take turns is seen; and what an idle closure is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import diag
from diag.probe.turns import Turns
from tests.probe.by_hand import rows_of

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


def looks(every: int, order: Sequence[int], announced: bool, steps: int = 400) -> list[tuple[int, int]]:
    """The measured steps of optimizers that step in this order over and over: step and optimizer."""
    turns = Turns(every)
    turns.announced = set(order) if announced else set()
    found = []
    for step in range(steps):
        who = order[step % len(order)]
        measured = turns.measures(step)
        assert turns.measures(step) == measured
        turns.see(step, [who], measured)
        found += [(step, who)] if measured else []
    return found


@pytest.mark.parametrize("every", [1, 3, 10])
@pytest.mark.parametrize("announced", [True, False])
def test_one_optimizer_is_measured_on_the_grid(every: int, announced: bool) -> None:
    assert [step for step, _ in looks(every, [0], announced)] == list(range(0, 400, every))


@pytest.mark.parametrize("order", [(0, 1), (0, 1, 2), (0, 0, 0, 0, 0, 1), (0, 1, 1, 2)], ids=str)
@pytest.mark.parametrize("every", [2, 3, 6, 10])
@pytest.mark.parametrize("announced", [True, False])
def test_no_optimizer_is_left_out(order: tuple[int, ...], every: int, announced: bool) -> None:
    found = looks(every, order, announced)
    assert len(found) <= 400 / every + 16
    for one in set(order):
        mine = [step for step, who in found if who == one]
        gaps = [after - before for before, after in zip([0, *mine], [*mine, 400], strict=True)]
        assert max(gaps) <= 4 * max(every, len(order)) + 2 * len(order), (one, mine)
    if announced and len(order) < 8:
        assert {who for step, who in found if step < 8} == set(order)


@pytest.mark.parametrize("every", [1, 3, 10])
def test_an_optimizer_that_has_ended_is_waited_for_once(every: int) -> None:
    measured = [step for step, _ in looks(every, [0] * 200 + [1] * 1000, False, 1200)]
    late = [step for step in measured if step >= 500]
    assert late == list(range(late[0], 1200, every)) and late[0] < 500 + every


def test_optimizers_without_a_rhythm_are_all_seen() -> None:
    order = torch.randint(0, 3, (400,), generator=torch.Generator().manual_seed(0)).tolist()
    found = looks(10, order, announced=False)
    assert {who for _, who in found} == {0, 1, 2}
    assert 30 <= len(found) <= 41


@pytest.mark.parametrize("every", [2, 10])
@pytest.mark.parametrize("announced", [True, False])
def test_alternating_optimizers_give_no_false_missing_gradient(every: int, announced: bool) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizers = [torch.optim.SGD(model[i].parameters(), 0.1) for i in (2, 0)]
    with diag.watch(model, optimizers if announced else None, every=every) as watch:
        for _ in range(15):
            for optimizer in optimizers:
                model.zero_grad()
                F.mse_loss(model(X), X[:, :3]).backward()
                optimizer.step()
    assert set(rows_of(watch.trace, "update")["site"]) == {f"{i}.{p}" for i in (0, 2) for p in ("weight", "bias")}
    assert "missing-gradient" not in {one.rule for one in watch.diagnose().findings}
    assert len(watch.trace.steps) == 30


@pytest.mark.parametrize("idle", [True, False])
def test_a_closure_that_does_nothing_is_none(idle: bool) -> None:
    """Lightning hands one to every step of manual optimization."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizers = [torch.optim.SGD(model[i].parameters(), 0.1) for i in (0, 2)]
    losses = []
    with diag.watch(model, optimizers) as watch:
        for _ in range(2):
            model.zero_grad()
            for part in (X[:4], X[4:]):
                loss = model(part).square().mean()
                loss.backward()
                losses.append(loss.item())
            for optimizer in optimizers:
                optimizer.step(*[lambda: None] * idle)
    trace = watch.trace
    assert trace.steps["loss"].tolist() == pytest.approx([sum(losses[:2]), sum(losses[2:])])
    assert trace.steps["backward_passes"].tolist() == [2, 2]
    for kind in ("weight", "weight_gradient", "update"):
        assert len(rows_of(trace, kind, step=1)) == 4
