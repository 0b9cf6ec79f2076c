"""missing-gradient: parameters meant to be trained that get none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import diag
from tests.rules.traces import Net, chain, flat, found, only

RULE = "missing-gradient"


def net(*gradients: float | None) -> Net:
    """Layers a, b, c ... whose weights and biases get these gradients."""
    made = Net()
    for name, gradient in zip("abcdefgh", gradients, strict=False):
        made.output(name, gradient=gradient)
        made.parameter(f"{name}.weight", gradient=gradient, ratio=None if gradient is None else 1e-3)
        made.parameter(f"{name}.bias", "32", gradient=gradient, ratio=None if gradient is None else 1e-3)
    return made


def test_everything_below_a_cut() -> None:
    finding = only(RULE, net(None, None, 0.1, 0.1))
    assert (finding.severity, finding.site) == ("error", "b")
    assert (finding.evidence["cut_after"], finding.evidence["of"], finding.evidence["count"]) == ("b", "none", 4)
    assert finding.evidence["parameters"][0] == "a.weight"
    assert "Nothing up to b gets a gradient: 4 parameters" in finding.message


def test_gradients_that_are_there_but_zero() -> None:
    finding = only(RULE, net(0.0, 0.0, 0.1))
    assert (finding.severity, finding.evidence["of"]) == ("error", "zero")


def test_zeros_below_a_gradient_that_fades_are_what_is_left_of_it() -> None:
    fades = net(0.0, 0.0, 0.0, 1e-7, 1e-5, 1e-3, 0.1)
    assert [one.evidence["of"] for one in found(RULE, fades) if one.severity == "error"] == []
    assert len(found("vanishing-gradient", fades)) == 1  # a warning, as this loss falls all the same
    level = net(0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.1)
    assert [one.evidence["of"] for one in found(RULE, level) if one.severity == "error"] == ["zero"]


@pytest.mark.slow
def test_a_gradient_that_underflows_is_one_cause() -> None:
    torch.manual_seed(0)
    layers = [part for _ in range(60) for part in (torch.nn.Linear(16, 16), torch.nn.Sigmoid())]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(16, 3))
    batch = torch.randn(32, 16), torch.arange(32) % 3
    workload = diag.Workload(
        model,
        [batch],
        lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1]),
        torch.optim.SGD(model.parameters(), 0.1),
    )
    errors = [one for one in diag.check(workload).findings if one.severity == "error"]
    assert [one.rule for one in errors] == ["vanishing-gradient"]
    assert RULE in [one.rule for one in errors[0].consequences]


def test_all_is_well_or_all_is_lost() -> None:
    assert not found(RULE, net(0.1, 0.1, 0.1))
    assert not found(RULE, net(0.0, 0.0))  # vanishing-gradient says it


def test_a_bias_alone_is_no_cut() -> None:
    """Before batch normalization, or of a key under softmax: zero, or only rounding."""
    quiet = Net().output("a").parameter("a.weight").parameter("a.bias", "32", gradient=0.0).output("b")
    finding = only(RULE, quiet.parameter("b.weight").parameter("b.bias", "32"))
    assert (finding.severity, finding.site) == ("note", "a.bias")
    assert "The gradient of 1 trainable parameter arrives and is exactly zero in every step: a.bias." in finding.message
    assert "bias=False" in finding.remedy
    tiny = Net().output("a").parameter("a.weight").parameter("a.bias", "32", gradient=1e-12).output("b")
    assert not found(RULE, tiny.parameter("b.weight"))


def test_a_bias_without_a_gradient_beside_a_weight_with_one() -> None:
    unbiased = Net().output("a").parameter("a.weight").parameter("a.bias", "32", gradient=None, ratio=None)
    assert only(RULE, unbiased.output("b").parameter("b.weight")).severity == "warning"


def test_a_last_bias_that_differences_cancel_is_nothing() -> None:
    """A critic judges D(real) - D(fake), and distances are of differences."""
    critic = net(0.1, 0.1).output("c").parameter("c.weight").parameter("c.bias", "1", gradient=0.0)
    assert not found(RULE, critic)
    assert only(RULE, net(0.1, 0.1).output("c").parameter("c.weight").parameter("c.bias", "1", gradient=None))


def test_a_zero_gradient_is_not_said_to_be_absent() -> None:
    finding = only(RULE, net(0.1, 0.0, 0.1))
    assert (finding.severity, finding.evidence["count"]) == ("note", 2)
    assert "2 trainable parameters arrives and is exactly zero" in finding.message
    assert "detach" not in finding.remedy
    both = found(RULE, net(0.1, 0.0, None, 0.1))
    assert [(one.severity, one.site) for one in both] == [("warning", "c.weight"), ("note", "b.weight")]


def test_one_in_the_middle_is_a_warning() -> None:
    """A head whose loss is detached, or a pooler that nobody asked for: nothing tells them apart."""
    finding = only(RULE, net(0.1, None, 0.1))
    assert (finding.severity, finding.site, finding.evidence["count"]) == ("warning", "b.weight", 2)
    assert finding.evidence["modules"] == ["b"]
    assert "b is not trained at all: it runs, but no gradient came to any of its parameters in 30" in finding.message
    assert "b, c are not trained at all: they run" in only(RULE, net(0.1, None, None, 0.1)).message
    bare = Net(optimizer=None).output("a").parameter("a.weight").output("b").parameter("b.weight", gradient=None)
    assert "b is without a gradient: it runs" in only(RULE, bare).message


def test_a_matrix_of_a_module_whose_children_learn_is_not_all_of_it() -> None:
    parent = net(0.1).output("block").parameter("block.scale", gradient=None, ratio=None)
    finding = only(RULE, parent.output("block.fc").parameter("block.fc.weight"))
    assert (finding.severity, "modules" in finding.evidence) == ("warning", False)
    assert "1 trainable parameter gets no gradient although the module ran: block.scale." in finding.message


def test_frozen_parameters_are_meant_to_get_none() -> None:
    frozen = Net().output("a").parameter("a.weight", gradient=None, ratio=None, trainable=False)
    assert not found(RULE, frozen.output("b").parameter("b.weight"))


def test_what_no_optimizer_holds_is_not_meant_to_learn() -> None:
    headed = Net().output("a").parameter("a.weight", gradient=None, ratio=None, optimized=False)
    assert not found(RULE, headed.output("b").parameter("b.weight"))


def test_a_module_that_never_ran_is_noted() -> None:
    spare = chain().parameter("spare.weight", gradient=None, ratio=None, order=-1)
    finding = only(RULE, spare)
    assert (finding.severity, finding.site, finding.evidence["count"]) == ("note", "spare.weight", 1)
    assert "never ran" in finding.message


def test_a_gradient_now_and_then_is_one() -> None:
    now_and_then = Net().output("a").parameter("a.weight", gradient=lambda step: 0.1 if step == 20 else 0.0)
    assert not found(RULE, now_and_then.output("b").parameter("b.weight"))


def test_a_gradient_that_is_all_nan_is_one() -> None:
    broken = Net().output("a").parameter("a.weight", gradient=0.0, bad={("weight_gradient", 0): 1024})
    assert not found(RULE, broken.output("b").parameter("b.weight"))


def test_without_an_optimizer_all_trainable_ones_are_meant() -> None:
    bare = Net(optimizer=None).output("a").parameter("a.weight", gradient=None).output("b").parameter("b.weight")
    assert only(RULE, bare).severity == "error"


def test_two_factors_that_are_zero_are_no_detach() -> None:
    net = Net().output("p", "embedding", "embedding").parameter("p.weight", rms=0.0, gradient=0.0)
    net.output("q", "embedding", "embedding").parameter("q.weight", rms=0.0, gradient=0.0)
    net.output("bias", "embedding", "embedding").parameter("bias.weight", rms=0.1)
    finding = only(RULE, net)
    assert (finding.severity, finding.evidence["of"], finding.evidence["count"]) == ("error", "zero weights", 2)
    assert "p.weight, q.weight are exactly zero from the start, and so are their gradients" in finding.message
    assert "detach" not in finding.remedy


def test_gradients_that_are_cleared_before_the_step() -> None:
    made = Net()
    for name in "abc":
        made.output(name, gradient=0.01).parameter(f"{name}.weight", gradient=None, ratio=None)
    finding = only(RULE, made)
    assert (finding.site, finding.severity) == ("optimizer", "error")
    assert "cleared, or set to None, between backward() and step()" in finding.message


@pytest.mark.parametrize(("dim", "count"), [(-1, 1), (1, 0)])
def test_a_softmax_over_a_single_entry(dim: int, count: int) -> None:
    class Pool(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score, self.head = torch.nn.Linear(6, 1), torch.nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head((torch.softmax(self.score(x), dim) * x).sum(1))
            return out

    torch.manual_seed(0)
    model, x = Pool(), torch.randn(32, 5, 6)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with diag.watch(model) as watch:
        for _ in range(12):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), torch.arange(32) % 3).backward()
            optimizer.step()
    told = [one for one in watch.diagnose().findings if one.evidence.get("of") == "one entry"]
    assert [(one.rule, one.severity, one.site) for one in told] == [
        ("missing-gradient", "error", "Pool:softmax")
    ] * count


@pytest.mark.parametrize(("layers", "of"), [(2, ["zero weights"]), (1, ["zeroed"])])
def test_factors_that_are_all_zero_and_get_gradients_of_zero(layers: int, of: list[str]) -> None:
    net = Net(loss=flat)
    for name in "ab"[:layers]:
        net.output(name).parameter(f"{name}.weight", rms=0.0, gradient=0.0, ratio=None)
    assert [one.evidence["of"] for one in found(RULE, net)] == of


@pytest.mark.parametrize(("arrives", "of"), [(0.01, ["zeroed"]), (0.0, [])])
def test_gradients_that_are_zero_only_when_the_optimizer_steps(arrives: float, of: list[str]) -> None:
    made = Net(loss=flat)
    for name in "ab":
        made.output(name, gradient=arrives).parameter(f"{name}.weight", gradient=0.0, ratio=0.0)
    findings = found(RULE, made)
    assert [one.evidence["of"] for one in findings] == of
    if findings:
        assert (findings[0].severity, findings[0].site, findings[0].evidence["count"]) == ("error", "optimizer", 2)


@pytest.mark.parametrize("lost", ["zeroed", "rounded", "none"])
def test_what_is_done_to_gradients_after_the_backward_pass(lost: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    optimizer, x = torch.optim.Adam(model.parameters()), torch.randn(32, 8)
    with diag.watch(model) as watch:
        for _ in range(12):
            torch.nn.functional.cross_entropy(model(x), torch.arange(32) % 3).backward()
            if lost == "zeroed":
                optimizer.zero_grad(set_to_none=False)
            for parameter in model.parameters() if lost == "rounded" else ():
                parameter.grad = (parameter.grad * 1e-9).half().float() * 1e9
            optimizer.step()
            optimizer.zero_grad()
    errors = [one.evidence.get("of") for one in watch.diagnose().findings if one.severity == "error"]
    assert errors == ([] if lost == "none" else ["zeroed"])


@pytest.mark.parametrize("frozen", [True, False])
def test_a_factor_whose_partner_is_zero_and_frozen(frozen: bool) -> None:
    """As LoRA's, of which one begins at zero."""

    class Adapted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base, self.down = torch.nn.Linear(8, 3), torch.nn.Linear(8, 2, bias=False)
            self.up = torch.nn.Linear(2, 3, bias=False)
            torch.nn.init.zeros_(self.up.weight)
            self.base.requires_grad_(False)
            self.up.requires_grad_(not frozen)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.base(x) + self.up(self.down(x))
            return out

    torch.manual_seed(0)
    model, x = Adapted(), torch.randn(32, 8)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], 1e-2)
    with diag.watch(model) as watch:
        for _ in range(15):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), torch.arange(32) % 3).backward()
            optimizer.step()
    errors = [one for one in watch.diagnose().findings if one.severity == "error"]
    assert [(one.rule, one.evidence.get("of"), one.site) for one in errors] == (
        [("stalled-update", "zeros", "up.weight")] * frozen
    )
    assert all("zero and frozen" in one.message for one in errors)


