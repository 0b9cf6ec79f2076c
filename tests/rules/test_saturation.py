"""saturated-activation: by the slope of the activation that produced it, in hidden layers."""

from __future__ import annotations

import math

import pytest

from tests.rules.traces import DEFAULTS, Net, Value, falling, flat, found, only

RULE = "saturated-activation"


def net(share: Value, op: str = "sigmoid", rms: float = 1.0, **columns: Value) -> Net:
    """An input, a layer, an activation saturated to this share, a layer."""
    started = Net().output("data", "input", "input", rms=rms).output("0")
    return started.output("1", "nonlinearity", op, saturated_fraction=share, **columns).output("2")


@pytest.mark.parametrize(
    ("threshold", "by", "severity"),
    [
        ("saturated_error", 0.01, "error"),
        ("saturated_error", -0.01, "warning"),
        ("saturated_warning", 0.01, "warning"),
        ("saturated_warning", -0.01, None),
    ],
)
@pytest.mark.parametrize("op", ["sigmoid", "tanh"])
def test_thresholds(op: str, threshold: str, by: float, severity: str | None) -> None:
    findings = found(RULE, net(DEFAULTS[threshold] + by, op))
    assert [one.severity for one in findings] == ([severity] if severity else [])


def test_the_numbers_and_the_step() -> None:
    finding = only(RULE, net(lambda step: 0.9 if step >= 6 else 0.1))
    assert (finding.site, finding.severity) == ("1", "error")
    assert finding.evidence["saturated_fraction"] == pytest.approx(0.9)
    assert (finding.evidence["step"], finding.evidence["op"]) == (6, "sigmoid")
    assert "90% of the outputs of 1 (sigmoid)" in finding.message
    assert "standardize" not in finding.message


def test_a_large_input_is_named() -> None:
    finding = only(RULE, net(0.9, rms=150.0))
    assert "input's rms is 150: standardize it" in finding.message
    assert finding.evidence["input_rms"] == 150.0


def test_the_output_of_the_network_may_saturate() -> None:
    decoder = Net().output("0").output("1", "nonlinearity", "sigmoid", saturated_fraction=0.99)
    assert not found(RULE, decoder)


@pytest.mark.parametrize("op", ["relu", "leaky_relu", "clamp", "threshold", "softmax", "hardshrink"])
def test_a_flat_part_that_is_meant(op: str) -> None:
    assert not found(RULE, net(0.95, op))


def test_the_zeros_of_relu6_are_those_of_relu() -> None:
    assert not found(RULE, net(0.9, "relu6", zero_fraction=0.9))
    finding = only(RULE, net(0.9, "relu6", zero_fraction=0.1))
    assert finding.evidence["saturated_fraction"] == pytest.approx(0.8 / 0.9)


def test_where_no_slope_is_known_nothing_is_said() -> None:
    assert not found(RULE, net(float("nan")))


def test_a_moment_of_saturation_passes() -> None:
    assert not found(RULE, net(lambda step: 0.95 if step < 12 else 0.2))


def test_the_first_grave_site_is_named() -> None:
    several = Net().output("0")
    for number, share in enumerate([0.1, 0.6, 0.9, 0.8]):
        several.output(f"tanh{number}", "nonlinearity", "tanh", saturated_fraction=share)
    finding = only(RULE, several.output("last"))
    assert (finding.site, finding.severity) == ("tanh2", "error")
    assert finding.evidence["sites"] == ["tanh1", "tanh2", "tanh3"]
    assert "in 3 of 4 activations" in finding.message


def hidden(*ops: str, loss: Value = flat) -> Net:
    """Layers with these activations between them."""
    made = Net(loss=loss).output("data", "input", "input").output("0")
    for number, op in enumerate(ops):
        made.output(f"{number}:{op}", "nonlinearity", op).output(f"{number + 1}")
    return made


def test_hidden_sigmoids_and_a_loss_that_does_not_fall() -> None:
    finding = only(RULE, hidden("sigmoid", "sigmoid"))
    assert (finding.severity, finding.site, finding.evidence["of"]) == ("error", "0:sigmoid", "sigmoid")


