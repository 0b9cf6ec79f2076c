"""Schedules: rates against their formulas in float64, and what all of them keep."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from diag.recipes import kinds
from diag.recipes.recipe import Recipe
from diag.recipes.registry import Entry
from diag.recipes.spec import RecipeError

ENTRIES = kinds.schedule.entries()
BY_STEP = [one for one in ENTRIES if one.name != "performance"]
LR, STEPS = 0.4, 200
each = pytest.mark.parametrize("entry", BY_STEP, ids=lambda one: one.name)


def optimizer_of(name: str = "sgd", lr: float = LR) -> torch.optim.Optimizer:
    theta = torch.nn.Parameter(torch.ones(2))
    theta.grad = torch.ones(2)
    return kinds.optimizer.resolve(name)([theta], lr)


def advance(optimizer: torch.optim.Optimizer, schedule: Any, steps: int) -> np.ndarray:
    """Rates before the first of so many steps and after each."""
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        if schedule is not None:
            schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)


def rates(spec: str, steps: int = STEPS, optimizer: str = "sgd") -> np.ndarray:
    made = optimizer_of(optimizer)
    return advance(made, kinds.schedule.resolve(spec)(made, steps), steps)


def one_cycle(peak: float, start: float, end: float) -> Callable[[float], float]:
    """A factor on the rate; along half cosines, the peak at `peak`."""

    def factor(t: float) -> float:
        if t <= peak:
            return 1 / start + (1 - 1 / start) * (1 - math.cos(math.pi * t / peak)) / 2
        low = 1 / (start * end)
        return low + (1 - low) * (1 + math.cos(math.pi * (t - peak) / (STEPS - peak))) / 2

    return factor


def warmup(rising: int, fall: Callable[[float], float]) -> Callable[[float], float]:
    return lambda t: (t + 1) / (rising + 1) if t < rising else fall((t - rising) / (STEPS - rising))


def half_cosine(part: float) -> float:
    return (1 + math.cos(math.pi * part)) / 2


REFERENCES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "power": lambda t: 1 / (1 + t / 20),
    "power(s=0.5, c=2)": lambda t: 1 / (1 + t / 100) ** 2,
    "exponential": lambda t: 0.1 ** (t / 100),
    "exponential(s=0.25)": lambda t: 0.1 ** (t / 50),
    "piecewise": lambda t: 1.0 if t < 100 else 0.1 if t < 150 else 0.01,
    "piecewise(at=(0.25,), factors=(0.5,))": lambda t: 1.0 if t < 50 else 0.5,
    "one_cycle": one_cycle(60, 25, 1e4),
    "one_cycle(up=0.5, start=10, end=100)": one_cycle(100, 10, 100),
    "cosine": lambda t: half_cosine(t / STEPS),
    "cosine(end=0.1)": lambda t: 0.1 + 0.9 * half_cosine(t / STEPS),
    "warmup": warmup(20, lambda part: 1.0),
    "warmup(share=0.25, then='linear')": warmup(50, lambda part: 1 - part),
    "warmup(then='cosine')": warmup(20, half_cosine),
}


def test_every_schedule_has_a_reference() -> None:
    assert {one.partition("(")[0] for one in REFERENCES} | {"performance"} == set(kinds.schedule.names())


@pytest.mark.parametrize("spec", REFERENCES)
def test_rates(spec: str) -> None:
    expected = np.array([LR * REFERENCES[spec](t) for t in range(STEPS + 1)])
    # The last rate may be exactly 0.
    assert rates(spec) == pytest.approx(expected, rel=1e-12, abs=1e-16)


def test_landmarks() -> None:
    assert rates("power")[20] == pytest.approx(LR / 2)
    assert rates("exponential")[100] == pytest.approx(LR / 10)
    assert rates("one_cycle").argmax() == 60
    assert rates("one_cycle")[[0, 60, 200]] == pytest.approx([LR / 25, LR, LR / 25e4], rel=1e-12)
    assert rates("warmup").argmax() == 20


@pytest.mark.parametrize(("optimizer", "read"), [("momentum", "momentum"), ("adamw", "betas")])
def test_one_cycles_momentum_is_the_mirror_image_of_its_rate(optimizer: str, read: str) -> None:
    made = optimizer_of(optimizer)
    schedule = kinds.schedule.resolve("one_cycle(start=10, end=1)")(made, STEPS)
    seen, rate = [], []
    for _ in range(STEPS + 1):
        value = made.param_groups[0][read]
        seen.append(value[0] if read == "betas" else value)
        rate.append(made.param_groups[0]["lr"])
        if len(seen) <= STEPS:
            made.step()
            schedule.step()
    # With end=1 rate and momentum go through the same cosines: one up and down, the other down and up.
    height = (np.array(rate) / LR - 0.1) / 0.9
    assert np.array(seen) == pytest.approx(0.95 - 0.1 * height, rel=1e-12)
    if read == "betas":
        assert made.param_groups[0]["betas"][1] == 0.999


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adagrad"])
def test_one_cycle_leaves_an_optimizer_without_momentum_without(optimizer: str) -> None:
    made = optimizer_of(optimizer)
    before = {key: value for key, value in made.param_groups[0].items() if "momentum" in key}
    advance(made, kinds.schedule.resolve("one_cycle")(made, 10), 10)
    assert {key: value for key, value in made.param_groups[0].items() if key in before} == before


def test_performance_cuts_after_so_many_validations_without_a_new_best() -> None:
    made = optimizer_of()
    schedule = kinds.schedule.resolve("performance(factor=0.1, patience=2)")(made, STEPS)
    seen = []
    # 0.99995 is no improvement by torch's threshold of one in 10,000; a loss that is infinite is none either.
    for loss in (1.0, 1.0, 0.99995, math.inf, 0.5, 0.6, 0.6, 0.4, 0.5, 0.5, 0.5):
        schedule.step(loss)
        seen.append(made.param_groups[0]["lr"] / LR)
    assert seen == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01])


def test_performance_is_restored() -> None:
    def run(losses: list[float], state: tuple[Any, Any] | None = None) -> tuple[float, tuple[Any, Any]]:
        made = optimizer_of()
        schedule = kinds.schedule.resolve("performance")(made, STEPS)
        if state is not None:
            made.load_state_dict(state[0])
            schedule.load_state_dict(state[1])
        for one in losses:
            schedule.step(one)
        return made.param_groups[0]["lr"], copy.deepcopy((made.state_dict(), schedule.state_dict()))

    losses = [1.0, 0.9, 0.9, 0.9, 0.9, 0.8, 0.9, 0.9, 0.9]
    whole, _ = run(losses)
    for place in range(len(losses)):
        assert run(losses[place:], run(losses[:place])[1])[0] == whole
    assert whole == pytest.approx(LR * 0.09)


@each
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 300])
def test_any_number_of_steps(entry: Entry, steps: int) -> None:
    made = optimizer_of()
    seen = advance(made, entry.build(made, steps), steps)
    assert len(seen) == steps + 1
    assert np.isfinite(seen).all() and (seen >= 0).all() and (seen <= LR * (1 + 1e-12)).all()
    assert (seen[:-1] > 0).all()


@each
def test_every_group_is_scaled_alike(entry: Entry) -> None:
    thetas = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    made = torch.optim.SGD([{"params": thetas[:1], "lr": LR}, {"params": thetas[1:], "lr": LR / 8}], lr=LR)
    schedule = entry.build(made, 10)
    for _ in range(7):
        made.step()
        if schedule is not None:
            schedule.step()
    first, second = (group["lr"] for group in made.param_groups)
    assert second == pytest.approx(first / 8, rel=1e-12)


@each
@pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
def test_interrupted_and_restored_is_uninterrupted(entry: Entry, optimizer: str) -> None:
    whole = rates(entry.name, optimizer=optimizer)
    before = optimizer_of(optimizer)
    schedule = entry.build(before, STEPS)
    advance(before, schedule, 77)
    after = optimizer_of(optimizer)
    again = entry.build(after, STEPS)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    if again is not None:
        again.load_state_dict(copy.deepcopy(schedule.state_dict()))
    assert np.array_equal(advance(after, again, STEPS - 77), whole[77:])


@pytest.mark.parametrize("entry", [one for one in ENTRIES if one.options], ids=lambda one: one.name)
def test_a_recipe_names_it_and_is_stored(entry: Entry) -> None:
    option, default = next(iter(entry.options.items()))
    recipe = Recipe(schedule=f"{entry.name}({option}={default!r})")
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(RecipeError, match=f"has no option 'x{option}'"):
        Recipe(schedule=f"{entry.name}(x{option}=0.5)")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("power(s=0)", "'power' takes s above 0, got 0"),
        ("exponential(s=-1.0)", "takes s above 0"),
        ("piecewise(at=(0.5,), factors=(0.1, 0.2))", "as many rising numbers `at` as `factors`"),
        ("piecewise(at=(0.5, 0.2), factors=(0.1, 0.2))", "rising"),
        ("piecewise(at=('a',), factors=(0.1,))", "numbers"),
        ("performance(factor=1.5)", "above 0 and below 1, got 1.5"),
        ("performance(patience=-1)", "patience from 0"),
        ("one_cycle(up=1.0)", "`up` above 0 and below 1"),
        ("one_cycle(start=0)", "start and end above 0"),
        ("cosine(end=2.0)", "`end` from 0 to 1"),
        ("warmup(share=1.5)", "a share from 0 to 1"),
        ("warmup(then='cosin')", "one of constant, linear, cosine, got 'cosin'"),
    ],
)
def test_options_that_cannot_be(spec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        kinds.schedule.resolve(spec)(optimizer_of(), STEPS)


@pytest.mark.parametrize("options", ["low_momentum=0.99", "high_momentum=1.0", "low_momentum=-0.1"])
def test_momenta_of_one_cycle_that_cannot_be_are_an_error(options: str) -> None:
    with pytest.raises(RecipeError, match="takes 0 <= low_momentum <= high_momentum < 1"):
        kinds.schedule.resolve(f"one_cycle({options})")(optimizer_of("momentum"), STEPS)
