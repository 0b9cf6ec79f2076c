"""An input that is far too large, and a first loss that is far from a guess."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import diag
from tests.rules.traces import DEFAULTS, Net, Value, falling, flat, found

EXPLODES = "exploding-activation"


def fed(rms: float, behind: str = "layer", **options: object) -> Net:
    net = Net(**options)  # type: ignore[arg-type]
    net.output("data", "input", "input", rms=rms, gradient=None)
    return net.output("0", behind, "linear").output("1").output("2")


@pytest.mark.parametrize(
    ("just", "behind", "options", "severity"),
    [
        (1.01, "layer", {"loss": flat}, "error"),
        (0.99, "layer", {"loss": flat}, None),
        (1.01, "normalization", {"loss": flat}, "warning"),
        (1.01, "embedding", {"loss": flat}, "warning"),
        (1.01, "layer", {"loss": falling}, "warning"),
        (1.01, "layer", {"loss": flat, "optimizer": None}, "warning"),
    ],
)
def test_an_input_that_is_not_standardized(
    just: float, behind: str, options: dict[str, object], severity: str | None
) -> None:
    findings = found(EXPLODES, fed(just * DEFAULTS["input_error"], behind, **options))
    assert [one.severity for one in findings] == ([severity] if severity else [])
    if findings:
        assert (findings[0].site, findings[0].evidence["of"]) == ("data", "input")


def test_behind_a_batch_normalization_an_input_may_have_any_scale() -> None:
    net = Net(loss=flat).output("data", "input", "input", rms=1e3, gradient=None)
    net.output("0", "normalization", "batch_norm").output("1").output("2")
    assert not found(EXPLODES, net)


def classified(
    loss: Value, classes: int = 10, largest: float = 1e4, op: str = "cross_entropy", most: float | None = None
) -> Net:
    net = Net(loss=loss).output("0").output("1").output("2")
    net.output("loss", "loss", op, units=classes, min=-largest, max=largest if most is None else most)
    values = [loss(step) if callable(loss) else loss for step in range(30)]
    return net.output("loss[value]", "loss", op, mean=values)  # type: ignore[arg-type]


CHANCE = math.log(10)


@pytest.mark.parametrize(
    ("first", "last", "count"), [(4.6, 1.1, 1), (4.4, 1.1, 0), (4.6, 0.9, 0), (1000.0, 30.0, 1), (1.0, 1.0, 0)]
)
def test_a_first_loss_far_above_a_guess(first: float, last: float, count: int) -> None:
    loss = lambda step: CHANCE * (first if step < 5 else last)  # noqa: E731 -- a value per step
    findings = [one for one in found(EXPLODES, classified(loss)) if one.evidence.get("of") == "output"]
    assert len(findings) == count
    if findings:
        assert findings[0].evidence["chance"] == pytest.approx(CHANCE)
        assert findings[0].site == "loss"


@pytest.mark.parametrize(("most", "count"), [(0.0, 1), (2.0, 0)])
def test_log_probabilities_are_judged_as_logits_are(most: float, count: int) -> None:
    made = classified(lambda step: 50 * CHANCE if step < 15 else 3 * CHANCE, op="nll_loss", most=most)
    assert len(outputs_too_large(made)) == count


def test_a_sum_over_the_targets_is_no_large_loss() -> None:
    # As the Trainer of transformers has it: 64 targets, each as good as a guess.
    loss = lambda step: 64 * CHANCE * (1.1 if step < 5 else 1.05)  # noqa: E731 -- a value per step
    assert not [one for one in found(EXPLODES, classified(loss, largest=2.0)) if one.evidence.get("of") == "output"]
    assert [one for one in found(EXPLODES, classified(loss, largest=1e4)) if one.evidence.get("of") == "output"]


def judged(op: str, loss: Value, rms: Value, largest: float = 300.0) -> Net:
    """A network whose loss reads outputs of this rms."""
    net = Net(loss=loss).output("0").output("1").output("2")
    net.output("loss", "loss", op, units=1, rms=rms, min=-largest, max=largest)
    values = [loss(step) if callable(loss) else loss for step in range(30)]
    return net.output("loss[value]", "loss", op, mean=values)  # type: ignore[arg-type]


def outputs_too_large(net: Net) -> list[object]:
    return [one for one in found(EXPLODES, net) if one.evidence.get("of") == "output"]


@pytest.mark.parametrize(("first", "last", "count"), [(100.0, 20.0, 1), (3.0, 0.6, 0), (3.2, 0.6, 0), (3.2, 0.8, 1)])
def test_a_first_binary_loss_far_above_an_even_guess(first: float, last: float, count: int) -> None:
    loss = lambda step: first if step < 5 else last  # noqa: E731 -- a value per step
    assert len(outputs_too_large(judged("binary_cross_entropy_with_logits", loss, 100.0))) == count


def test_a_sum_of_binary_losses_is_no_large_loss() -> None:
    # As the logits' range tells: 64 targets, each as good as a guess.
    summed = judged("binary_cross_entropy_with_logits", 64 * 0.7, 0.5, largest=2.0)
    assert not outputs_too_large(summed)
    assert outputs_too_large(judged("binary_cross_entropy_with_logits", 64 * 0.7, 50.0))


@pytest.mark.parametrize(
    ("shares", "fall", "count"),
    [((1.0, 1.0), 20.0, 1), ((1.0, 1.0), 5.0, 0), ((1.0, 0.3), 20.0, 0), ((0.3, 1.0), 20.0, 0), ((3.0, 1.0), 20.0, 0)],
)
def test_a_squared_error_that_is_all_the_predictions_own(shares: tuple[float, float], fall: float, count: int) -> None:
    loss = lambda step: 1000.0 if step < 5 else 1000.0 / fall  # noqa: E731 -- a value per step
    rms = lambda step: (shares[step >= 5] * loss(step)) ** 0.5  # noqa: E731 -- a value per step
    assert len(outputs_too_large(judged("mse_loss", loss, rms))) == count


@pytest.mark.parametrize(("first", "count"), [(10.5, 1), (9.5, 0)])
def test_predictions_of_usual_size_may_come_down_to_small_targets(first: float, count: int) -> None:
    loss = lambda step: first if step < 5 else first / 20  # noqa: E731 -- a value per step
    assert len(outputs_too_large(judged("mse_loss", loss, lambda step: loss(step) ** 0.5))) == count


@pytest.mark.parametrize(("passed", "severity"), [(2000.0, "error"), (1.0, "warning")])
def test_columns_beside_embeddings_are_an_input_of_layers(passed: float, severity: str) -> None:
    """An embedding takes no numbers: what the layers behind it put out tells whether they were given the input."""
    net = Net(loss=flat).output("input", "input", "input", rms=20_000.0, gradient=None)
    net.output("table", "embedding", "embedding").parameter("table.weight")
    for number in range(3):
        net.output(f"{number}", rms=passed).parameter(f"{number}.weight")
    [finding] = [one for one in found("exploding-activation", net) if one.evidence.get("of") == "input"]
    assert finding.severity == severity


@pytest.mark.parametrize(("last", "severity"), [(0.01, "warning"), (2.0, "error")])
def test_large_activations_of_a_network_that_has_learned_are_a_warning(last: float, severity: str) -> None:
    """As of a last layer whose logits have grown to what the data allow."""
    losses = [2.3] + [last] * 29
    net = Net(loss=losses).output("input", "input", "input", gradient=None)
    net.output("head", rms=lambda step: 1.0 if step < 3 else 300.0, units=10)
    net.output("loss:cross_entropy", "loss", "cross_entropy", rms=300.0, gradient=None, units=10)
    net.output("loss:cross_entropy[value]", "loss", "cross_entropy", gradient=None, mean=losses)
    found_ = [one for one in found("exploding-activation", net) if "reach rms" in one.message]
    assert [one.severity for one in found_] == [severity]


def test_a_low_binary_cross_entropy_is_no_proof_of_learning() -> None:
    """Where one class is rare, a constant has it too."""
    losses = [0.69] + [0.01] * 29
    net = Net(loss=losses).output("input", "input", "input", gradient=None)
    net.output("head", rms=lambda step: 1.0 if step < 3 else 300.0, units=10)
    op = "binary_cross_entropy_with_logits"
    net.output(f"loss:{op}", "loss", op, rms=300.0, gradient=None, units=10)
    net.output(f"loss:{op}[value]", "loss", op, gradient=None, mean=losses)
    assert [one.severity for one in found("exploding-activation", net) if "reach rms" in one.message] == ["error"]


@pytest.mark.parametrize(
    ("last", "rms", "tied", "named"),
    [(6.0, 1.0, True, True), (4.0, 1.0, True, True), (3.0, 1.0, True, False), (6.0, 0.02, True, None),
     (6.0, 1.0, False, None), (4.0, 1.0, False, False)],
)  # fmt: skip
def test_an_output_layer_tied_to_a_large_embedding(last: float, rms: float, tied: bool, named: bool | None) -> None:
    """Of 128 classes a guess has 4.85; the first loss is 60. named: None where only the logits' size is told."""
    net = Net(loss=lambda step: max(last, 60 - 5.0 * step))
    net.output("embed", "embedding", "embedding").parameter("embed.weight", "128x64", rms=rms)
    net.output("body").parameter("body.weight")
    net.output("head", units=128)
    if not tied:
        net.parameter("head.weight", "128x32")
    net.output("loss:cross_entropy", "loss", "cross_entropy", units=128, rms=40.0)
    net.output("loss:cross_entropy[value]", "loss", "cross_entropy", samples=1, units=1,
               mean=lambda step: max(last, 60 - 5.0 * step))  # fmt: skip
    findings = [one for one in found("exploding-activation", net) if one.evidence.get("of") == "output"]
    assert [one.site for one in findings] == (
        [] if named is False else ["embed.weight" if named else "loss:cross_entropy"]
    )
    for one in findings:
        assert (one.severity, one.evidence["first"], one.evidence["last"]) == ("error", 60.0, last)
        assert ("1 / sqrt(64) = 0.12" in one.remedy) == bool(named)