def test_most_of_what_is_to_be_trained_gets_none() -> None:
    """A pooler that nobody asked for is small; beside a gate that alone is trained the rest is no pooler."""
    small = net(0.01, 0.01, 0.01).output("pooler", gradient=None).parameter("pooler.weight", gradient=None)
    assert [one.severity for one in found(RULE, small)] == ["warning"]
    large = net(0.01)
    for name in ("x", "y", "z"):
        large.output(name, gradient=None).parameter(f"{name}.weight", gradient=None)
    assert [one.severity for one in found(RULE, large)] == ["error"]


@pytest.mark.parametrize(
    ("hidden", "names", "severity"),
    [
        ((0.0,), ("r.weight_hh_l0",), "error"),
        ((0.0, 0.01), ("r.weight_hh_l0", "s.weight_hh_l0"), "warning"),  # one of several recurrences
        ((0.01, 0.0), ("r.weight_hh_l0", "r.weight_hh_l0_reverse"), "warning"),  # the last output of both directions
        ((0.01,), ("r.weight_hh_l0",), None),
    ],
)
def test_a_recurrence_of_which_the_first_step_alone_is_used(
    hidden: tuple[float, ...], names: tuple[str, ...], severity: str | None
) -> None:
    net = Net(loss=flat).output("r", "recurrent", "lstm")
    for gradient, name in zip(hidden, names, strict=True):
        net.parameter(name.replace("_hh_", "_ih_")).parameter(name, gradient=gradient)
    net.output("head").parameter("head.weight")
    findings = [one for one in found("missing-gradient", net) if one.evidence.get("of") == "first step"]
    assert [one.severity for one in findings] == ([severity] if severity else [])
    if severity:
        assert findings[0].evidence["parameters"] == [
            one for one, value in zip(names, hidden, strict=True) if not value
        ]
        assert ("backward half" in findings[0].remedy) == names[-1].endswith("reverse")


