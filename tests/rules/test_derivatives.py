"""Losses made of second derivatives, through activations that have none."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import diag
from diag.rules.judge import judge
from tests.rules.traces import Net, Value, falling, flat, found

VANISHES = "vanishing-gradient"


def inside_and_edge(op: str, inside: float, of_output: float | None, loss: Value = flat) -> Net:
    """The network runs at points inside, whose derivatives count, and at the edge, whose values do."""
    net = Net(loss=loss).output("Net:input", "input", "input", gradient=None)
    for call, gradient in ((0, inside), (1, 0.01)):
        for number in range(2):
            net.output(f"{2 * number}", gradient=gradient, call=call)
            net.output(f"{2 * number + 1}", "nonlinearity", op, gradient=gradient, call=call)
        net.output("4", gradient=of_output if call == 0 else 0.01, call=call, units=1)
    for number in range(3):
        net.parameter(f"{2 * number}.weight", ratio=1e-4)
    return net


@pytest.mark.parametrize(
    ("op", "inside", "of_output", "loss", "expected"),
    [
        ("relu", 0.0, None, flat, ["curvature"]),
        ("leaky_relu", 0.0, None, flat, ["curvature"]),
        ("tanh", 0.0, None, flat, []),
        ("relu", 0.01, None, flat, []),
        ("relu", 0.0, 0.01, flat, []),
        ("relu", 0.0, None, falling, []),
    ],
)
def test_which_evidence(op: str, inside: float, of_output: float | None, loss: Value, expected: list[str]) -> None:
    findings = found(VANISHES, inside_and_edge(op, inside, of_output, loss))
    assert [one.evidence["of"] for one in findings if "of" in one.evidence] == expected
    for one in findings:
        if "of" in one.evidence:
            assert (one.severity, one.site, one.evidence["op"], one.evidence["call"]) == ("error", "4", op, 0)


def test_it_is_the_root() -> None:
    (first, *_) = judge(inside_and_edge("relu", 0.0, None).build(), {})
    assert first.evidence["of"] == "curvature"
    assert "stalled-update" in [one.rule for one in first.consequences]


@pytest.mark.parametrize(("bend", "of"), [(nn.ReLU, ["curvature"]), (nn.Tanh, [])])
def test_really_trained(bend: type[nn.Module], of: list[str]) -> None:
    """u'' = -pi^2 sin(pi x) with u(0) = u(1) = 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 32), bend(), nn.Linear(32, 32), bend(), nn.Linear(32, 1))
    edge = torch.tensor([[0.0], [1.0]])

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        u = model(x)
        (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
        return ((second + math.pi**2 * torch.sin(math.pi * x)) ** 2).mean() + (model(edge) ** 2).mean()

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    points = [torch.rand(256, 1) for _ in range(60)]
    checked = diag.check(diag.Workload(model, points, loss, optimizer), steps=60)
    assert [one.evidence.get("of") for one in checked.findings if one.severity == "error"] == of
