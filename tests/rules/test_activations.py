"""exploding-activation and collapsed-signal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

import diag
from tests.rules.traces import DEFAULTS, Net, Value, chain, even, falling, flat, found, only, slowly

EXPLODES, COLLAPSES = "exploding-activation", "collapsed-signal"
FLAT_GRADIENT = (0.01,) * 8


@pytest.mark.parametrize(
    ("threshold", "just", "severity"),
    [
        ("exploding_activation_error", 1.1, "error"),
        ("exploding_activation_error", 0.9, "warning"),
        ("exploding_activation_warning", 1.1, "warning"),
        ("exploding_activation_warning", 0.9, None),
    ],
)
def test_thresholds_of_growth_over_depth(threshold: str, just: float, severity: str | None) -> None:
    # Small ones: what is beyond the input's scale is another question.
    net = chain(FLAT_GRADIENT, even(1e-3, 1e-3 * just * DEFAULTS[threshold]))
    assert [one.severity for one in found(EXPLODES, net)] == ([severity] if severity else [])


def test_growth_over_depth_and_its_numbers() -> None:
    finding = only(EXPLODES, chain(FLAT_GRADIENT, [1.0, 1.0, 1.0, 1.0, 1e5, 1e5, 1e5, 1e5]))
    assert (finding.severity, finding.site) == ("error", "8")
    assert 1e5 <= finding.evidence["growth"] < 1e6
    assert finding.evidence["layers"] == 8
    assert "1.0e+00 at 0 to 1.0e+05 at 14" in finding.message


def test_growth_in_the_last_steps_only() -> None:
    net = Net()
    for number in range(6):
        net.output(f"{number}", rms=lambda step, number=number: 10.0 ** (number - 4) if step >= 20 else 0.1)
    assert only(EXPLODES, net).evidence["step"] == 20


def test_growth_from_the_second_step_on() -> None:
    """After one update that was far too large."""
    net = Net()
    for number in range(6):
        net.output(f"{number}", rms=lambda step, number=number: 1e3 * 10.0**number if step >= 1 else 1.0)
    assert only(EXPLODES, net).evidence["step"] == 1


@pytest.mark.parametrize(("rms", "count"), [(0.9, 0), (1.1, 1)])
@pytest.mark.parametrize("scale", [0.1, 50.0])
def test_a_hidden_layer_far_beyond_the_input(scale: float, rms: float, count: int) -> None:
    limit = DEFAULTS["exploding_activation_error"] * max(1.0, scale)
    net = Net().output("Net:input", "input", "input", rms=scale)
    net.output("a", rms=lambda step: rms * limit if step >= 4 else scale).output("b")
    findings = [one for one in found(EXPLODES, net) if one.evidence.get("of") != "input"]
    assert [one.severity for one in findings] == ["error"] * count
    if findings:
        assert (findings[0].site, findings[0].evidence["step"]) == ("a", 4)
        assert findings[0].evidence["input_rms"] == scale


def test_what_an_activation_shuts_is_no_explosion() -> None:
    """A bias of -1000 before ReLU: the units are dead, nothing grows."""
    for behind, count in ((0.0, 0), (900.0, 1)):
        net = Net().output("Net:input", "input", "input").output("a", rms=950.0)
        net.output("a:relu", "nonlinearity", "relu", rms=behind).output("b")
        assert len(found(EXPLODES, net)) == count


def test_the_greater_of_two_growths_is_told() -> None:
    net = Net()
    for number in range(6):
        net.output(f"{number}", rms=lambda step, number=number: (4.0 if step >= 20 else 2.3) ** (number - 5))
    assert only(EXPLODES, net).evidence["growth"] == pytest.approx(4.0**5)


@pytest.mark.parametrize(
    ("share", "loss", "count"), [(0.8, flat, 1), (0.8, falling, 0), (0.5, flat, 0), (1.0, flat, 0)]
)
def test_a_layer_whose_own_output_is_dropped(share: float, loss: Value, count: int) -> None:
    """Dropout inside of a module's forward; a state that begins at zero is none."""
    net = Net(loss=loss).output("Net:input", "input", "input").output("a", zero_fraction=share).output("b")
    findings = found(COLLAPSES, net)
    assert [one.evidence["of"] for one in findings] == ["dropout"] * count
    if findings:
        assert (findings[0].site, findings[0].evidence["zero_fraction"]) == ("a", pytest.approx(share))


def test_the_last_layer_may_have_the_targets_scale() -> None:
    net = Net().output("Net:input", "input", "input").output("a").output("b", rms=1e4)
    assert not found(EXPLODES, net)


