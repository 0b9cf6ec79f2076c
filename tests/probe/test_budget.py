"""A watch that keeps its own cost below a share of the training's time."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import diag
from diag.errors import TargetError
from diag.probe.budget import Budget
from diag.watch import Watch


def simulated(share: float, plain: float, watched: float, steps: int) -> tuple[Budget, list[int]]:
    """A training whose steps take `plain` seconds, and `watched` where they are measured."""
    budget, measured = Budget(share), []
    for step in range(steps):
        looked = budget.measures(step)
        measured += [step] if looked else []
        budget.see(step, watched if looked else plain, looked)
    return budget, measured


@settings(deadline=None)
@given(st.floats(0.005, 0.5), st.floats(1.0, 20.0))
def test_the_cost_stays_below_the_share(share: float, dearer: float) -> None:
    budget, measured = simulated(share, 1.0, dearer, 5000)
    # The measurements by which the costs are learned come at once; then they are paid back.
    spent = (dearer - 1.0) * len(measured)
    assert spent <= share * 5000 + dearer or len(measured) <= 4
    assert budget.cost <= share + 4 * dearer / 5000


def test_what_is_left_of_the_budget_is_used() -> None:
    budget, measured = simulated(0.02, 1.0, 2.0, 5000)
    # Each look costs one step's time: 2 % of 5000 steps are about 100 looks.
    assert 80 <= len(measured) <= 101
    assert budget.cost == pytest.approx(0.02, abs=0.004)
    gaps = [b - a for a, b in itertools.pairwise(measured[10:])]
    assert max(gaps) <= 60, "it looks again and again, not once at the end"


def test_free_measurements_are_made_at_every_step() -> None:
    _, measured = simulated(0.01, 1.0, 1.0, 200)
    assert len(measured) > 180


def test_it_adapts_when_steps_become_dearer() -> None:
    budget = Budget(0.1)
    counts = []
    for phase, watched in enumerate((1.2, 3.0)):
        looks = 0
        for step in range(1000 * phase, 1000 * phase + 1000):
            looked = budget.measures(step)
            looks += looked
            budget.see(step, watched if looked else 1.0, looked)
        counts.append(looks)
    assert counts[0] > 5 * counts[1] > 0


def test_nothing_is_known_before_a_plain_step() -> None:
    budget = Budget(0.1)
    budget.see(0, 1.0, True)
    assert math.isnan(budget.cost)
    assert not budget.measures(1)


def lived(share: float, plain: float, followed: float, watched: float, steps: int) -> tuple[Budget, list[str], float]:
    """The same with steps that are followed or slept through: what was done in each, and the true cost."""
    budget, kinds, took = Budget(share), [], 0.0
    for step in range(steps):
        kind = "measured" if budget.measures(step) else "asleep" if budget.sleeps(step) else "followed"
        seconds = {"measured": watched, "asleep": plain, "followed": followed}[kind]
        budget.see(step, seconds, kind == "measured", asleep=kind == "asleep")
        kinds.append(kind)
        took += seconds
    return budget, kinds, took / (plain * steps) - 1


@settings(deadline=None)
@given(st.floats(0.01, 0.3), st.floats(1.0, 2.0), st.floats(2.0, 20.0))
def test_what_following_costs_is_counted_and_kept_below_the_share(share: float, follow: float, dearer: float) -> None:
    budget, kinds, cost = lived(share, 1.0, follow, dearer, 6000)
    learning = (3 * (dearer - 1) + 5 * (follow - 1)) / 6000
    assert cost <= share + learning + 2 * dearer / 6000
    assert budget.cost == pytest.approx(cost, abs=0.002)
    late = set(kinds[100:]) - {"measured"}
    assert late <= (
        {"asleep"} if follow - 1 > 0.5 * share * 1.001 else {"followed"} if follow - 1 < 0.499 * share else late
    )
    assert budget.to_dict()["unfollowed"] == kinds.count("asleep")


def test_steps_that_are_slept_through_are_counted() -> None:
    model = nn.Sequential(*[part for _ in range(4) for part in (nn.Linear(8, 8), nn.Tanh())])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def train(steps: int, watch: Watch | None = None) -> list[float]:
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(torch.randn(8, 8)).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if watch is not None:
                watch.step(loss)
        return losses

    with diag.watch(model, optimizer, budget=0.001) as watch:
        train(300)
        budget = watch._probe.budget
        assert budget is not None
        budget._sleeping, budget._next = True, budget._next + 40  # whatever this machine's clock says
        train(100)
    coverage, steps = watch.trace.coverage, watch.trace.steps
    assert coverage["steps"] == len(steps) == 400
    assert list(steps["step"]) == list(range(400))
    assert coverage["budget"]["unfollowed"] == int((~steps["loss_known"]).sum()) > 0
    assert "not even the loss" in " ".join(coverage["notes"])
    assert coverage["uncleared_steps"] == 0
    assert not watch.trace.frame.duplicated(["step", "site", "call", "kind"]).any()

    with diag.watch(model, optimizer, budget=0.001) as watch:
        losses = train(200, watch)
    assert watch.trace.steps["loss"].tolist() == pytest.approx(losses)  # given by hand they are all there


def test_a_watch_reports_what_it_took_and_what_it_did_not_see() -> None:
    model = nn.Sequential(*[part for _ in range(10) for part in (nn.Linear(32, 32), nn.Tanh())])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with diag.watch(model, optimizer, budget=0.05) as watch:
        for _ in range(150):
            optimizer.zero_grad()
            model(torch.randn(8, 32)).square().mean().backward()
            optimizer.step()
    coverage = watch.trace.coverage
    assert coverage["steps"] == 150
    assert 4 <= coverage["measured_steps"] < 75
    assert coverage["budget"]["asked"] == 0.05
    assert coverage["budget"]["measured"] == coverage["measured_steps"]
    assert any("was not seen" in note for note in coverage["notes"])
    assert len(watch.trace.steps) == 150


@pytest.mark.parametrize("budget", [0, -0.1, 1.5, True])
def test_a_budget_is_a_share(budget: float) -> None:
    with pytest.raises(TargetError, match="share of the training's time"):
        diag.watch(nn.Linear(1, 1), budget=budget)
