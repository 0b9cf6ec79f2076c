"""Schedules that end at once, frozen parameters, decays that outweigh the loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import diag
from diag.rules.causes import join
from diag.rules.finding import Finding
from diag.rules.judge import judge
from diag.trace import Trace
from tests.rules.traces import Net, Value, chain, falling, flat, found, slowly

STALLED, OVERSIZED = "stalled-update", "oversized-update"


def scheduled(factors: list[float]) -> Trace:
    trace = chain([0.01] * 4, adaptive=True).build()
    rate, rates = 0.1, []
    for factor in factors:
        rates.append(rate)
        rate *= factor
    trace.steps["lr"] = rates
    return trace


@pytest.mark.parametrize(
    ("factors", "count"),
    [
        ([0.89] * 30, 1),
        ([0.91] * 30, 0),
        ([1.0] * 30, 0),
        ([1 - 1 / (30 - step) if step < 29 else 1.0 for step in range(30)], 0),
        ([0.5 if step % 10 == 9 else 1.0 for step in range(30)], 0),
    ],
)
def test_a_schedule_that_multiplies_in_every_step(factors: list[float], count: int) -> None:
    """Linear to zero and steps at milestones are schedules that are meant."""
    findings = [one for one in found(STALLED, scheduled(factors)) if one.evidence.get("of") == "schedule"]
    assert len(findings) == count
    if findings:
        assert findings[0].evidence["factor"] == pytest.approx(0.89)
        assert "from 0.1 to 0.0034 within 30 steps" in findings[0].message


def partly_frozen(share: int, **options: object) -> Net:
    net = Net(**options)  # type: ignore[arg-type]
    for number in range(10):
        net.output(f"{number}").parameter(f"{number}.weight", trainable=number >= share, gradient=0.01)
    return net


@pytest.mark.parametrize(
    ("share", "loss", "severity"),
    [(6, flat, "error"), (6, falling, "note"), (4, flat, None), (5, flat, "error")],
)
def test_frozen_parameters_in_the_optimizer(share: int, loss: object, severity: str | None) -> None:
    findings = [one for one in found(STALLED, partly_frozen(share, loss=loss)) if one.evidence.get("of") == "frozen"]
    assert [one.severity for one in findings] == ([severity] if severity else [])
    if findings:
        assert findings[0].evidence["share"] == pytest.approx(share / 10)
        assert findings[0].evidence["count"] == share


@pytest.mark.parametrize(
    ("left", "loss", "count"),
    [(0.79, flat, 1), (0.81, flat, 0), (0.59, slowly, 1), (0.61, slowly, 0), (0.1, falling, 0), (1.5, flat, 0)],
)
def test_weights_that_shrink_together(left: float, loss: object, count: int) -> None:
    net = Net(loss=loss)  # type: ignore[arg-type]
    for number in range(4):
        net.output(f"{number}").parameter(f"{number}.weight", rms=lambda step: 0.1 * left ** (step / 29))
    findings = [one for one in found(OVERSIZED, net) if one.evidence.get("of") == "shrink"]
    assert len(findings) == count
    if findings:
        assert findings[0].evidence["left"] == pytest.approx(left)


@pytest.mark.parametrize(
    ("rates", "loss", "count"),
    [
        ([0.1 * 0.1 ** (step // 2) for step in range(30)], flat, 1),
        ([0.1] * 5 + [1e-6] * 25, slowly, 1),
        ([0.1] * 5 + [1e-6] * 25, falling, 0),
        ([0.1] * 20 + [1e-6] * 10, flat, 0),
        ([1e-6] * 20 + [0.1] * 10, flat, 0),
        ([0.1] * 5 + [1e-6] * 20 + [0.1] * 5, flat, 0),
        ([0.1] * 5 + [2e-5] * 25, flat, 0),
    ],
)
def test_a_schedule_that_ends_before_the_training_does(rates: list[float], loss: object, count: int) -> None:
    trace = chain([0.01] * 4, adaptive=True, loss=loss).build()
    trace.steps["lr"] = rates
    findings = [one for one in found(STALLED, trace) if one.evidence.get("of") == "schedule"]
    assert len(findings) == count
    if findings:
        assert findings[0].severity == "error"
        assert f"by step {findings[0].evidence['step']} of 30" in findings[0].message


@pytest.mark.parametrize(("bottom", "root"), [(1e-6, "vanishing-gradient"), (1e-2, OVERSIZED)])
def test_weights_shrink_under_a_gradient_that_does_not_come_through(bottom: float, root: str) -> None:
    net = Net(loss=flat)
    for number in range(6):
        net.output(f"{number}", gradient=bottom ** ((5 - number) / 5))
        net.parameter(f"{number}.weight", rms=lambda step: 0.1 * 0.5 ** (step / 29))
    findings = [one for one in judge(net.build()) if one.severity == "error"]
    assert findings[0].rule == root
    every = [two for one in findings for two in (one, *one.consequences)]
    assert any(one.evidence.get("of") == "shrink" for one in every)


def test_a_structural_warning_and_a_flat_loss_are_an_error_together() -> None:
    structural = Finding("vanishing-gradient", "warning", "0", "", {"step": 0})
    still = Finding("loss-not-decreasing", "warning", "loss", "", {"step": 0})
    [root] = join([still, structural])
    assert (root.rule, root.severity, [one.rule for one in root.consequences]) == (
        "vanishing-gradient",
        "error",
        ["loss-not-decreasing"],
    )
    assert [one.severity for one in join([structural])] == ["warning"]
    assert [one.severity for one in join([still])] == ["warning"]
    # Where an error explains the loss, the warning stays what it is.
    roots = join([still, structural, Finding("dead-units", "error", "9", "", {"step": 0})])
    assert [(one.rule, one.severity) for one in roots] == [("dead-units", "error")]


def test_the_schedule_comes_before_what_it_brings_about() -> None:
    trace = scheduled([0.1] * 30)
    trace.steps["loss"] = [flat(step) for step in range(30)]
    findings = judge(trace, {})
    assert (findings[0].rule, findings[0].evidence["of"]) == ("stalled-update", "schedule")
    assert [one.rule for one in findings[0].consequences] == ["loss-not-decreasing"]


def cut(norm: float, ratio: float, wobble: float = 0.3, **options: object) -> Net:
    """Four layers whose gradients differ from step to step, and together have one norm."""
    net = Net(**options)  # type: ignore[arg-type]
    for number in range(4):
        sign = 1 if number % 2 else -1
        share = [math.sqrt((1 + sign * wobble * math.sin(step)) / 4) * norm for step in range(30)]
        net.output(f"{number}").parameter(f"{number}.weight", ratio=ratio, gradient=[one / 32 for one in share])
    return net


@pytest.mark.parametrize(
    ("norm", "ratio", "wobble", "loss", "clipped"),
    [
        (1e-4, 1e-5, 0.3, slowly, True),
        (1e-4, 1e-4, 0.3, slowly, False),
        (1e-4, 1e-4, 0.3, flat, True),
        (1e-4, 1e-3, 0.3, flat, False),
        (1.0, 1e-5, 0.3, flat, False),
        (1e-4, 1e-5, 0.0, flat, False),
    ],
    ids=["little is left", "the loss falls", "it stands", "as usual", "a usual clip", "the same gradient each time"],
)
def test_a_clip_that_leaves_next_to_nothing(norm: float, ratio: float, wobble: float, loss: Any, clipped: bool) -> None:
    findings = [one for one in found(STALLED, cut(norm, ratio, wobble, loss=loss)) if one.evidence.get("of") == "clip"]
    assert len(findings) == clipped
    if findings:
        assert (findings[0].severity, findings[0].evidence["norm"]) == ("error", pytest.approx(norm, rel=1e-2))


@pytest.mark.parametrize(("steps", "ends", "count"), [(240, 1.9, 1), (60, 1.9, 0), (240, 0.5, 0)])
def test_a_clip_is_too_tight_where_most_of_the_loss_is_left_after_many_steps(
    steps: int, ends: float, count: int
) -> None:
    net = Net(steps=steps, loss=lambda step: 2.3 + (ends - 2.3) * step / steps)
    for number in range(4):
        sign = 1 if number % 2 else -1
        share = [math.sqrt((1 + sign * 0.3 * math.sin(step)) / 4) * 1e-3 for step in range(steps)]
        net.output(f"{number}").parameter(f"{number}.weight", ratio=2e-4, gradient=[one / 32 for one in share])
    assert len([one for one in found(STALLED, net) if one.evidence.get("of") == "clip"]) == count


@pytest.mark.parametrize(
    ("meant", "tested", "severities"),
    [(3e-3, True, ["error"]), (3e-3, False, ["warning"]), (1e-4, True, []), (0.0, True, [])],
)
def test_a_warm_up_that_outlasts_the_training(meant: float, tested: bool, severities: list[str]) -> None:
    trace = Net(steps=120, loss=slowly).output("a").parameter("a.weight", ratio=1e-3).build()
    trace.steps["lr"] = [5e-7 * step for step in range(120)]
    trace.coverage["meant_lr"] = meant
    if tested:
        test = {"step": 119, "samples": 90, "right": 20, "labels": {"0": 50, "1": 40}, "loss": 2.0}
        trace.coverage["answers"] = {trace.sites["model"].iloc[0]: [{"line": 0, **test}]}
    told = [one for one in found(STALLED, trace) if one.evidence.get("of") == "schedule"]
    assert [one.severity for one in told] == severities
    assert all("is meant to come to 0.003" in one.message for one in told)


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ([0.1] * 30, "at a learning rate of 0.1, and"),
        ([0.1] * 4 + [1e-3] * 26, "at a learning rate of 0.001, which was 0.1 in step 3, and"),
        (
            [1e-8 * (step + 1) for step in range(30)],
            "the 30 steps that were watched: the learning rate rises in every one, from 1e-08 to 3e-07",
        ),
    ],
)
def test_a_stall_tells_the_learning_rate(rates: list[float], said: str) -> None:
    trace = Net(loss=flat).output("0").parameter("0.weight", ratio=1e-9).build()
    trace.steps["lr"] = rates
    (finding,) = found(STALLED, trace)
    assert said in finding.message


@pytest.mark.parametrize(("steps", "ratio", "told"), [(30, 50.0, True), (30, 1e-3, False), (2, 50.0, False)])
def test_steps_on_scaled_gradients(steps: int, ratio: float, told: bool) -> None:
    """Told where they are too large: an optimizer that divides by the gradient's size does not mind a factor."""
    net = Net(loss=flat).output("0").parameter("0.weight", ratio=ratio)
    net.coverage["scaled_steps"] = steps
    kinds = [one.evidence.get("of") for one in found(OVERSIZED, net)]
    assert ("scaled" in kinds) == told