def test_what_does_not_explode() -> None:
    assert not found(EXPLODES, chain(FLAT_GRADIENT))
    assert not found(EXPLODES, chain(FLAT_GRADIENT, even(1.0, 1e-6)))
    assert not found(EXPLODES, chain(FLAT_GRADIENT, [1.0, 1.0, 1.0, 20.0, 1.0, 1.0, 1.0, 1.0]))


@pytest.mark.parametrize(("just", "count"), [(0.9, 1), (1.1, 0)])
def test_a_signal_that_fades(just: float, count: int) -> None:
    net = chain(FLAT_GRADIENT, even(1.0, just * DEFAULTS["collapsed_scale_error"]), loss=flat)
    findings = found(COLLAPSES, net)
    assert [(one.severity, one.evidence["of"]) for one in findings] == [("error", "scale")] * count
    if findings:
        assert findings[0].evidence["ratio"] == pytest.approx(just * DEFAULTS["collapsed_scale_error"])


def test_a_bottleneck_is_where_it_fades() -> None:
    assert only(COLLAPSES, chain(FLAT_GRADIENT, [1.0] * 4 + [1e-6] * 4)).site == "8"


def test_a_zero_initialized_branch_does_not_fade() -> None:
    net = Net().output("Net:input", "input", "input")
    for number in range(6):
        net.output(f"{number}.in", rms=1.0).output(f"{number}.out", rms=0.0)
    assert not found(COLLAPSES, net)


@pytest.mark.parametrize("branch", [1e-6, 1e-3])
def test_branches_scaled_down_do_not_fade(branch: float) -> None:
    net = Net().output("Net:input", "input", "input").output("stem")
    for number in range(6):
        net.output(f"{number}.in", rms=1.0).output(f"{number}.out", rms=branch)
    net.output("head")
    assert not found(COLLAPSES, net) + found(EXPLODES, net)


@pytest.mark.parametrize(("spread", "count"), [(0.0, 1), (1e-4, 0), (0.5, 0)])
def test_every_sample_the_same(spread: float, count: int) -> None:
    trace = chain(net=Net().output("data", "input", "input", gradient=None, spread=spread)).build()
    behind = (trace.frame["kind"] == "activation") & (trace.frame["site"] != "data")
    trace.frame.loc[behind, "sample_var"] *= float(spread > 0)
    findings = [one for one in found(COLLAPSES, trace) if one.evidence["of"] == "input"]
    assert len(findings) == count
    if findings:
        assert (findings[0].site, findings[0].severity) == ("data", "error")
        assert "in all 60 measurements" in findings[0].message


def test_an_input_that_another_network_made_is_that_ones_matter() -> None:
    trace = chain(net=Net().output("data", "input", "input", gradient=None, spread=0.0)).build()
    trace.frame.loc[trace.frame["kind"] == "activation", "sample_var"] *= 0.0
    trace.coverage["computed_inputs"] = ["data"]
    assert not [one for one in found(COLLAPSES, trace) if one.evidence["of"] == "input"]


@pytest.mark.parametrize(
    ("rms", "options", "severity"),
    [
        (1e-4, {"loss": flat}, "error"),
        (1e-4, {"loss": flat, "optimizer": None}, "warning"),
        (1e-4, {}, None),
        (1e-2, {"loss": flat}, "error"),
        (1e-1, {"loss": flat}, None),
    ],
)
def test_a_tiny_input(rms: float, options: dict[str, object], severity: str | None) -> None:
    net = Net(**options).output("data", "input", "input", rms=rms)  # type: ignore[arg-type]
    net.output("0").output("1")
    findings = found(COLLAPSES, net)
    assert [one.severity for one in findings] == ([severity] if severity else [])
    if findings:
        assert (findings[0].site, findings[0].evidence["rms"]) == ("data", rms)


@pytest.mark.parametrize(("share", "loss", "count"), [(0.84, flat, 1), (0.8, flat, 0), (0.84, falling, 0)])
def test_a_heavy_dropout_where_much_is_left_to_learn(share: float, loss: Value, count: int) -> None:
    net = Net(loss=loss).output("0").output("drop", "dropout", "dropout", zero_fraction=share).output("2")
    assert [one.evidence["of"] for one in found(COLLAPSES, net)] == ["dropout"] * count


@pytest.mark.parametrize(("units", "count"), [(32, 1), (32 * 49, 0)])
def test_a_heavy_dropout_behind_a_pooling_that_is_not_seen(units: int, count: int) -> None:
    """A relu of images, and a dropout of their means, most of which are zero: it may be the relu's doing."""
    net = Net(loss=flat).output("0").output("relu", "nonlinearity", "relu", units=units)
    net.output("drop", "dropout", "dropout", zero_fraction=0.84).output("2")
    assert len([one for one in found(COLLAPSES, net) if one.evidence["of"] == "dropout"]) == count


