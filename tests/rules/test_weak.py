"""collapsed-signal by weights of next to nothing, by a single layer, and by the input's own spread."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag
from tests.rules.traces import DEFAULTS, Net, Value, falling, flat, found, only

RULE = "collapsed-signal"


def net(*scales: float, loss: Value = flat) -> Net:
    """Layers of 32 inputs whose weights have these times 1 / sqrt(32)."""
    made = Net(loss=loss).output("data", "input", "input")
    for name, scale in zip("abcdefgh", scales, strict=False):
        made.output(name).parameter(f"{name}.weight", rms=scale / 32**0.5)
    return made


def test_small_weights() -> None:
    limit = DEFAULTS["weights_error"]
    finding = only(RULE, net(0.9 * limit, 0.5 * limit, 0.9 * limit))
    assert (finding.severity, finding.site, finding.evidence["of"]) == ("error", "a.weight", "weights")
    assert finding.evidence["scale"] == pytest.approx(0.9 * limit)
    assert not found(RULE, net(1.1 * limit, 0.5 * limit, 1.1 * limit))


def test_small_weights_with_which_it_learns_are_a_warning() -> None:
    assert only(RULE, net(0.01, 0.01, 0.01, loss=falling)).severity == "warning"


def test_a_matrix_of_zeros_and_a_single_one_say_nothing() -> None:
    """Zero is set on purpose, as behind a residual branch."""
    assert not found(RULE, net(1.0, 0.0, 0.0))
    assert not found(RULE, net(0.001))


@pytest.mark.parametrize("of", ["lost_error", "lost_crawl_error"])
def test_one_layer_that_makes_all_samples_look_alike(of: str) -> None:
    def made(by: float) -> Net:
        one = Net(loss=flat if of == "lost_crawl_error" else falling).output("data", "input", "input").output("a")
        return one.output("b", spread=by * DEFAULTS[of]).output("c", "dropout", "dropout").output("d")

    finding = only(RULE, made(0.9))
    assert (finding.severity, finding.site, finding.evidence["of"]) == ("error", "b", "lost")
    assert not found(RULE, made(1.1))


def test_a_normalization_may_blow_up_what_is_left_of_the_samples() -> None:
    made = Net(loss=falling).output("data", "input", "input").output("a")
    made.output("norm", "normalization", "layer_norm", spread=0.9 * DEFAULTS["lost_error"]).output("b").output("c")
    assert only(RULE, made).site == "norm"


def test_a_layer_of_what_is_no_sample_varies_not_at_all() -> None:
    made = Net(loss=flat).output("data", "input", "input").output("a")
    assert not found(RULE, made.output("positions", spread=0.0).output("b").output("c"))


def test_an_activation_may_be_a_constant_beside_the_signal() -> None:
    """A gate that begins at sigmoid(0), the softmax of scores that begin at 0."""
    made = Net(loss=flat).output("data", "input", "input").output("a")
    assert not found(RULE, made.output("gate", "nonlinearity", "sigmoid", spread=1e-12).output("b").output("c"))


@pytest.mark.parametrize("loss", [flat, falling])
def test_an_offset_that_drowns_the_samples(loss: Value) -> None:
    made = Net(loss=loss).output("data", "input", "input", rms=1000.0, spread=1e-6).output("a").output("b")
    finding = only(RULE, made)
    assert (finding.severity, finding.site, finding.evidence["of"]) == ("error", "data", "input")
    assert "differ by 1e-03 of its rms" in finding.message
    assert not found(RULE, Net(loss=loss).output("data", "input", "input", rms=100.0, spread=1e-4).output("a"))


@pytest.mark.parametrize(("rms", "loss", "fires"), [(0.01, flat, True), (0.01, falling, False), (0.1, flat, False)])
def test_a_tiny_input(rms: float, loss: Value, fires: bool) -> None:
    findings = found(RULE, Net(loss=loss).output("data", "input", "input", rms=rms).output("a"))
    assert [(one.site, one.evidence["of"]) for one in findings] == [("data", "input")] * fires


@pytest.mark.parametrize(
    ("bias", "loss", "severity"), [(-5.0, flat, "error"), (-5.0, falling, "warning"), (0.0, flat, "warning")]
)
def test_a_layer_that_is_shut_by_its_biases(bias: float, loss: Value, severity: str) -> None:
    net = Net(loss=loss).output("embed", "embedding", "embedding", rms=1.0)
    net.output("rnn", "recurrent", "lstm", rms=3e-9).parameter("rnn.bias_ih_l0", "32", rms=abs(bias) or 0.1)
    for row in net._frame:
        if row["site"] == "rnn.bias_ih_l0" and row["kind"] == "weight":
            row["mean"] = bias
    net.output("mid", rms=1e-4).output("head", rms=0.05)
    [finding] = found("collapsed-signal", net)
    assert (finding.site, finding.severity, finding.evidence["of"]) == ("rnn", severity, "faint")
    assert ("biases are -5" in finding.message) == (bias < 0)
    assert not found("exploding-activation", net)


def test_what_grows_beyond_1_is_no_weak_bottom() -> None:
    net = Net(loss=flat)
    for number in range(6):
        net.output(f"{number}", rms=10.0 ** (2 * number - 8))
    assert not [one for one in found("collapsed-signal", net) if one.evidence["of"] == "faint"]
    assert found("exploding-activation", net)


def test_a_faint_layer_whose_weights_were_not_measured() -> None:
    net = Net(loss=flat).output("embed", rms=3e-9).output("mid", rms=1e-4).output("head", rms=0.05)
    assert [(one.severity, one.evidence["of"]) for one in found("collapsed-signal", net)] == [("warning", "faint")]


def test_small_weights_with_which_only_the_mean_is_learned_are_an_error() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    for one in model[::2]:
        nn.init.normal_(one.weight, std=1e-4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model) as watch:
        for _ in range(60):
            x = torch.randn(64, 8)
            optimizer.zero_grad()
            F.mse_loss(model(x), 3 + x[:, :1].sign() * x[:, 1:2].sign()).backward()
            optimizer.step()
    (finding,) = [one for one in watch.diagnose().findings if one.evidence.get("of") == "weights"]
    assert finding.severity == "error"
