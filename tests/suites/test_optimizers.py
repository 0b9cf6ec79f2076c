"""The surfaces and single-parameter experiments of suites/optimizers.py, against closed forms."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import diag
from diag.suite.load import module_of
from diag.suite.record import Record
from diag.suite.results import Results

FILE = Path(__file__).parents[2] / "suites" / "optimizers.py"


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    return module_of(diag.load_suite(FILE))


@pytest.mark.parametrize("name", ["valley", "saddle", "dip"])
def test_a_surface_and_its_gradient_agree(suite: ModuleType, name: str) -> None:
    value, gradient, start, _ = suite.SURFACES[name]
    for x, y in [start, (0.3, -0.7), (2.6, 0.4)]:
        step = 1e-6
        numeric = (
            (value(x + step, y) - value(x - step, y)) / (2 * step),
            (value(x, y + step) - value(x, y - step)) / (2 * step),
        )
        assert gradient(x, y) == pytest.approx(numeric, rel=1e-5, abs=1e-6)


def test_the_valley_has_condition_100_and_starts_at_10_along_and_1_across(suite: ModuleType) -> None:
    value, gradient, start, _ = suite.SURFACES["valley"]
    hessian = np.array([np.subtract(gradient(1.0, 0.0), gradient(0.0, 0.0)), gradient(0.0, 1.0)])
    assert np.linalg.eigvalsh(hessian) == pytest.approx([1.0, 100.0])
    assert value(*start) == pytest.approx(10.0**2 / 2 + 100 / 2)


def test_the_saddle_is_one_and_its_minima_lie_below_the_target(suite: ModuleType) -> None:
    value, gradient, _, target = suite.SURFACES["saddle"]
    hessian = np.array([gradient(1e-6, 0.0), gradient(0.0, 1e-6)]) / 1e-6
    assert np.linalg.eigvalsh(hessian) == pytest.approx([-1.0, 10.0], rel=1e-6)
    assert value(-math.sin(math.pi / 6), math.cos(math.pi / 6)) == pytest.approx(-0.25)
    assert target > -0.25


def test_the_dip_holds_a_minimum_of_its_own(suite: ModuleType) -> None:
    _, gradient, _, _ = suite.SURFACES["dip"]
    xs = np.linspace(-1, 6, 7001)
    slopes = np.array([gradient(x, 0.0)[0] for x in xs])
    minima = xs[:-1][(slopes[:-1] < 0) & (slopes[1:] >= 0)]
    assert minima == pytest.approx([0.0, 2.811], abs=2e-3)


def test_gradient_descent_walks_the_valley_as_its_two_geometric_sequences_say(suite: ModuleType) -> None:
    lr, limit = 0.015, 50
    one = suite.walk(0, "valley", "sgd", lr, limit)
    t = np.arange(limit + 1)
    along, across = 10 * (1 - lr) ** t, (1 - 100 * lr) ** t
    assert one["path"]["x"].to_numpy() == pytest.approx(suite.COS * along - suite.SIN * across)
    assert one["path"]["y"].to_numpy() == pytest.approx(suite.SIN * along + suite.COS * across)
    assert one["swing"] == pytest.approx(np.abs(np.diff(across)).sum())
    assert one["steps_on_surface"] == math.inf


def test_a_walk_that_diverges_ends_and_has_not_arrived(suite: ModuleType) -> None:
    one = suite.walk(0, "valley", "sgd", 1.0, 1000)
    assert one["steps_on_surface"] == math.inf
    assert len(one["path"]) < 10


def test_a_race_takes_as_few_steps_as_the_best_of_its_rates(suite: ModuleType) -> None:
    best = suite.race(0, "saddle", "sgd", 100)
    all_steps = {k: suite.walk(0, "saddle", "sgd", 10 ** (k / 20), 100)["steps_on_surface"] for k in range(-50, 11)}
    assert best["steps_on_surface"] == min(all_steps.values()) < 100
    assert all_steps[round(20 * math.log10(best["rate"]))] == best["steps_on_surface"]


def test_a_race_that_nobody_finishes_gives_the_lowest_end(suite: ModuleType) -> None:
    best = suite.race(0, "valley", "sgd", 3)
    assert best["steps_on_surface"] == math.inf
    ends = [suite.walk(0, "valley", "sgd", 10 ** (k / 20), 3)["end_loss"] for k in range(-50, 11)]
    assert best["end_loss"] == min(ends)


@pytest.mark.parametrize(
    ("optimizer", "first", "last"),
    [
        ("sgd", 3.0, 3.0),
        ("momentum", 3.0, 3.0 * (1 - 0.9**200) / (1 - 0.9)),
        ("adagrad", 1.0, 1 / math.sqrt(200)),
        ("rmsprop", 1 / math.sqrt(0.1), 1 / math.sqrt(1 - 0.9**200)),
        ("adam", 1.0, 1.0),
        ("adam_uncorrected", 0.1 / math.sqrt(0.001), (1 - 0.9**200) / math.sqrt(1 - 0.999**200)),
    ],
)
def test_steps_under_a_steady_gradient(suite: ModuleType, optimizer: str, first: float, last: float) -> None:
    found = suite.steady(0, optimizer, 0.01, 3.0, 200)
    assert (found["first_step"], found["last_step"]) == pytest.approx((first, last), rel=1e-6)
    assert list(found["sizes"]["step"]) == list(range(1, 201))


def test_decoupled_decay_pulls_by_the_recursion_of_its_formula(suite: ModuleType) -> None:
    found = suite.shrinkage(1, "adamw", 0.1, 300)
    assert found["pull_ratio"] == pytest.approx(1.0, abs=1e-6)
    # With the same gradients in both twins, their difference d obeys d <- (1 - eta lambda) d + eta lambda theta.
    point, gap = torch.ones(1, dtype=torch.float64, requires_grad=True), 0.0
    rule = torch.optim.Adam([point], lr=1e-3)
    for one in torch.randn(300, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64):
        gap = (1 - 1e-4) * gap + 1e-4 * point.item()
        point.grad = one.clone()
        rule.step()
    assert found["pull_small"] == pytest.approx(gap, rel=1e-6)


def test_steps_to_target(suite: ModuleType) -> None:
    recipe = diag.Recipe(data="digits", steps=30)
    rows = [{"step": step, "valid_accuracy": value} for step, value in ((0, 0.1), (10, 0.91), (20, 0.89), (30, 0.95))]
    session = SimpleNamespace(recipe=recipe, fitted=SimpleNamespace(curves=SimpleNamespace(rows=rows)))
    assert suite.steps_to_target(session) == {"steps_to_target": 10.0}
    session.fitted.curves.rows = rows[:1]
    assert suite.steps_to_target(session) == {"steps_to_target": 60.0}


def test_the_rate_is_chosen_by_the_mean_over_seeds_and_a_lost_loss_is_the_worst(suite: ModuleType) -> None:
    losses = {"a: sgd lr=1": (0.1, math.nan), "a: sgd lr=2": (0.5, 0.7), "a: sgd lr=3": (0.4, 0.9), "b": (0.0, 0.0)}
    records = [
        Record(case, seed, {"experiment": "x", "parameters": {}}, {"valid_loss": value})
        for case, values in losses.items()
        for seed, value in enumerate(values)
    ]
    assert suite.tuned(Results(records), "a: sgd lr=") == "a: sgd lr=2"


def test_every_optimizer_has_the_same_number_of_rates_half_a_decade_apart(suite: ModuleType) -> None:
    for rates in suite.RATES.values():
        assert len(rates) == 7
        assert pd.Series(rates).pct_change().dropna().to_numpy() == pytest.approx(math.sqrt(10) - 1, rel=0.01)