@pytest.mark.parametrize(("just", "count"), [(1.01, 1), (0.99, 0)])
def test_a_dropout_that_drops_nearly_all(just: float, count: int) -> None:
    share = just * DEFAULTS["dropped_share_error"]
    net = Net().output("0").output("drop", "dropout", "dropout", zero_fraction=share).output("2")
    findings = found(COLLAPSES, net)
    assert [one.evidence["of"] for one in findings] == ["dropout"] * count
    if findings:
        assert findings[0].site == "drop"
        assert findings[0].evidence["zero_fraction"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("spread", "loss", "severity"),
    [
        (0.9 * DEFAULTS["collapsed_spread_error"], slowly, "error"),
        (0.9 * DEFAULTS["collapsed_spread_error"], falling, "warning"),
        (1.1 * DEFAULTS["collapsed_spread_error"], slowly, "warning"),
        (0.9 * DEFAULTS["collapsed_spread_crawl_error"], flat, "error"),
        (1.1 * DEFAULTS["collapsed_spread_warning"], flat, None),
    ],
)
def test_samples_that_look_alike(spread: float, loss: Value, severity: str | None) -> None:
    net = Net(loss=loss).output("data", "input", "input")
    for number in range(6):
        net.output(f"{number}", spread=spread if number >= 2 else 0.3)
    findings = found(COLLAPSES, net)
    assert [one.severity for one in findings] == ([severity] if severity else [])
    if findings:
        assert findings[0].site == "2"
        assert findings[0].evidence["sites"] == 4
        assert findings[0].evidence["spread"] == pytest.approx(spread)


def test_a_side_branch_that_is_the_same_for_all_is_no_collapse() -> None:
    net = Net().output("data", "input", "input")
    for number in range(6):
        net.output(f"{number}", spread=0.0 if number < 4 else 0.3)
    assert not found(COLLAPSES, net)


@pytest.mark.parametrize(
    ("shares", "loss", "count"),
    [([0.8, 0.8], flat, 1), ([0.8, 0.8], falling, 0), ([0.7, 0.7], flat, 0), ([0.3] * 12, flat, 0)],
)
def test_strong_dropouts_in_a_row(shares: list[float], loss: object, count: int) -> None:
    """0.2 x 0.2 leaves 4 %; weak ones do not count, as they stand in branches of deep networks."""
    net = Net(loss=loss).output("in", rms=1.0)  # type: ignore[arg-type]
    for number, share in enumerate(shares):
        net.output(f"{number}").output(f"drop{number}", "dropout", "dropout", zero_fraction=share)
    findings = found(COLLAPSES, net.output("head"))
    assert [one.evidence["of"] for one in findings] == ["dropout"] * count
    if findings:
        assert findings[0].evidence["left"] == pytest.approx(0.04)


class Walk(nn.Module):
    """A policy over the places of a line, with a dropout."""

    def __init__(self, share: float = 0.6) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(7, 32), nn.Dropout(share), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.drop(self.first(x))))


def walked(alike: bool, share: float = 0.6, steps: int = 30) -> list[diag.Finding]:
    """Episodes of ten states each, in which environments are in step or not."""
    torch.manual_seed(0)
    model = Walk(share)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with diag.watch(model) as watch:
        for step in range(steps):
            parts = []
            for at in range(10):
                places = torch.full((16,), at % 7)
                if not alike or step < 10:
                    places = (places + torch.arange(16)) % 7
                policy = Categorical(logits=model(F.one_hot(places, 7).float()))
                parts.append(policy.log_prob(policy.sample()) * torch.randn(16))
            optimizer.zero_grad()
            (-torch.cat(parts).mean()).backward()
            optimizer.step()
    return [one for one in watch.diagnose().findings if one.rule == "collapsed-signal" and one.severity == "error"]


def test_a_dropout_that_is_called_in_each_pass_of_an_episode_is_one() -> None:
    assert walked(False) == []


def test_environments_that_are_in_step_are_no_collapse() -> None:
    assert walked(True, share=0.0) == []


@pytest.mark.parametrize(("size", "severities"), [(600.0, []), (0.0, ["error"])])
def test_outputs_of_the_targets_size_are_no_explosion(size: float, severities: list[str]) -> None:
    """size: of the targets; a network that is wanted to put out nothing, with weights that are far too large."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    if not size:
        for one in net[::2]:
            nn.init.normal_(one.weight, std=4.0)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(net.parameters(), 1e-2 if size else 1e-6)
    with diag.watch(net) as watch:
        for _ in range(300 if size else 20):
            x = torch.randn(64, 8)
            optimizer.zero_grad()
            F.mse_loss(net(x), size * (1 + x[:, :1])).backward()
            optimizer.step()
    found = [one for one in watch.diagnose().findings if one.rule == "exploding-activation"]
    assert [one.severity for one in found if one.severity == "error"] == severities
