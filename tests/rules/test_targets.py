"""Predictions and targets that cannot go together, in loss functions as people write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag
from tests.corpus.data import digits, records
from tests.rules.traces import chain, falling
from tests.rules.traces import found as told_by

Loss = Callable[[nn.Module, Any], Tensor]


def network(inputs: int, outputs: int, *last: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, outputs), *last)


def errors(model: nn.Module, batches: list[Any], loss: Loss, lr: float = 1e-3) -> list[diag.Finding]:
    workload = diag.Workload(model, batches, loss, torch.optim.Adam(model.parameters(), lr=lr))
    return [one for one in diag.check(workload, steps=14).findings if one.severity == "error"]


def nll(of: Callable[[Tensor], Tensor]) -> Loss:
    return lambda model, batch: F.nll_loss(of(model(batch[0])), batch[1])


LOG_PROBABILITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "log_softmax": lambda x: x.log_softmax(1),
    "half precision": lambda x: x.to(torch.bfloat16).log_softmax(1).float(),
    "logsigmoid of two": lambda x: torch.stack([F.logsigmoid(x[:, 0]), F.logsigmoid(-x[:, 0])], 1),
    "log of softmax": lambda x: (x.softmax(1) + 1e-8).log(),
}  # fmt: skip
NONE: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: x.softmax(1),
    "logits": lambda x: x,
    "softmax over samples": lambda x: x.log_softmax(0),
    "sigmoid": lambda x: F.logsigmoid(x),
}


@pytest.mark.parametrize("name", LOG_PROBABILITIES)
def test_log_probabilities(name: str) -> None:
    batches = [(x, y % 2) for x, y in digits()] if "two" in name else digits()
    assert errors(network(64, 10), batches, nll(LOG_PROBABILITIES[name])) == []


@pytest.mark.parametrize("name", NONE)
def test_no_log_probabilities(name: str) -> None:
    (found,) = errors(network(64, 10), digits(), nll(NONE[name]))
    assert (found.rule, found.site, found.evidence["of"]) == (
        "loss-not-decreasing", "loss:nll_loss", "log-probabilities",
    )  # fmt: skip
    assert abs(found.evidence["log_sum"]) > 0.05


def test_log_probabilities_of_every_pixel() -> None:
    """Classes stand in dimension 1, whatever comes behind it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    batches = [(x, (x[:, 0] > 0).long()) for x, _ in digits(image=True)]
    assert errors(model, batches, nll(lambda x: x.log_softmax(1))) == []
    (found,) = errors(model, batches, nll(lambda x: x.log_softmax(-1)))
    assert found.evidence["of"] == "log-probabilities"


