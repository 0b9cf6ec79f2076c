"""Schedules that end at once, frozen parameters, decays that outweigh the loss."""

from __future__ import annotations

import pytest

from diag.rules.causes import join
from diag.rules.finding import Finding
from diag.rules.judge import judge
from diag.trace import Trace
from tests.rules.traces import Net, chain, falling, flat, found, slowly

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
