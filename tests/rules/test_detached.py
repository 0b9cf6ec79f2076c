"""Heads that a loss judges and that get no gradient from it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag
from tests.rules.traces import chain, found


@pytest.mark.parametrize(
    ("given", "site"), [(0.7, "head"), (0.70001, None)], ids=["what the head puts out", "something else"]
)
def test_a_head_without_a_gradient_whose_output_a_loss_is_given(given: float, site: str | None) -> None:
    """A pooler that nobody asked for is a warning; an error is what is judged all the same."""
    net = chain((0.01, 0.01)).output("pooler", rms=0.7, units=5, gradient=None)
    net.parameter("pooler.weight", gradient=None)
    net.output("head", rms=0.7, units=1, gradient=None).parameter("head.weight", gradient=None)
    net.output("loss:mse_loss", "loss", "mse_loss", rms=given, units=1, gradient=None)
    (finding,) = found("missing-gradient", net)
    assert finding.severity == ("error" if site else "warning")
    if site:
        assert (finding.site, finding.evidence["loss"], finding.evidence["count"]) == (site, "loss:mse_loss", 2)


@pytest.mark.parametrize("detached", [True, False])
def test_really_trained(detached: bool) -> None:
    torch.manual_seed(0)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.kind, self.size = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.body(x).tanh()
            return self.kind(hidden), self.size(hidden)

    model, squared = Two(), nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with diag.watch(model, optimizer) as watch:
        for _ in range(20):
            x = torch.randn(32, 8)
            kind, size = model(x)
            loss = F.cross_entropy(kind, x[:, :4].argmax(1)) + squared(size.detach() if detached else size, x[:, :1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    errors = [one for one in watch.diagnose().findings if one.severity == "error"]
    assert [(one.site, one.evidence["loss"]) for one in errors] == [("size", "loss:mse_loss")] * detached


@pytest.mark.parametrize(
    ("partly", "moves", "severity"), [(15, 1.0, "error"), (9, 1.0, "warning"), (15, 0.0, "warning")]
)
def test_a_head_without_a_gradient_beside_a_part_of_the_loss_without_a_graph(
    partly: int, moves: float, severity: str
) -> None:
    net = chain((0.01, 0.01)).output("head", units=5, gradient=None).parameter("head.weight", "5x32", gradient=None)
    severed = {"count": 0, "partly": partly, "least": 0.5, "most": 0.5 + moves}
    net.coverage["terms"] = {"looked": 15, "reversed": {}, "severed": severed}
    (finding,) = found("missing-gradient", net)
    assert finding.severity == severity
    assert ("without a graph" in finding.message) == (severity == "error")