CROSSED: dict[str, Loss] = {
    "written out": lambda model, batch: ((model(batch[0]) - batch[1]) ** 2).mean(),
    "the other way": lambda model, batch: (batch[1] - model(batch[0])).abs().mean(),
    "huber_loss": lambda model, batch: F.huber_loss(model(batch[0]), batch[1]),
    "mse_loss": lambda model, batch: F.mse_loss(model(batch[0]), batch[1]),
    "a row": lambda model, batch: F.mse_loss(model(batch[0])[:, 0], batch[1][:, None]),
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("name", CROSSED)
def test_a_column_and_a_row(name: str) -> None:
    batches = [(x, y[:, 0]) for x, y in records()]
    (found,) = errors(network(10, 1), batches, CROSSED[name], lr=1e-2)
    assert (found.rule, found.evidence["of"]) == ("loss-not-decreasing", "broadcast")
    assert "broadcast to 32x32" in found.message


@pytest.mark.parametrize(
    "loss",
    [
        lambda model, batch: ((model(batch[0]) - batch[1]) ** 2).mean(),
        lambda model, batch: ((model(batch[0])[:, 0] - batch[1][:, 0]) ** 2).mean(),
        lambda model, batch: (model(batch[0])[:, :, None] - batch[1][None]).square().mean((1, 2)).min(0).values.mean(),
        lambda model, batch: ((model(batch[0]) - batch[1].mean()) ** 2).mean() + F.mse_loss(model(batch[0]), batch[1]),
    ],
)
def test_shapes_that_are_meant(loss: Loss) -> None:
    assert errors(network(10, 1), records(), loss, lr=1e-2) == []


def test_a_batch_of_one_is_no_table() -> None:
    batches = [(x[:1], y[:1, 0]) for x, y in records()]
    found = errors(network(10, 1), batches, CROSSED["written out"])
    assert [one for one in found if one.evidence.get("of") == "broadcast"] == []


@pytest.mark.parametrize("last", [nn.ReLU, nn.Sigmoid, nn.Softplus])
@pytest.mark.parametrize("loss", ["written out", "mse_loss"])
def test_targets_beyond_the_last_activation(last: type[nn.Module], loss: str) -> None:
    found = errors(network(10, 1, last()), records(), CROSSED[loss], lr=1e-2)
    assert [(one.rule, one.site, one.evidence["of"]) for one in found] == [("loss-not-decreasing", "3", "reach")]


@pytest.mark.parametrize(
    "last, scaled",
    [(nn.Sigmoid, lambda y: y.sigmoid()), (nn.Tanh, lambda y: y.tanh()), (nn.ReLU, torch.exp), (nn.Tanh, lambda y: y)],
)
def test_targets_within_reach(last: type[nn.Module], scaled: Callable[[Tensor], Tensor]) -> None:
    """The last, too: of a standardized target a tail is beyond 1."""
    batches = [(x, scaled(y)) for x, y in records()]
    assert errors(network(10, 1, last()), batches, CROSSED["mse_loss"], lr=1e-2) == []


def test_rare_targets_within_reach() -> None:
    """A deviation below the mean lies beyond the bound, and no target does."""
    batches = [(x, (torch.arange(32)[:, None] < 1).float()) for x, _ in records()]
    assert errors(network(10, 1, nn.Sigmoid()), batches, CROSSED["mse_loss"], lr=1e-2) == []


@pytest.mark.parametrize(
    "cut",
    [
        lambda out, y: F.mse_loss(out.argmax(1).float().requires_grad_(), y.float()),
        lambda out, y: F.cross_entropy(out.detach().requires_grad_(), y),
        lambda out, y: torch.tensor(F.cross_entropy(out, y).item(), requires_grad=True),
    ],
)
def test_a_loss_that_is_cut_off_everywhere(cut: Callable[[Tensor, Tensor], Tensor]) -> None:
    (found,) = errors(network(64, 10), digits(), lambda model, batch: cut(model(batch[0]), batch[1]))
    assert (found.rule, found.evidence["of"], found.evidence["count"]) == ("missing-gradient", "all", 4)


@pytest.mark.parametrize("of, wrong", [(lambda x: x.softmax(1), True), (lambda x: x.log_softmax(1), False)])
def test_kl_div_takes_logarithms(of: Callable[[Tensor], Tensor], wrong: bool) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.kl_div(of(model(batch[0])), F.one_hot(batch[1], 10) * 0.9 + 0.01, reduction="batchmean")

    assert [one.evidence["of"] for one in errors(network(64, 10), digits(), loss)] == ["log-probabilities"] * wrong


def test_kl_div_over_the_last_dimension_or_the_second() -> None:
    """Of tokens, the classes stand last; the loss itself does not care."""
    x = [(one.reshape(-1, 8, 8), other) for one, other in digits()]
    wanted = torch.full((8,), 1 / 8)
    for dim in (1, 2):

        def loss(model: nn.Module, batch: Any, dim: int = dim) -> Tensor:
            return F.kl_div(model(batch[0]).log_softmax(dim), wanted.expand(32, 8, 8), reduction="batchmean")

        assert errors(network(8, 8), x, loss) == []


def by_class(classes: int) -> list[Any]:
    """The digits sorted, as `load_digits` of somebody's own file may give them."""
    x, y = (torch.cat(one) for one in zip(*digits(), strict=True))
    order = y.argsort(stable=True)[:: 10 // classes]
    return list(zip(x[order].split(32), y[order].split(32), strict=True))[:30]


def test_sorted_data() -> None:
    found = errors(network(64, 10), by_class(10), lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]))
    assert [one.evidence["of"] for one in found if one.rule == "loss-not-decreasing"] == ["sorted"]


@pytest.mark.parametrize("targets", ["one class", "two calls", "rare"])
def test_targets_of_one_class_that_are_meant(targets: str) -> None:
    """One against the rest, as in a contrast; each domain by itself; a class that is rare."""
    if targets == "rare":
        batches = [(x, (y == 0).long() * (torch.arange(32) == 0)) for x, y in digits()]
    else:
        batches = [(x, torch.zeros_like(y)) for x, y in digits()]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        own = F.cross_entropy(model(batch[0]), batch[1])
        return own + F.cross_entropy(model(-batch[0]), batch[1] + 1) if targets == "two calls" else own

    assert [one for one in errors(network(64, 10), batches, loss) if one.evidence.get("of") == "sorted"] == []


