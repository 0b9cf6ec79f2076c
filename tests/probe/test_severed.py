"""What of a loss has no graph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag
from diag.probe.severed import severed

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 4
Loss = Callable[[Tensor], Tensor]


def entropy(out: Tensor) -> Tensor:
    return F.cross_entropy(out, Y)


LOSSES: dict[str, tuple[Loss, Loss]] = {
    "a number": (lambda out: entropy(out) + 2 * entropy(out).item(), lambda out: 2 * entropy(out)),
    "detached": (lambda out: (entropy(out) + entropy(out).detach()) / 4, lambda out: entropy(out) / 4),
    "subtracted": (lambda out: 3 * entropy(out) - entropy(out).detach(), lambda out: -entropy(out)),
    "from a number": (lambda out: 5.0 - (-entropy(out)), lambda out: torch.tensor(0.0)),
    "squares": (lambda out: out.detach().square().mean() + (out - 1).square().sum(), lambda out: out.square().mean()),
    "several": (
        lambda out: F.mse_loss(out, X[:, :4]) + (entropy(out) + 0.5 * (out - 2).abs().mean().detach()),
        lambda out: 0.5 * (out - 2).abs().mean(),
    ),
    "bounded": (
        lambda out: (
            F.binary_cross_entropy_with_logits(out, (X[:, :4] > 0).float(), reduction="sum")
            + F.binary_cross_entropy(out.sigmoid(), (X[:, :4] > 0).float()).detach()
        ),
        lambda out: F.binary_cross_entropy(out.sigmoid(), (X[:, :4] > 0).float()),
    ),
}


@pytest.mark.parametrize("name", [one for one in LOSSES if one != "from a number"])
def test_it_is_the_loss_less_what_has_a_graph(name: str) -> None:
    torch.manual_seed(1)
    out = nn.Linear(6, 4)(X)
    loss, without = (make(out) for make in LOSSES[name])
    with torch.no_grad():
        found = severed(loss)
    assert found == pytest.approx((float(without.detach()), float(loss.detach())), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        entropy,
        lambda out: entropy(out) + out.square().mean(),
        lambda out: entropy(out) + out.tanh().mean() + 1.0,  # a term of unknown value
        lambda out: (out.square().sum(1) + 1.0).mean(),  # for each sample
        LOSSES["from a number"][0],
    ],
)
def test_what_is_not_told(loss: Loss) -> None:
    out = nn.Linear(6, 4)(X)
    with torch.no_grad():
        assert severed(loss(out)) is None


@pytest.mark.parametrize(
    ("loss", "kinds"),
    [
        (lambda out: entropy(out) + 3 * entropy(out).item(), ["severed"]),
        (lambda out: entropy(out) + 0.5 * entropy(out).item(), []),
        (lambda out: entropy(out) + 100.0, []),  # a constant
        (lambda out: entropy(out) + 3 * entropy(out), []),
    ],
)
def test_more_than_half_of_it_is_an_error_if_it_changes(loss: Loss, kinds: list[str]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, optimizer) as watch:
        for _ in range(12):
            optimizer.zero_grad()
            loss(model(X)).backward()
            optimizer.step()
    found = [one for one in watch.diagnose().findings if one.rule == "missing-gradient"]
    assert [one.evidence["of"] for one in found if one.severity == "error"] == kinds


@pytest.mark.parametrize(("create_graph", "kinds"), [(False, ["severed"]), (True, [])])
def test_a_derivative_whose_graph_leads_to_the_input_alone(create_graph: bool, kinds: list[str]) -> None:
    """Of u'' + sin x the second term has a graph, which ends at x."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer, ends = torch.optim.Adam(net.parameters(), 1e-3), torch.tensor([[0.0], [1.0]])
    with diag.watch(net) as watching:
        for _ in range(20):
            x = torch.rand(16, 1, requires_grad=True)
            first = torch.autograd.grad(net(x).sum(), x, create_graph=True)[0]
            second = torch.autograd.grad(first.sum(), x, create_graph=create_graph, retain_graph=True)[0]
            loss = (second + 10 * torch.sin(x)).square().mean() + net(ends).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = [one for one in watching.diagnose().findings if one.evidence.get("of") == "severed"]
    assert [one.evidence["of"] for one in found if one.severity == "error"] == kinds


@pytest.mark.parametrize("also", [False, True])
def test_a_graph_that_leads_to_what_a_model_is_given(also: bool) -> None:
    """also: to something else besides."""
    out, x, shift = nn.Linear(6, 4)(X), X.clone().requires_grad_(), torch.zeros(6, requires_grad=True)
    term = (x + shift if also else x).square().mean()
    loss = entropy(out) + term
    with torch.no_grad():
        found = severed(loss, [id(x)])
    assert found == (None if also else pytest.approx((float(term.detach()), float(loss.detach()))))