def test_what_is_frozen_is_a_warning_beside_what_was_forgotten() -> None:
    net = partly_frozen(8, loss=flat)
    assert [one.severity for one in found(STALLED, net)] == ["error"]
    net.output("head").parameter("head.weight", optimized=False, gradient=0.01)
    assert [(one.evidence["of"], one.severity) for one in found(STALLED, net)] == [
        ("optimizer", "error"), ("frozen", "warning"),
    ]  # fmt: skip


def test_what_is_frozen_does_not_follow_from_dead_units() -> None:
    dead = Finding("dead-units", "warning", "relu", "", {"step": 0})
    fixed = Finding("stalled-update", "note", "0.weight", "", {"step": 0, "of": "frozen"})
    assert [one.rule for one in join([dead, fixed])] == ["dead-units", "stalled-update"]


def test_what_an_optimizer_held_that_has_ended_is_no_matter() -> None:
    """Pretraining, then a head alone: the first optimizer held what is frozen now."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 200), torch.nn.ReLU(), torch.nn.Linear(200, 3))
    x, y = torch.randn(64, 6), torch.arange(64) % 3

    def train(optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    with diag.watch(model) as watch:
        train(torch.optim.Adam(model.parameters(), 1e-3), 20)
        model[0].requires_grad_(False)
        train(torch.optim.Adam(model[2].parameters(), 1e-4), 40)
    assert not [one for one in watch.diagnose().findings if one.evidence.get("of") == "frozen"]
    with diag.watch(model) as watch:
        train(torch.optim.Adam(model.parameters(), 1e-4), 20)
    assert [one for one in watch.diagnose().findings if one.evidence.get("of") == "frozen"]


@pytest.mark.parametrize(
    ("share", "layers", "loss", "severity"),
    [
        (0.9, 2, lambda step: 2.0 - 0.02 * step, "error"),  # it falls, but not far
        (0.9, 2, falling, "warning"),  # it ends below a tenth
        (0.9, 1, flat, None),
        (0.5, 3, flat, "warning"),
        (0.3, 3, flat, None),
    ],
)
def test_random_layers_that_are_frozen(share: float, layers: int, loss: Value, severity: str | None) -> None:
    net = Net(steps=60, loss=loss).output("0").parameter("0.weight")
    names = [f"body.{layer}" for layer in range(layers)]
    net.coverage["frozen_untrained"] = {"": {"modules": names, "share": share}}
    findings = [one for one in found(STALLED, net) if one.evidence.get("of") == "frozen"]
    assert [one.severity for one in findings] == ([severity] if severity else [])


def test_what_was_trained_before_it_was_frozen_is_meant() -> None:
    net = Net(steps=60, loss=flat).output("body.0").parameter("body.0.weight").output("head").parameter("head.weight")
    net.coverage["frozen_untrained"] = {"": {"modules": ["body.0", "body.1"], "share": 0.9}}
    assert not [one for one in found(STALLED, net) if one.evidence.get("of") == "frozen"]


@pytest.mark.parametrize(("rms", "of"), [(1e-10, "scaled away"), (1e-3, "step")])
def test_a_loss_that_is_multiplied_down(rms: float, of: str) -> None:
    """64 predictions of 32 classes: the last gradient has norm 45 * rms, and would have 1 / 8."""
    net = chain([rms] * 4, adaptive=True, loss=flat)
    for row in net._frame:
        if row["kind"] == "update":
            row["rms"] = 1e-7
    net.output("loss:cross_entropy", "loss", "cross_entropy", units=32, gradient=None)
    net.output("loss:cross_entropy[value]", "loss", "cross_entropy", units=1, samples=1, mean=3.4, gradient=None)
    findings = found(STALLED, net)
    assert [(one.severity, one.evidence.get("of")) for one in findings] == [("error", of)]
    if of == "scaled away":
        assert findings[0].evidence["factor"] == pytest.approx(rms * (64 * 32) ** 0.5 * 8)


def test_a_learning_rate_of_zero_is_no_schedule() -> None:
    model = torch.nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with diag.watch(model) as watch:
        for _ in range(20):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(torch.randn(16, 8)), torch.arange(16) % 3).backward()
            optimizer.step()
    (finding,) = [one for one in watch.diagnose().findings if one.evidence.get("of") == "schedule"]
    assert finding.message == "The learning rate is 0 in all 20 steps: nothing is changed."
