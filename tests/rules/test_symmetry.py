"""symmetric-units: equal rows whose gradients are equal too."""

from __future__ import annotations

import pytest

from tests.rules.traces import DEFAULTS, UNITS, Net, Value, falling, flat, found, only

RULE = "symmetric-units"


@pytest.mark.parametrize(
    ("weight", "gradient", "count"),
    [(1.0, 1.0, 1), (0.0, 1.0, 0), (1.0, 0.0, 0), (1.0, 0.4, 0), (DEFAULTS["symmetric_error"], 1.0, 1)],
)
def test_both_must_be_alike(weight: float, gradient: float, count: int) -> None:
    net = Net(loss=flat).output("a").parameter("a.weight", twins=(weight * UNITS, gradient * UNITS))
    findings = found(RULE, net)
    assert len(findings) == count
    if findings:
        assert (findings[0].severity, findings[0].site) == ("error", "a.weight")
        assert findings[0].evidence["share"] == pytest.approx(min(weight, gradient))


@pytest.mark.parametrize(("share", "loss", "severity"), [
    (0.75, flat, "error"), (0.75, falling, "warning"), (1.0, falling, "error")
])  # fmt: skip
def test_some_twins_are_no_harm_where_the_loss_falls(share: float, loss: Value, severity: str) -> None:
    net = Net(loss=loss).output("a").parameter("a.weight", twins=(share * UNITS, share * UNITS))
    finding = only(RULE, net)
    assert finding.severity == severity
    assert ("no harm" in finding.message) == (severity == "warning")


def test_rows_of_zeros_without_a_gradient_have_their_cause_elsewhere() -> None:
    """As biases of attention to a single position, which change nothing."""
    net = Net(loss=flat).output("a").parameter("a.weight", rms=0.0, gradient=0.0, twins=(UNITS, UNITS))
    finding = only(RULE, net)
    assert (finding.severity, finding.evidence["of"]) == ("warning", "zero")


@pytest.mark.parametrize(("by", "count"), [(1, 1), (-1, 0)])
def test_threshold(by: int, count: int) -> None:
    twins = DEFAULTS["symmetric_error"] * UNITS + by
    assert len(found(RULE, Net().output("a").parameter("a.weight", twins=(twins, twins)))) == count


def test_the_first_of_several_is_named() -> None:
    net = Net()
    for name, twins in (("a", 0), ("b", 32), ("c", 32)):
        net.output(name).parameter(f"{name}.weight", twins=(twins, twins))
    finding = only(RULE, net)
    assert finding.site == "b.weight"
    assert finding.evidence["sites"] == ["b.weight", "c.weight"]


def test_a_frozen_weight_has_no_gradient_to_be_alike() -> None:
    net = Net().output("a").parameter("a.weight", gradient=None, ratio=None, trainable=False, twins=(32, 0))
    assert not found(RULE, net.output("b").parameter("b.weight", twins=(0, 0)))


def test_biases_have_no_rows() -> None:
    assert not found(RULE, Net().output("a").parameter("a.bias", "32"))


@pytest.mark.parametrize(("ratio", "of", "count"), [(0.51, 3, 1), (0.49, 3, 0), (0.9, 2, 0)])
def test_weights_of_one_sign(ratio: float, of: int, count: int) -> None:
    """In more than half of the matrices; here there are four."""
    net = Net(loss=flat)
    for number in range(4):
        net.output(f"{number}").parameter(f"{number}.weight", rms=0.1)
    trace = net.build()
    sided = trace.frame["site"].isin([f"{number}.weight" for number in range(of)]) & (trace.frame["kind"] == "weight")
    trace.frame.loc[sided, "mean"] = -0.1 * ratio
    findings = found(RULE, trace)
    assert [one.evidence["of"] for one in findings] == ["sign"] * count
    if findings:
        assert findings[0].site == "0.weight"
        assert findings[0].evidence["ratio"] == pytest.approx(ratio)
