"""diverging-loss and loss-not-decreasing."""

from __future__ import annotations

import math

import pytest

from tests.rules.traces import DEFAULTS, Net, Value, chain, falling, flat, found, only

DIVERGES, STANDS = "diverging-loss", "loss-not-decreasing"


@pytest.mark.parametrize(("just", "count"), [(1.1, 1), (0.9, 0)])
def test_the_threshold_of_divergence(just: float, count: int) -> None:
    net = chain(loss=lambda step: just * DEFAULTS["diverging_error"] * 2.0 if step >= 9 else 2.0)
    findings = found(DIVERGES, net)
    assert [(one.severity, one.site) for one in findings] == [("error", "loss")] * count


def test_divergence_and_its_numbers() -> None:
    finding = only(DIVERGES, chain(loss=lambda step: 2.0 if step < 9 else 1e3 if step < 20 else math.inf))
    evidence = finding.evidence
    assert (evidence["step"], evidence["first"], evidence["then"], evidence["worst"]) == (9, 2.0, 1e3, 1e3)


def test_a_likelihood_below_zero_may_fall() -> None:
    assert not found(DIVERGES, chain(loss=lambda step: -1.0 - step**2))
    assert only(DIVERGES, chain(loss=lambda step: -1.0 if step < 5 else -1e6)).evidence["worst"] == -1e6


def test_a_spike_that_is_no_divergence() -> None:
    assert not found(DIVERGES, chain(loss=lambda step: 20.0 if step == 4 else 2.0))
    assert not found(DIVERGES, chain(loss=1e6))


@pytest.mark.parametrize("loss", [flat, lambda step: 1 + 0.1 * step, 3.0])
def test_a_loss_that_does_not_fall(loss: Value) -> None:
    finding = only(STANDS, chain(loss=loss))
    assert (finding.severity, finding.site, finding.evidence["steps"]) == ("warning", "loss", 30)
    assert finding.evidence["first"] <= finding.evidence["last"] + 0.02


@pytest.mark.parametrize(
    "options",
    [
        {"loss": falling},
        {"loss": flat, "optimizer": None},
        {"loss": None},
        {"loss": flat, "steps": 11},
        {"loss": 0.0},
        {"loss": flat, "optimizer": lambda step: float(step % 2)},
    ],
)
def test_where_nothing_can_be_said_of_the_loss(options: dict[str, object]) -> None:
    assert not found(STANDS, chain(**options))  # type: ignore[arg-type]


def test_without_steps_nothing_diverges() -> None:
    assert not found(DIVERGES, chain(loss=lambda step: 10.0**step, optimizer=None))


CEILING = math.log(math.e + 9)
CROSS_ENTROPY = {"min": -0.9, "max": 0.1, "mean": 0.0, "zero_fraction": 0.0}


def softmax(loss: Value, op: str = "softmax", classes: int = 10, **changes: float) -> Net:
    """A network that ends in a softmax, with the gradient that cross-entropy gives logits."""
    net = chain(loss=loss)
    return net.output("end", "nonlinearity", op, units=classes, gradient=0.3, of_gradient={**CROSS_ENTROPY, **changes})


def test_a_softmax_before_cross_entropy() -> None:
    finding = only(STANDS, softmax(lambda step: 2.3 - 0.01 * step))
    assert (finding.severity, finding.site) == ("error", "end")
    assert finding.evidence["floor"] == pytest.approx(CEILING - 1)
    assert finding.evidence["classes"] == 10
    assert "cannot fall below 1.461" in finding.message


@pytest.mark.parametrize(
    "net",
    [
        softmax(lambda step: 2.3 - 0.05 * step),  # below the floor
        softmax(falling, "log_softmax"),
        softmax(lambda step: 1.2 - 0.001 * step, classes=2),
        softmax(lambda step: 2.3 - 0.01 * step, zero_fraction=0.9),  # a likelihood picks one class
        softmax(lambda step: 2.3 - 0.01 * step, mean=-0.1),
        softmax(lambda step: 2.3 - 0.01 * step, min=-0.1),
        softmax(lambda step: 2.3 - 0.01 * step).output("logits"),  # attention's, say: something comes after it
    ],
)
def test_a_softmax_that_may_be(net: Net) -> None:
    assert not found(STANDS, net)