@pytest.mark.parametrize(
    ("ops", "loss"),
    [
        (("sigmoid", "sigmoid"), falling),
        (("sigmoid", "relu"), flat),
        (("sigmoid",), flat),
        (("tanh", "tanh"), flat),
    ],
)
def test_sigmoids_that_are_no_cause(ops: tuple[str, ...], loss: Value) -> None:
    assert not found(RULE, hidden(*ops, loss=loss))


def test_a_sigmoid_behind_the_last_layer_is_the_outputs() -> None:
    assert not found(RULE, hidden("sigmoid").output("last", "nonlinearity", "sigmoid"))


@pytest.mark.parametrize(
    ("name", "scale", "loss", "severity"),
    [
        ("rnn.weight_hh_l0", 1.1, flat, "error"),
        ("rnn.weight_hh_l1_reverse", 1.1, flat, "error"),
        ("cell.weight_hh", 1.1, falling, "warning"),
        ("rnn.weight_hh_l0", 0.9, flat, None),
        ("rnn.weight_ih_l0", 1.1, flat, None),
    ],
)
def test_recurrent_weights_far_beyond_an_orthogonal_matrix(
    name: str, scale: float, loss: Value, severity: str | None
) -> None:
    rms = scale * DEFAULTS["recurrent_error"] / 48**0.5
    made = Net(loss=loss).output("rnn", "recurrent", "lstm").parameter(name, shape="192x48", rms=rms)
    findings = found(RULE, made)
    assert [(one.severity, one.site) for one in findings] == ([(severity, name)] if severity else [])


@pytest.mark.parametrize(("rms", "count"), [(0.7, 0), (0.5, 1)])
def test_a_sigmoid_inside_an_activation_of_its_own_is_a_gate(rms: float, count: int) -> None:
    """Where the module puts out what the sigmoid does, it is a sigmoid; `x * sigmoid(1.702 x)` is a GELU."""
    net = Net(loss=flat).output("data", "input", "input").output("0")
    for number in (1, 3):
        net.output(f"{number}:sigmoid", "nonlinearity", "sigmoid", rms=0.5, saturated_fraction=0.95)
        net.output(f"{number}", "other", "QuickGELU", rms=rms).output(f"{number + 1}")
    assert len(found(RULE, net)) == count


@pytest.mark.parametrize(
    ("weight", "said"), [(2.0, "1.weight begins with rms times sqrt(fan_in) 11.3"), (0.1, "The input's rms is 9")]
)
def test_what_saturates_is_told_by_size(weight: float, said: str) -> None:
    net = Net(loss=flat).output("data", "input", "input", rms=9.0, gradient=None)
    net.output("0").parameter("0.weight").output("1").parameter("1.weight", rms=weight)
    net.output("act", "nonlinearity", "tanh", saturated_fraction=0.95).output("2").parameter("2.weight")
    assert said in only("saturated-activation", net).message


def attending(squares: float, entries: int = 8, loss: Value = flat, later: bool = False) -> Net:
    """A softmax over so many entries whose squared probabilities add up to this, before a last layer."""
    net = Net(loss=loss).output("0")
    rms = (squares / entries) ** 0.5
    net.output("softmax", "nonlinearity", "softmax", rms=rms, mean=1 / entries, saturated_fraction=math.nan)
    return net if later else net.output("1")


@pytest.mark.parametrize(
    ("net", "count"),
    [
        (attending(0.91), 1),
        (attending(0.89), 0),
        (attending(1.0, entries=2), 0),  # of two entries one is large by chance
        (attending(1.0, later=True), 0),  # probabilities that are put out
        (attending(1.0, loss=lambda step: 2.3 * 0.8**step), 0),
    ],
)
def test_a_softmax_that_is_one_hot_from_the_start(net: Net, count: int) -> None:
    findings = [one for one in found("saturated-activation", net) if one.evidence.get("of") == "one-hot"]
    assert [(one.severity, one.site) for one in findings] == [("error", "softmax")] * count