@pytest.mark.parametrize(
    ("scale", "written_out", "count"), [(30.0, False, 1), (30.0, True, 1), (1.0, False, 0), (1.0, True, 0)]
)
def test_squared_errors_far_above_the_targets_variance(scale: float, written_out: bool, count: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    nn.init.normal_(net[2].weight, std=scale)
    x, y = torch.randn(64, 8), torch.randn(64, 1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    with diag.watch(net, optimizer) as watch:
        for _ in range(30):
            optimizer.zero_grad()
            loss = (net(x) - y).square().mean() if written_out else F.mse_loss(net(x), y)
            loss.backward()
            optimizer.step()
    told = [one for one in watch.diagnose().findings if one.evidence.get("guess")]
    assert [one.severity for one in told] == ["error"] * count
    if count:
        assert told[0].evidence["guess"] == pytest.approx(float(y.var(correction=0)), rel=1e-4)


@pytest.mark.parametrize(
    ("rms", "weight", "seen", "of"),
    [(6e3, 0.1, False, "input"), (6e3, 3.0, False, None), (6e3, 0.1, True, None)],
    ids=["what it is given must be large", "its weights are", "what it is given was seen"],
)
def test_an_input_that_was_not_seen(rms: float, weight: float, seen: bool, of: str | None) -> None:
    net = Net(loss=flat)
    if seen:
        net.output("data", "input", "input", rms=1.0, gradient=None)
    net.output("conv", rms=rms).parameter("conv.weight", rms=weight).output("1", rms=5.0).output("2", rms=5.0)
    findings = found(EXPLODES, net)
    assert [(one.site, one.evidence.get("of")) for one in findings] == [("conv", of)]
    if of:
        assert findings[0].evidence["rms"] == pytest.approx(rms / (weight * 32**0.5))