@pytest.mark.parametrize("scale, wrong", [(100.0, True), (1.0, False)])
def test_targets_far_from_one(scale: float, wrong: bool) -> None:
    batches = [(x, 2 * scale + scale * y) for x, y in records()]
    found = errors(network(10, 1), batches, lambda model, batch: F.mse_loss(model(batch[0]), batch[1]))
    assert [one.evidence["of"] for one in found] == ["target"] * wrong


@pytest.mark.parametrize("last, found", [((nn.ReLU(),), True), ((nn.ReLU(), nn.Linear(10, 10)), False), ((), False)])
def test_logits_behind_a_relu(last: tuple[nn.Module, ...], found: bool) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    model = network(64, 10, *last)
    findings = diag.check(
        diag.Workload(model, digits(), loss, torch.optim.Adam(model.parameters(), lr=1e-2)), steps=14
    ).findings
    told = [one for one in findings if one.evidence.get("of") == "clipped logits"]
    assert [(one.severity, one.site) for one in told] == [("error", "3")] * found  # a class has died
    if found:
        assert 0.2 < told[0].evidence["zero_fraction"] < 0.9


def test_logits_that_a_relu_keeps_at_nothing() -> None:
    model = network(64, 10, nn.ReLU())
    with torch.no_grad():
        model[2].bias.fill_(-10.0)
    found = errors(model, digits(), lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]))
    assert found


def binary(model: nn.Module, batch: Any) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1])


@pytest.mark.parametrize(("scale", "wrong"), [(1.0, False), (16.0, True), (-1.0, True)])
def test_targets_of_a_binary_cross_entropy_beyond_0_and_1(scale: float, wrong: bool) -> None:
    """Pixels of 0 to 16, or turned about, where probabilities are taken: the loss has no least value."""
    batches = [(x, torch.clamp(scale * x.abs() / x.abs().max(), min(scale, 0.0), max(scale, 0.0))) for x, _ in digits()]
    found = errors(network(64, 64), batches, binary)
    assert [one.evidence.get("of") for one in found] == (["range"] if wrong else [])
    if wrong:
        assert found[0].site == "loss:binary_cross_entropy_with_logits"
        assert found[0].evidence["most" if scale > 0 else "least"] == scale
        assert "takes probabilities" in found[0].message


def test_smoothed_targets_are_probabilities() -> None:
    batches = [(x, F.one_hot(y, 10) * 0.9 + 0.05) for x, y in digits()]
    assert errors(network(64, 10), batches, binary) == []


@pytest.mark.parametrize("logarithms", [False, True])
def test_ctc_takes_logarithms_of_probabilities(logarithms: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(1, 6, (8, 3), generator=generator)
    x = F.one_hot(labels.repeat_interleave(3, 1).t(), 6).float() + 0.1 * torch.randn(9, 8, 6, generator=generator)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        out = model(batch)
        out = out.log_softmax(-1) if logarithms else out
        return F.ctc_loss(out, labels, torch.full((8,), 9), torch.full((8,), 3))

    found = errors(network(6, 6), [x], loss)
    assert [(one.site, one.evidence["of"]) for one in found] == (
        [] if logarithms else [("loss:ctc_loss", "log-probabilities")]
    )
    assert logarithms or "log_softmax(logits, dim=-1)" in found[0].remedy


@pytest.mark.parametrize(("least", "severity"), [(-1.0, "error"), (-0.3, "warning")])
def test_targets_of_minus_one_are_none_however_low_the_loss(least: float, severity: str) -> None:
    net = chain(loss=falling)
    op = "binary_cross_entropy_with_logits"
    net.output(f"loss:{op}", "loss", op, units=3, gradient=None)
    net.output(f"loss:{op}[target]", "target", "target", units=3, gradient=None, mean=0.1, min=least, max=1.0)
    kinds = [(one.severity, one.evidence["of"]) for one in told_by("loss-not-decreasing", net)]
    assert kinds == [(severity, "range")]


@pytest.mark.parametrize(("size", "of"), [(3e5, ["target"]), (5.0, [])])
def test_targets_that_break_the_first_step(size: float, of: list[str]) -> None:
    net = chain(loss=lambda step: size**2 if step == 0 else float("nan"))
    net.output("loss:mse_loss", "loss", "mse_loss", units=1, rms=0.1, gradient=None)
    net.output("loss:mse_loss[target]", "target", "target", units=1, gradient=None, rms=size, mean=size)
    assert [one.evidence["of"] for one in told_by("loss-not-decreasing", net)] == of
    if of:
        assert "in the first step" in told_by("loss-not-decreasing", net)[0].message
