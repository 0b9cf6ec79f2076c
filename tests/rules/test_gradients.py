"""vanishing-gradient and exploding-gradient: by decay over depth, not by size."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.rules.traces import DEFAULTS, Net, chain, even, flat, found, only, slowly

VANISHES, EXPLODES = "vanishing-gradient", "exploding-gradient"


@pytest.mark.parametrize("top", [1e-6, 1e-2, 1e3])
def test_an_even_decay_whatever_its_scale(top: float) -> None:
    net = chain(even(top * 1e-7, top), op="sigmoid", loss=flat)
    finding = only(VANISHES, net)
    assert finding.severity == "error"
    assert finding.site == "12"
    assert finding.evidence["ratio_bottom_to_top"] == pytest.approx(1e-7)
    assert finding.evidence["factor_per_layer"] == pytest.approx(0.1)
    assert (finding.evidence["bottom"], finding.evidence["top"]) == ("0", "14")
    assert finding.evidence["norm_top"] == pytest.approx(top * (64 * 32) ** 0.5)
    assert "x0.1 a layer over 8 layers" in finding.message
    assert "in place of sigmoid" in finding.remedy
    assert not found(EXPLODES, net)


@pytest.mark.parametrize(
    ("threshold", "just", "severity"),
    [
        ("vanishing_error", 0.9, "error"),
        ("vanishing_error", 1.1, "warning"),
        ("vanishing_crawl_error", 0.9, "error"),
        ("vanishing_crawl_error", 1.1, "warning"),
        ("vanishing_warning", 0.9, "warning"),
        ("vanishing_warning", 1.1, None),
    ],
)
def test_thresholds_of_a_decay_over_many_layers(threshold: str, just: float, severity: str | None) -> None:
    net = chain(even(just * DEFAULTS[threshold], 1.0, 20), loss=slowly if threshold == "vanishing_error" else flat)
    assert [one.severity for one in found(VANISHES, net)] == ([severity] if severity else [])


@pytest.mark.parametrize(("layers", "severity"), [(5, "error"), (20, "warning")])
def test_a_smaller_decay_is_an_error_where_each_layer_loses_much(layers: int, severity: str) -> None:
    net = chain(even(0.9 * DEFAULTS["vanishing_steep_error"], 1.0, layers), loss=slowly)
    assert only(VANISHES, net).severity == severity


def test_one_bottleneck_is_where_it_starts() -> None:
    finding = only(VANISHES, chain([1e-6] * 4 + [1.0] * 4, loss=flat))
    assert finding.severity == "error"
    assert finding.site == "6"
    assert 1e-7 <= finding.evidence["ratio_bottom_to_top"] <= 1.01e-6


def test_an_optimizer_that_rescales_while_the_loss_falls_makes_it_a_warning() -> None:
    decay = even(1e-6, 1.0, 20)
    finding = only(VANISHES, chain(decay, adaptive=True))
    assert finding.severity == "warning"
    assert "no visible harm" in finding.message
    assert only(VANISHES, chain(decay, adaptive=True, loss=flat)).severity == "error"
    assert only(VANISHES, chain(decay)).severity == "error"


@pytest.mark.parametrize(("loss", "count"), [(flat, 1), (None, 1), (lambda step: 2.3 * 0.9**step, 0)])
def test_a_decay_that_has_gone_is_forgiven_where_the_loss_has_fallen(loss: object, count: int) -> None:
    net = Net(loss=loss)  # type: ignore[arg-type]
    for number in range(6):
        net.output(f"{number}", gradient=lambda step, number=number: 10.0 ** (number - 5) if step < 15 else 0.1)
    assert len(found(VANISHES, net)) == count


@pytest.mark.parametrize(
    ("until", "end", "severity"), [(60, 1.7, "error"), (35, 1.7, None), (60, 0.5, None), (60, 2.2, "error")]
)
def test_a_decay_that_has_gone_after_the_loss_stood_for_long(until: int, end: float, severity: str | None) -> None:
    """Of 160 steps; nothing is forgiven where a good part of them is lost, and most of the loss is left."""
    net = Net(loss=lambda step: 2.3 if step < until else end, steps=160)
    for number in range(6):
        net.output(f"{number}", gradient=lambda step, number=number: 10.0 ** (number - 5) if step < until else 0.1)
    assert [one.severity for one in found(VANISHES, net)] == ([severity] if severity else [])


def test_experts_that_have_no_turn_do_not_count_as_ones_that_do_not_learn() -> None:
    """In the last steps only the last one is asked: what is not moved, or never ran, is no bottom."""
    net = chain([1e-4, 1e-3, 1.0], adaptive=True)
    for number in range(6):
        net.parameter(f"expert{number}.weight", gradient=None, ratio=0.0, order=-1 if number < 3 else 0)
    assert only(VANISHES, net).severity == "warning"


def test_gradients_that_are_exactly_zero() -> None:
    finding = only(VANISHES, chain([0.0, 0.0, 0.0, 0.1], loss=flat))
    assert finding.severity == "error"
    assert finding.site == "4"
    assert (finding.evidence["zero_layers"], finding.evidence["layers"]) == (3, 4)
    assert not found(VANISHES, chain([0.0, 0.1, 0.1, 0.1], loss=flat))
    assert not found(VANISHES, chain([0.0] * 4, loss=0.0))


@pytest.mark.parametrize(
    "gradients", [(0.01,) * 8, even(0.1, 1.0, 20), even(1.0, 0.1, 20), [1.0, 1e-8, 1.0, 1.0, 1.0, 1.0], [1e-8, 1.0]]
)
def test_what_is_no_decay(gradients: list[float]) -> None:
    net = chain(gradients, loss=flat)
    assert not found(VANISHES, net)
    assert not found(EXPLODES, net)


def test_normalization_and_nonlinearities_do_not_count() -> None:
    net = chain([1.0] * 6, loss=flat)
    for number in range(6):
        net.output(f"norm{number}", "normalization", "layer_norm", gradient=10.0 ** (-2 * number))
    assert not found(VANISHES, net) + found(EXPLODES, net)


@pytest.mark.parametrize(
    ("op", "words"), [("tanh", "glorot_normal for tanh"), ("relu", "for relu"), ("", "lecun_normal")]
)
def test_the_remedy_fits_the_activation(op: str, words: str) -> None:
    assert words in only(VANISHES, chain(even(1e-8, 1.0), op=op, loss=flat)).remedy


@pytest.mark.parametrize(
    ("threshold", "just", "severity"),
    [
        ("exploding_gradient_error", 1.1, "error"),
        ("exploding_gradient_error", 0.9, "warning"),
        ("exploding_gradient_warning", 1.1, "warning"),
        ("exploding_gradient_warning", 0.9, None),
    ],
)
def test_thresholds_of_growth(threshold: str, just: float, severity: str | None) -> None:
    net = chain(even(just * DEFAULTS[threshold], 1.0), loss=flat)
    assert [one.severity for one in found(EXPLODES, net)] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("rule", "threshold", "turned", "just", "severity"),
    [
        (VANISHES, "vanishing_error", 1, 1.1, "warning"),
        (VANISHES, "vanishing_error", 1, 0.9, "error"),
        (EXPLODES, "exploding_gradient_error", -1, 1.1, "warning"),
        (EXPLODES, "exploding_gradient_error", -1, 0.9, "error"),
    ],
)
def test_ends_that_are_near_to_each_other_make_it_a_warning(
    rule: str, threshold: str, turned: int, just: float, severity: str
) -> None:
    """Whatever lies between: a first layer that gets as much as it needs, projections that are normalized."""
    ends = (just * DEFAULTS[threshold] ** turned * 10**0.5) ** turned
    gradients = even(0.01 * DEFAULTS[threshold] if turned > 0 else 100 * DEFAULTS[threshold], 1.0, 20)
    gradients[0] = ends
    assert only(rule, chain(gradients, loss=slowly)).severity == severity


def test_growth_and_its_numbers() -> None:
    finding = only(EXPLODES, chain(even(1e7, 1.0)))
    assert finding.site == "0"
    assert finding.evidence["growth"] == pytest.approx(1e7)
    assert finding.evidence["factor_per_layer"] == pytest.approx(10)
    assert finding.evidence["step"] == 0


def test_growth_in_the_last_steps_only() -> None:
    net = Net()
    for number in range(6):
        net.output(f"{number}", gradient=lambda step, number=number: 10.0 ** (5 - number) if step >= 20 else 0.1)
    assert only(EXPLODES, net).evidence["step"] == 20


def test_calls_of_a_recurrent_cell_are_its_depth() -> None:
    net = Net()
    for call in range(10):
        net.output("cell", "recurrent", "rnn_cell", gradient=10.0 ** (9 - call), call=call)
    finding = only(EXPLODES, net)
    assert (finding.severity, finding.site) == ("error", "cell")
    assert finding.evidence["growth"] == pytest.approx(1e9)


def test_a_recurrence_written_by_hand_is_told_by_its_calls_and_gets_a_remedy_of_its_own() -> None:
    net = Net(loss=flat)
    for call in range(40):
        net.output("wx", gradient=10.0 ** (call - 39), call=call)
        net.output("wh", gradient=10.0 ** (call - 39), call=call)
    finding = only(VANISHES, net)
    assert finding.severity == "error" and "a call" in finding.message and "calls of 2 layers" in finding.message
    assert "orthogonal" in finding.remedy and "LSTM" in finding.remedy


def test_a_margin_that_is_kept_in_most_steps_is_no_vanished_gradient() -> None:
    """A hinge that has been learned: of the last steps most have a loss of 0, and the others a gradient."""

    def now(value: float) -> Callable[[int], float]:
        return lambda step: 0.0 if step % 3 else value

    net = Net(loss=now(0.01))
    for number in range(4):
        net.output(f"{number}", gradient=now(0.01))
    assert not found(VANISHES, net)


@pytest.mark.parametrize(
    ("frozen", "said"), [(False, "8.weight is zero in every step"), (True, "8.weight is zero and frozen")]
)
def test_a_weight_of_zeros_that_nothing_passes(frozen: bool, said: str) -> None:
    net = Net(loss=flat)
    for number in range(4):
        net.output(f"{2 * number}", gradient=0.0).parameter(f"{2 * number}.weight", gradient=0.0)
    net.output("8", gradient=0.01, spread=0.0)
    if frozen:
        net.parameter("8.weight", gradient=None, ratio=None, trainable=False)
        net._frame = [row for row in net._frame if row["site"] != "8.weight"]  # as what is frozen is not measured
    else:
        net.parameter("8.weight", rms=0.0, gradient=0.01)
    finding = only("vanishing-gradient", net)
    assert said in finding.message
    assert finding.remedy.startswith("Initialize it at random")


@pytest.mark.parametrize(("targets", "severity"), [(0.9, "error"), (9.0, "warning")])
def test_a_loss_that_ends_at_the_targets_mean_is_no_proof_of_learning(targets: float, severity: str) -> None:
    """targets: their variance; the squared error falls from 2.3 to 0.9."""
    gradients = [10.0 ** (number - 9) for number in range(8)]
    net = chain(gradients, adaptive=True, loss=lambda step: max(2.3 * 0.9**step, 0.9))
    net.output("loss:mse_loss", "loss", "mse_loss", units=1, gradient=None)
    value = {"mean": lambda step: max(2.3 * 0.9**step, 0.9)}
    net.output("loss:mse_loss[value]", "loss", "mse_loss", units=1, samples=1, gradient=None, **value)
    net.output(
        "loss:mse_loss[target]", "target", "target", units=1, gradient=None, rms=targets**0.5, spread=1.0, var=targets
    )
    assert only("vanishing-gradient", net).severity == severity
