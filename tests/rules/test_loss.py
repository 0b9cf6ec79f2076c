"""diverging-loss and loss-not-decreasing."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import diag
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


def test_a_loss_that_falls_far_below_zero_has_the_sign_of_a_term_turned() -> None:
    finding = only(DIVERGES, chain(loss=lambda step: 2.0 if step < 9 else -(4.0**step)))
    assert (finding.severity, finding.evidence["of"], finding.evidence["step"]) == ("error", "sign", 0)
    assert "the sign of one of its terms" in finding.message
    back = only(DIVERGES, chain(loss=lambda step: 2.0 if step < 9 else -1e9 if step < 25 else 1.9))
    assert back.evidence.get("of") != "sign"


def test_a_loss_below_zero_that_falls_ever_faster_has_its_sign_turned() -> None:
    finding = only(DIVERGES, chain(loss=lambda step: -1.0 - 0.001 * 1.5**step))
    assert (finding.severity, finding.evidence["of"]) == ("error", "sign")
    assert finding.evidence["last"] == pytest.approx(-1.0 - 0.001 * 1.5**29)


def _slowing(step: int) -> float:
    return 1.0 - 30 * (1 - 0.8**step)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda step: 1.0 - 0.001 * 1.5**step, True),
        (lambda step: 0.7 - 0.05 * step**2, True),
        (lambda step: 1.0 - step, False),  # as fast as before
        (_slowing, False),
        (lambda step: 1.0 - 0.00001 * 1.5**step, False),  # not far below zero
    ],
)
def test_a_loss_that_falls_through_zero_ever_faster(loss: Value, told: bool) -> None:
    findings = [one for one in found(DIVERGES, chain(loss=loss)) if one.evidence.get("of") == "sign"]
    assert [one.severity for one in findings] == ["error"] * told
    assert not told or "negative from the start" not in findings[0].message


def test_a_loss_that_has_come_below_zero_may_stand_there() -> None:
    assert not found(STANDS, chain(loss=lambda step: 1.5 if step < 2 else -4.16 - 0.0001 * step))


@pytest.mark.parametrize(
    ("first", "last", "rule"), [(2.3, 3.0, DIVERGES), (2.3, 2.8, None), (3.1, 3.0, None), (2.9, 4.0, DIVERGES)]
)
def test_a_cross_entropy_worse_than_a_guess(first: float, last: float, rule: str | None) -> None:
    """Of ten classes: a guess has 2.303, and 1.25 times that is 2.88."""
    net = Net(loss=lambda step: first + (last - first) * step / 29)
    net.output("a").output("loss:cross_entropy", "loss", "cross_entropy", units=10)
    net.output("loss:cross_entropy[value]", "loss", "cross_entropy", samples=1, units=1,
               mean=lambda step: first + (last - first) * min(1.0, step / 15))  # fmt: skip
    assert [one.evidence["of"] for one in found(DIVERGES, net)] == (["guess"] if rule else [])


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


def spike(step: int) -> float:
    """A likelihood that leaps up once, and ends lower than it began."""
    return 119.0 if step == 20 else 1.9 - 0.1 * step


def test_a_likelihood_that_leaps_up_and_ends_lower_comes_back() -> None:
    finding = only(DIVERGES, chain(loss=spike))
    assert finding.severity == "warning" and "comes back" in finding.message
    assert only(DIVERGES, chain(loss=lambda step: spike(step) if step <= 20 else 5.0 + step)).severity == "error"
    assert only(DIVERGES, chain(loss=lambda step: 1.9 - 0.1 * step if step < 20 else -1e9)).severity == "error"


def test_the_loss_of_a_policy_that_makes_its_own_data_may_stand() -> None:
    net = chain(loss=flat)
    assert found(STANDS, net)
    net.coverage["acting_passes"] = 300
    assert not found(STANDS, net)


def test_without_steps_nothing_diverges() -> None:
    assert not found(DIVERGES, chain(loss=lambda step: 10.0**step, optimizer=None))


def squashed(before: str, loss_op: str, units: int = 10, loss: Value = falling) -> Net:
    """A network that ends in an activation, and what the loss function computes of it."""
    net = chain(loss=loss).output("end", "nonlinearity", before, units=units)
    return net.output(f"loss:{loss_op}", "loss", loss_op, units=units)


@pytest.mark.parametrize(
    ("before", "loss_op", "units", "floor"),
    [
        ("softmax", "cross_entropy", 10, math.log(math.e + 9) - 1),
        ("softmax", "cross_entropy", 3, math.log(math.e + 2) - 1),
        ("sigmoid", "binary_cross_entropy_with_logits", 1, math.log(1 + 1 / math.e)),
    ],
)
def test_squashed_twice(before: str, loss_op: str, units: int, floor: float) -> None:
    finding = only(STANDS, squashed(before, loss_op, units))
    assert (finding.severity, finding.site) == ("error", "end")
    assert finding.evidence["floor"] == pytest.approx(floor)
    assert f"cannot fall below {floor:.3f}" in finding.message
    assert finding.remedy == f"Remove the {before} and give {loss_op} the logits."


@pytest.mark.parametrize(
    ("before", "loss_op"),
    [("log_softmax", "nll_loss"), ("tanh", "cross_entropy"), ("relu", "cross_entropy"), ("softmax", "mse_loss")],
)
def test_squashed_once(before: str, loss_op: str) -> None:
    assert not found(STANDS, squashed(before, loss_op))


def test_a_softmax_further_down_is_attentions() -> None:
    net = chain().output("attention:softmax", "nonlinearity", "softmax", rms=0.2).output("head")
    assert not found(STANDS, net.output("loss:cross_entropy", "loss", "cross_entropy"))
    other_shape = chain().output("attention:softmax", "nonlinearity", "softmax", units=6)
    assert not found(STANDS, other_shape.output("loss:cross_entropy", "loss", "cross_entropy", units=10))


def test_the_classes_of_an_image_are_its_channels() -> None:
    net = squashed("softmax", "cross_entropy", 3)
    trace = net.build()
    image = trace.sites["site"].isin(["end", "loss:cross_entropy"])
    trace.sites.loc[image, "shape"] = "64x3x8x50"
    assert only(STANDS, trace).evidence["floor"] == pytest.approx(math.log(math.e + 2) - 1)


@pytest.mark.parametrize(
    ("losses", "severity"),
    [
        ([10.0, 12.0, 11.0] + [500.0] * 4 + [3.0] * 8, "warning"),
        ([10.0, 12.0, 11.0] + [500.0] * 4 + [80.0] * 8, "error"),
        ([10.0, 12.0, 11.0] + [5e5] * 4 + [3.0] * 8, "error"),
    ],
    ids=["comes back", "stays high", "rises too far to come back whole"],
)
def test_a_loss_that_rises_for_a_while(losses: list[float], severity: str) -> None:
    finding = only(DIVERGES, chain(loss=lambda step: losses[step], steps=len(losses)))
    assert (finding.severity, finding.evidence["step"]) == (severity, 3)
    assert ("comes back" in finding.message) == (severity == "warning")


def test_a_loss_that_the_first_steps_brought_down_is_told_as_it_is() -> None:
    finding = only(STANDS, chain(loss=lambda step: [4.0, 2.1, 0.9][step] if step < 3 else 0.66 - 0.01 * (step % 2)))
    assert "The loss comes from 2.333 in the first three steps and then stands" in finding.message
    assert "its median is 0.66 in the first third, and it is 0.6533 in the last three of 30" in finding.message


def test_a_loss_that_falls_at_once_and_goes_on_falling_falls() -> None:
    assert not found(STANDS, chain(loss=lambda step: 1.34 * 0.5**step if step < 3 else 1e-2 * 0.9**step))


@pytest.mark.parametrize(("then", "count"), [(0.02, 0), (0.2, 1)])
def test_a_loss_that_is_learned_in_the_first_steps_may_stand(then: float, count: int) -> None:
    losses = [0.6, 0.4, 0.3]
    net = chain(loss=lambda step: losses[step] if step < 3 else then * (1 + 0.01 * (step % 3)))
    assert len(found(STANDS, net)) == count


@pytest.mark.parametrize(
    ("pick", "turned"),
    [
        (lambda lp, y: lp.gather(1, y[:, None]).mean(), True),
        (lambda lp, y: lp[torch.arange(len(y)), y].sum(), True),
        (lambda lp, y: lp.gather(1, y[:, None]).mean() / 4, True),
        (lambda lp, y: -lp.gather(1, y[:, None]).mean(), False),
        (lambda lp, y: lp.gather(1, y[:, None]).mean() * -1, False),
        (lambda lp, y: (lp.gather(1, y[:, None]) * -torch.ones(len(y), 1)).mean(), False),
    ],
)
def test_log_probabilities_that_are_made_small(pick: Callable[..., torch.Tensor], turned: bool) -> None:
    torch.manual_seed(0)
    model, x = torch.nn.Linear(5, 3), torch.randn(30, 5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model) as watch:
        for _ in range(6):
            optimizer.zero_grad()
            pick(model(x).log_softmax(1), torch.arange(30) % 3).backward()
            optimizer.step()
    told = [one for one in watch.diagnose().findings if one.evidence.get("of") == "sign"]
    assert [(one.rule, one.severity) for one in told] == [("diverging-loss", "error")] * turned


@pytest.mark.parametrize(
    ("loss", "errors"),
    [
        (lambda step: 3.0 + 0.2 * step, 1),
        (lambda step: 3.0 + 0.03 * step, 0),  # by a trifle
        (lambda step: 3.0 + 0.2 * step if step < 25 else 3.0 - 0.2 * step, 0),  # below 0 at the end
        (lambda step: 3.0 + 0.2 * (30 - abs(step - 15)), 0),  # it comes back
    ],
)
def test_a_loss_that_rises_all_the_way(loss: Value, errors: int) -> None:
    findings = [one for one in found(DIVERGES, chain(loss=loss)) if one.evidence.get("of") == "rises"]
    assert [one.severity for one in findings] == ["error"] * errors


def test_a_loss_of_what_acts_or_takes_turns_may_rise() -> None:
    net = Net(loss=lambda step: 3.0 + 0.2 * step, optimizer=[float(step % 2) for step in range(30)]).output("0")
    assert not [one for one in found(DIVERGES, net) if one.evidence.get("of") == "rises"]
