"""Targets on the way to which a training still is when it ends."""

from __future__ import annotations

import pytest

from tests.rules.traces import Net, Value, found


def judged(predicted: Value, wanted: Value, loss: Value) -> Net:
    """Sixty steps of a network whose squared error is of these numbers."""
    net = Net(steps=60, loss=loss).output("0")
    net.output("loss:mse_loss", "loss", "mse_loss", units=1, gradient=None, rms=predicted, mean=predicted)
    return net.output("loss:mse_loss[target]", "target", "target", units=1, gradient=None, rms=wanted, mean=wanted)


def far_off(end: float, size: float = 150.0, start: float = 0.2, loss: Value | None = None) -> Net:
    """Predictions that grow by the same each step, up to a share of their targets."""

    def predicted(step: int) -> float:
        return start + (end * size - start) * step / 59

    return judged(predicted, size, loss or (lambda step: (size - predicted(step)) ** 2))


@pytest.mark.parametrize(
    ("net", "told"),
    [
        (far_off(0.5), True),
        (far_off(0.95), True),
        (far_off(1.1), False),  # half the way by the middle
        (far_off(0.5, start=20.0), False),  # it began near
        (far_off(0.5, size=5.0), False),  # of usual size
        (far_off(0.5, loss=lambda step: 10.0 + step % 2), False),  # as far as it gets: the targets may tell no more
        (far_off(0.05), True),
    ],
    ids=[
        "half the way",
        "at the end there",
        "half by the middle",
        "near from the start",
        "of usual size",
        "at a stand",
        "never near",
    ],
)
def test_predictions_on_their_way(net: Net, told: bool) -> None:
    findings = [one for one in found("loss-not-decreasing", net) if one.evidence.get("of") == "target"]
    assert [(one.severity, one.site) for one in findings] == [("error", "loss:mse_loss")] * told
    assert all("Standardize the targets" in one.remedy for one in findings)


def chased(until: int, size: float = 1e5, start: float = 0.2) -> Net:
    """Targets that move away with the predictions, as those of a value function do, which come near in step `until`."""

    def predicted(step: int) -> float:
        return start + (0.6 if step >= until else 0.1) * wanted(step) * (step > 0)

    def wanted(step: int) -> float:
        return size * (1 + step)

    return judged(predicted, wanted, lambda step: wanted(step) - predicted(step))


@pytest.mark.parametrize(
    ("net", "told"),
    [
        (chased(20), True),
        (chased(2), False),  # quickly
        (chased(20, size=5e3), False),  # not so far
        (chased(20, start=20.0), False),  # for its predictions
    ],
)
def test_huge_targets_that_take_long_to_come_near(net: Net, told: bool) -> None:
    findings = [one for one in found("loss-not-decreasing", net) if one.evidence.get("of") == "target"]
    assert [one.severity for one in findings] == ["error"] * told
    assert all("until step 20 of 59" in one.message for one in findings)