class Looped(nn.Module):
    """hands_on: whether the state of one call is given to the next."""

    def __init__(self, hands_on: bool) -> None:
        super().__init__()
        self.hands_on, self.rnn, self.head = hands_on, nn.GRU(6, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state, outputs = None, []
        for step in x:
            out, last = self.rnn(step.unsqueeze(0), state)
            state = last if self.hands_on else None
            outputs.append(self.head(out.squeeze(0)))
        return torch.stack(outputs)


@pytest.mark.parametrize(
    ("hands_on", "steps", "severities"), [(False, 5, ["error"]), (True, 5, []), (False, 1, ["warning"])]
)
def test_a_state_that_is_not_handed_on(hands_on: bool, steps: int, severities: list[str]) -> None:
    torch.manual_seed(0)
    model = Looped(hands_on)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model) as watch:
        for _ in range(12):
            x = torch.randn(steps, 16, 6)
            target = x.cumsum(0)[:, :, :4].argmax(-1)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x).flatten(0, 1), target.flatten()).backward()
            optimizer.step()
    told = [one for one in watch.diagnose().findings if one.evidence.get("of") == "first step"]
    assert [one.severity for one in told] == severities
    assert [one.evidence.get("calls") for one in told] == [5 if steps > 1 else None] * len(told)
