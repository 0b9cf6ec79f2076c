"""non-finite: where a NaN was born, as opposed to passed on."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from diag.rules.judge import judge
from tests.rules.traces import Net, Value, falling, found, only

RULE = "non-finite"
Bad = Mapping[tuple[str, int], int]


def nan_from(step: int) -> Value:
    return lambda now: math.nan if now >= step else 1.0 - 0.01 * now


def net(loss: Value | None = 1.0, *, roles: Mapping[str, str] | None = None, **bad: Bad) -> Net:
    """Input, sites a, b, c with a weight each; `a` and `a_weight` name what is bad in a and its weight."""
    made = Net(loss=loss).output("input", "input", "input", gradient=None, bad=bad.get("input"))
    for name in "abc":
        made.output(name, bad=bad.get(name)).parameter(f"{name}.weight", bad=bad.get(f"{name}_weight"))
    return made


def test_born_in_the_data() -> None:
    broken = {("activation", 4): 7}
    finding = only(RULE, net(nan_from(4), input=broken, a={("activation", 4): 32}, b={("activation", 4): 64}))
    assert (finding.severity, finding.site) == ("error", "input")
    assert {name: finding.evidence[name] for name in ("step", "phase", "nonfinite", "batch")} == {
        "step": 4,
        "phase": "data",
        "nonfinite": 7,
        "batch": 4,
    }
    assert "The input itself holds 7 non-finite values of 2048 in step 4" in finding.message


def test_born_in_a_forward_pass() -> None:
    finding = only(RULE, net(nan_from(4), b={("activation", 4): 3}, c={("activation", 4): 2048}))
    assert (finding.site, finding.evidence["phase"], finding.evidence["nonfinite"]) == ("b", "forward", 3)
    assert "b (linear) returns 3 non-finite values of 2048 in step 4 from finite inputs" in finding.message


def test_born_in_the_loss() -> None:
    finding = only(RULE, net(nan_from(4), c={("gradient", 4): 2048}))
    assert (finding.site, finding.evidence["phase"], finding.evidence["step"]) == ("loss", "forward", 4)
    assert "although every measured activation is finite" in finding.message


def test_born_in_the_backward_pass_of_what_stands_above() -> None:
    bad = {("gradient", 4): 9}
    finding = only(RULE, net(a=bad, b=bad, a_weight={("weight_gradient", 4): 5}, c_weight={("weight", 5): 1}))
    assert (finding.severity, finding.site, finding.evidence["phase"]) == ("error", "c", "backward")
    assert "finite at c and non-finite at b below it in step 4" in finding.message


def test_born_in_the_backward_pass_of_the_loss() -> None:
    bad = {("gradient", 4): 9}
    finding = only(RULE, net(a=bad, b=bad, c=bad, a_weight={("weight_gradient", 4): 5}))
    assert (finding.site, finding.evidence["phase"]) == ("c", "backward")
    assert "born in the loss's backward pass" in finding.message


def test_born_in_the_gradient_of_a_parameter() -> None:
    finding = only(RULE, net(b_weight={("weight_gradient", 4): 5, ("update", 4): 5}))
    assert (finding.site, finding.evidence["phase"], finding.evidence["nonfinite"]) == ("b.weight", "backward", 5)


def test_born_in_the_optimizers_step() -> None:
    finding = only(RULE, net(nan_from(5), b_weight={("update", 4): 8}, b={("activation", 5): 99}))
    assert (finding.site, finding.evidence["phase"], finding.evidence["step"]) == ("b.weight", "step", 4)
    assert "although its gradient is finite" in finding.message


def test_there_from_the_start_in_a_weight() -> None:
    bad = {("activation", 0): 99}
    finding = only(RULE, net(nan_from(0), b_weight={("weight", 0): 1}, b=bad, c=bad))
    assert (finding.site, finding.evidence["phase"], finding.evidence["step"]) == ("b.weight", "weight", 0)


def test_a_mask_of_infinities_does_no_harm() -> None:
    masked = net(b={("activation", step): 100 for step in range(30)})
    finding = only(RULE, masked)
    assert (finding.severity, finding.site) == ("note", "b")
    assert "reached neither the loss nor a weight" in finding.message


def test_where_no_loss_was_seen_an_activation_is_enough() -> None:
    assert only(RULE, net(None, b={("activation", 2): 1})).severity == "error"


def test_steps_that_a_grad_scaler_skipped_are_forgiven() -> None:
    scaled = net(a_weight={("weight_gradient", 0): 5, ("weight_gradient", 1): 5})
    scaled.coverage["skipped_steps"] = [0, 1]
    assert not found(RULE, scaled)
    scaled.coverage["skipped_steps"] = [0]
    assert only(RULE, scaled).evidence["step"] == 1


def test_all_finite() -> None:
    assert not found(RULE, net())


def test_a_harmless_mask_is_not_blamed_for_a_later_nan() -> None:
    mask = {("activation", step): 100 for step in range(30)}
    broken = net(nan_from(15), a=mask, c={("activation", step): 9 for step in range(15, 30)})
    errors = [one for one in found(RULE, broken) if one.severity == "error"]
    assert [(one.site, one.evidence["step"]) for one in errors] == [("c", 15)]


def test_a_harmless_mask_hides_no_steps_from_the_other_rules() -> None:
    masked = Net(loss=lambda step: 2.3 * 0.95**step)
    for name in "abc":
        masked.output(name, bad={("activation", step): 100 for step in range(30)} if name == "b" else None)
        masked.parameter(f"{name}.weight", ratio=lambda step: 1e-7 if step < 2 else 1e-3)
    assert not [one for one in judge(masked.build(), {}) if one.severity == "error"]


@pytest.mark.parametrize(("op", "site"), [("softmax", "b"), ("log", "c")])
def test_what_the_loss_leaves_out_has_a_gradient_all_the_same(op: str, site: str) -> None:
    """Rows that are masked throughout: padding, so that the loss is finite. A log of 0 may lie behind `where`."""
    bad = {("activation", 0): 12, ("gradient", 0): 12}
    made = Net(loss=1.0).output("a", bad={("gradient", 0): 64}).parameter("a.weight", bad={("weight_gradient", 0): 9})
    made.output("b", "nonlinearity" if op == "softmax" else "elementwise", op, bad=bad)
    made.output("c", bad={("gradient", 0): 3} if op == "log" else bad)
    finding = only(RULE, made)
    assert (finding.site, finding.severity) == (site, "error")
    assert (("masked with -inf" in finding.remedy) and ("leaves them out" in finding.message)) == (op == "softmax")


def test_what_does_no_harm_follows_from_nothing() -> None:
    harmless = Net(loss=falling).output(
        "log", "elementwise", "log", bad={("activation", step): 4 for step in range(30)}
    )
    grows = [10.0 ** (number / 2) for number in range(8)]
    for number, rms in enumerate(grows):
        harmless.output(f"{number}", rms=rms)
    findings = judge(harmless.build(), {})
    assert [one.rule for one in findings] == ["exploding-activation", RULE]
    assert findings[1].severity == "note"
    assert findings[1].remedy.startswith("If it is no mask")


def test_born_in_data_that_the_loss_leaves_out() -> None:
    """The loss of the last position alone is finite; the weights' gradients are not."""
    bad = {("activation", 0): 1}
    finding = only(RULE, net(input=bad, a={("activation", 0): 32}, a_weight={("weight_gradient", 0): 5}))
    assert (finding.site, finding.evidence["phase"], finding.evidence["step"]) == ("input", "data", 0)
