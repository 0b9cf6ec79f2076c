"""Optimizers: twenty steps of each against its formula in float64, the canon's facts, and what all of them keep."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from diag.recipes import kinds
from diag.recipes.recipe import Recipe
from diag.recipes.registry import Entry
from diag.recipes.spec import RecipeError

Array = np.ndarray
Steps = Iterator[Array]
ENTRIES = kinds.optimizer.entries()
LR = 0.05
START = np.array([1.0, -2.0, 0.5, 3.0, -0.25])
NOISE = np.random.default_rng(0).normal(size=(20, 5))
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda one: one.name)


def slope(theta: Array, t: int) -> Array:
    return np.array([1.0, 0.1, 10.0, 0.5, 2.0]) * theta + NOISE[t]


# Each reference is a loop over t = 1, 2, ... that yields theta; g(theta, t - 1) is the gradient there.


def sgd(theta: Array, decay: float = 0.0) -> Steps:
    for t in range(20):
        theta = theta - LR * (slope(theta, t) + decay * theta)
        yield theta


def momentum(theta: Array, beta: float = 0.9) -> Steps:
    m = np.zeros(5)
    for t in range(20):
        m = beta * m - LR * slope(theta, t)
        theta = theta + m
        yield theta


def nesterov(theta: Array, beta: float = 0.9) -> Steps:
    """The textbook's theta and m; torch's parameters are the point where the next gradient is taken."""
    m = np.zeros(5)
    for t in range(20):
        m = beta * m - LR * slope(theta + beta * m, t)
        theta = theta + m
        yield theta + beta * m


def adagrad(theta: Array) -> Steps:
    s = np.zeros(5)
    for t in range(20):
        g = slope(theta, t)
        s = s + g**2
        theta = theta - LR * g / (np.sqrt(s) + 1e-10)
        yield theta


def adadelta(theta: Array, rho: float = 0.9) -> Steps:
    s, u = np.zeros(5), np.zeros(5)
    for t in range(20):
        g = slope(theta, t)
        s = rho * s + (1 - rho) * g**2
        d = np.sqrt((u + 1e-6) / (s + 1e-6)) * g
        u = rho * u + (1 - rho) * d**2
        theta = theta - LR * d
        yield theta


def rmsprop(theta: Array, rho: float = 0.9) -> Steps:
    s = np.zeros(5)
    for t in range(20):
        g = slope(theta, t)
        s = rho * s + (1 - rho) * g**2
        theta = theta - LR * g / (np.sqrt(s) + 1e-8)
        yield theta


def moments(
    theta: Array, step: Callable[[Array, Array, Array, int], Array], b1: float = 0.9, b2: float = 0.999, l2: float = 0.0
) -> Steps:
    m, s = np.zeros(5), np.zeros(5)
    for t in range(1, 21):
        g = slope(theta, t - 1) + l2 * theta
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        theta = theta - LR * step(m, s, g, t)
        yield theta


def adam(theta: Array, b1: float = 0.9, b2: float = 0.999, l2: float = 0.0) -> Steps:
    def step(m: Array, s: Array, g: Array, t: int) -> Array:
        return m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + 1e-8)

    return moments(theta, step, b1, b2, l2)


def adamw(theta: Array, decay: float = 0.01) -> Steps:
    m, s = np.zeros(5), np.zeros(5)
    for t in range(1, 21):
        g = slope(theta, t - 1)
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
        theta = theta - LR * (m / (1 - 0.9**t) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8) + decay * theta)
        yield theta


def adamax(theta: Array) -> Steps:
    m, u = np.zeros(5), np.zeros(5)
    for t in range(1, 21):
        g = slope(theta, t - 1)
        m, u = 0.9 * m + 0.1 * g, np.maximum(0.999 * u, np.abs(g) + 1e-8)
        theta = theta - LR / (1 - 0.9**t) * m / u
        yield theta


def nadam(theta: Array) -> Steps:
    mu = [0.9 * (1 - 0.5 * 0.96 ** (0.004 * t)) for t in range(22)]

    def step(m: Array, s: Array, g: Array, t: int) -> Array:
        now, then = math.prod(mu[1 : t + 1]), math.prod(mu[1 : t + 2])
        ahead = mu[t + 1] * m / (1 - then) + (1 - mu[t]) * g / (1 - now)
        return ahead / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)

    return moments(theta, step)


def radam(theta: Array) -> Steps:
    limit = 2 / (1 - 0.999) - 1

    def step(m: Array, s: Array, g: Array, t: int) -> Array:
        rho = limit - 2 * t * 0.999**t / (1 - 0.999**t)
        m_hat = m / (1 - 0.9**t)
        if rho <= 5:
            return m_hat
        r = math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
        return m_hat * r * math.sqrt(1 - 0.999**t) / (np.sqrt(s) + 1e-8)

    return moments(theta, step)


REFERENCES: dict[str, Callable[[Array], Steps]] = {
    "sgd": sgd,
    "sgd(weight_decay=0.3)": lambda theta: sgd(theta, 0.3),
    "momentum": momentum,
    "momentum(momentum=0.5)": lambda theta: momentum(theta, 0.5),
    "nesterov": nesterov,
    "nesterov(momentum=0.99)": lambda theta: nesterov(theta, 0.99),
    "adagrad": adagrad,
    "adadelta": adadelta,
    "adadelta(rho=0.5)": lambda theta: adadelta(theta, 0.5),
    "rmsprop": rmsprop,
    "rmsprop(rho=0.99)": lambda theta: rmsprop(theta, 0.99),
    "adam": adam,
    "adam(beta1=0.5, beta2=0.9)": lambda theta: adam(theta, 0.5, 0.9),
    "adam(weight_decay=0.3)": lambda theta: adam(theta, l2=0.3),
    "adamax": adamax,
    "nadam": nadam,
    "radam": radam,
    "adamw": adamw,
    "adamw(weight_decay=0.5)": lambda theta: adamw(theta, 0.5),
    "adam_uncorrected": lambda theta: moments(theta, lambda m, s, g, t: m / (np.sqrt(s) + 1e-8)),
}


def parameter(values: Array, **options: object) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values, **options))  # type: ignore[arg-type]


def trace(spec: str, gradient: Callable[[Array, int], Array], start: Array, steps: int, lr: float = LR) -> Array:
    """theta before the first step and after each, [steps + 1, size]."""
    theta = parameter(start)
    optimizer = kinds.optimizer.resolve(spec)([theta], lr)
    points = [start]
    for t in range(steps):
        theta.grad = torch.tensor(gradient(theta.detach().numpy(), t))
        optimizer.step()
        points.append(theta.detach().numpy().copy())
    return np.array(points)


def test_every_optimizer_has_a_reference() -> None:
    assert {one.partition("(")[0] for one in REFERENCES} == set(kinds.optimizer.names())


@pytest.mark.parametrize("spec", REFERENCES)
def test_twenty_steps(spec: str) -> None:
    expected = np.array(list(REFERENCES[spec](START)))
    # torch keeps NAdam's product of the mu in float32.
    tolerance = 1e-6 if spec == "nadam" else 1e-12
    assert trace(spec, slope, START, 20)[1:] == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize(("spec", "speed"), [("sgd", 1.0), ("momentum", 10.0), ("nesterov(momentum=0.8)", 5.0)])
def test_terminal_velocity_under_a_steady_gradient(spec: str, speed: float) -> None:
    g = np.array([2.0, -0.5])
    path = trace(spec, lambda theta, t: g, np.zeros(2), 400, lr=0.01)
    assert path[-1] - path[-2] == pytest.approx(-0.01 * speed * g, rel=1e-9)


def test_adagrad_slows_down_and_rmsprop_does_not() -> None:
    g = np.array([3.0, -0.01])
    sizes = {
        spec: np.abs(np.diff(trace(spec, lambda theta, t: g, np.zeros(2), 400, lr=0.01), axis=0))
        for spec in ("adagrad", "rmsprop")
    }
    times = np.arange(1, 401)[:, None]
    assert sizes["adagrad"] == pytest.approx(0.01 / np.sqrt(times) * np.ones(2), rel=1e-6)
    assert sizes["rmsprop"][0] == pytest.approx([0.01 / math.sqrt(0.1)] * 2, rel=1e-5)
    assert sizes["rmsprop"][-1] == pytest.approx([0.01, 0.01], rel=1e-5)


@pytest.mark.parametrize("g", [1e-8, -1e-3, 1.0, -1e6])
def test_adams_first_step_is_the_rate_and_without_correction_it_is_not(g: float) -> None:
    first = {
        spec: trace(spec, lambda theta, t: np.array([g]), np.zeros(1), 1)[1, 0] for spec in ("adam", "adam_uncorrected")
    }
    assert first["adam"] == pytest.approx(-LR * np.sign(g) / (1 + 1e-8 / abs(g)), rel=1e-12)
    s = math.sqrt(0.001) * abs(g)
    assert first["adam_uncorrected"] == pytest.approx(-LR * 0.1 * g / (s + 1e-8), rel=1e-12)
    if abs(g) > 1e-4:
        assert abs(first["adam_uncorrected"]) == pytest.approx(math.sqrt(10) * LR, rel=1e-3)


def test_l2_in_adams_gradient_is_not_decoupled_decay() -> None:
    """Without a gradient from the data, L2 is all that Adam sees, and its size is divided out again."""
    theta = np.array([4.0, -0.5])
    for strength in (0.01, 0.1):
        l2 = trace(f"adam(weight_decay={strength})", lambda x, t: 0 * x, theta, 1)[1]
        decoupled = trace(f"adamw(weight_decay={strength})", lambda x, t: 0 * x, theta, 1)[1]
        assert l2 == pytest.approx(theta - LR * np.sign(theta), rel=1e-5)
        assert decoupled == pytest.approx(theta * (1 - LR * strength), rel=1e-12)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(entry: Entry, dtype: torch.dtype) -> None:
    theta = parameter(START, dtype=dtype)
    optimizer = entry.build([theta], LR)
    theta.grad = torch.ones_like(theta)
    optimizer.step()
    assert theta.dtype == dtype
    shaped = [one for one in optimizer.state[theta].values() if torch.is_tensor(one) and one.ndim]
    assert all(one.dtype == dtype for one in shaped)


@each
def test_device_is_kept(entry: Entry) -> None:
    theta = parameter(START, device="meta")
    optimizer = entry.build([theta], LR)
    theta.grad = torch.ones_like(theta)
    optimizer.step()
    shaped = [one for one in optimizer.state[theta].values() if torch.is_tensor(one) and one.ndim]
    assert {one.device.type for one in [theta, *shaped]} == {"meta"}


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_interrupted_and_restored_is_uninterrupted(entry: Entry, dtype: torch.dtype) -> None:
    if entry.name == "nadam" and dtype == torch.float64:
        pytest.skip("torch keeps NAdam's product of the mu in float32, but loads it as the parameter's type")

    def run(theta: torch.nn.Parameter, optimizer: torch.optim.Optimizer, times: range) -> None:
        for t in times:
            theta.grad = torch.tensor(slope(theta.detach().numpy(), t), dtype=dtype)
            optimizer.step()

    whole, first = parameter(START, dtype=dtype), parameter(START, dtype=dtype)
    run(whole, entry.build([whole], LR), range(20))
    before = entry.build([first], LR)
    run(first, before, range(7))
    stored = io.BytesIO()
    torch.save((first, before.state_dict()), stored)
    stored.seek(0)
    second, state = torch.load(stored, weights_only=False)
    after = entry.build([second], LR / 2)
    after.load_state_dict(state)
    run(second, after, range(7, 20))
    assert torch.equal(second, whole)


@each
def test_what_has_no_gradient_stays_and_a_closure_is_asked(entry: Entry) -> None:
    moved, still = parameter(START), parameter(START)
    optimizer = entry.build([{"params": [moved]}, {"params": [still], "lr": 1.0}], LR)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = moved.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(float((START**2).sum()))
    assert not np.array_equal(moved.detach().numpy(), START)
    assert np.array_equal(still.detach().numpy(), START)


@each
def test_a_rate_of_0_changes_nothing(entry: Entry) -> None:
    assert np.array_equal(trace(entry.name, slope, START, 3, lr=0.0)[-1], START)


@each
def test_a_recipe_names_it_and_is_stored(entry: Entry) -> None:
    option = next(iter(entry.options))
    recipe = Recipe(optimizer=f"{entry.name}({option}=0.5)")
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(RecipeError, match=f"has no option '{option}x' .did you mean '{option}'"):
        Recipe(optimizer=f"{entry.name}({option}x=0.5)")


@each
def test_numbers_that_cannot_be_are_one_line(entry: Entry) -> None:
    option = "eps" if "eps" in entry.options else "weight_decay"
    with pytest.raises(RecipeError, match=f"does not take lr=0.05.*{option}.*-1") as raised:
        kinds.optimizer.resolve(f"{entry.name}({option}=-1.0)")([parameter(START)], LR)
    assert "\n" not in str(raised.value)
    with pytest.raises(RecipeError, match="empty parameter list"):
        entry.build([], LR)


def test_betas_that_cannot_be() -> None:
    for name in ("adam", "adam_uncorrected"):
        with pytest.raises(RecipeError, match=r"1\.5"):
            kinds.optimizer.resolve(f"{name}(beta1=1.5)")([parameter(START)], LR)


@pytest.mark.parametrize("entry", ENTRIES, ids=[one.name for one in ENTRIES])
def test_a_rate_below_0_is_an_error(entry: Entry) -> None:
    with pytest.raises(RecipeError, match="lr=-1"):
        entry.build([torch.nn.Parameter(torch.ones(1))], -1.0)
