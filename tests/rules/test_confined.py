"""Logits that cannot leave a small range, and those that may."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag
from tests.corpus.data import digits
from tests.rules.traces import Net, chain, found, only

STANDS = "loss-not-decreasing"
CHANCE = math.log(10)


def at_a_floor(op: str, times: float, loss: float, last: str = "nonlinearity") -> Net:
    """Ten classes, whose logits are what `op` puts out, times a number; the loss goes to `loss` and stays there."""
    net = chain(loss=lambda step: max(loss, CHANCE - 0.5 * step)).output("end", last, op, units=10, rms=0.3)
    net.output("loss:cross_entropy", "loss", "cross_entropy", units=10, rms=0.3 * times)
    return net.output("loss:cross_entropy[value]", "loss", "cross_entropy", samples=1, units=1,
                      mean=lambda step: max(loss, CHANCE - 0.5 * step))  # fmt: skip


@pytest.mark.parametrize(
    ("op", "times", "loss", "floor"),
    [
        ("tanh", 0.1, 2.2, math.log(1 + 9 * math.exp(-0.2))),
        ("tanh", 1.0, 0.85, math.log(1 + 9 * math.exp(-2))),
        ("tanh", 1.0, 1.9, None),
        ("tanh", 15.0, 2.2, None),
        ("sigmoid", 0.5, 2.2, math.log(1 + 9 * math.exp(-0.5))),
        ("relu", 0.1, 2.2, None),
    ],
)
def test_a_bounded_output_times_a_number(op: str, times: float, loss: float, floor: float | None) -> None:
    findings = [one for one in found(STANDS, at_a_floor(op, times, loss)) if one.evidence.get("of") == "confined"]
    assert [(one.severity, one.site, one.evidence["floor"]) for one in findings] == (
        [("error", "end", pytest.approx(floor))] if floor else []
    )


@pytest.mark.parametrize(
    ("loss", "rms", "severity"), [(1.45, 1.0, "error"), (2.0, 1.0, None), (1.0, 1.0, None), (1.45, 2.0, None)]
)
def test_cosines_at_their_floor(loss: float, rms: float, severity: str | None) -> None:
    """Of ten classes it is log(1 + 9 exp(-10 / 9)) = 1.377; below it the cosines were multiplied by more than 1."""
    net = at_a_floor("normalize", rms, loss, "normalization")
    findings = [one for one in found(STANDS, net) if one.evidence.get("of") == "confined"]
    assert [one.severity for one in findings] == ([severity] if severity else [])
    for one in findings:
        assert one.evidence["floor"] == pytest.approx(1.3769, abs=1e-4)


def test_of_samples_told_from_each_other_it_is_a_warning() -> None:
    net = at_a_floor("normalize", 1.0, 1.45, "normalization")
    trace = net.build()
    trace.sites.loc[trace.sites["site"] == "loss:cross_entropy", "shape"] = "10x10"
    assert only(STANDS, trace).severity == "warning"


def test_a_learned_scale_is_none_of_it() -> None:
    net = at_a_floor("normalize", 1.0, 1.45, "normalization").parameter("scale", "1")
    assert [one.evidence.get("of") for one in found(STANDS, net)] == [None]


class Cosine(nn.Module):
    """Cosines with one direction per class."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
        self.ways, self.scale = nn.Parameter(torch.randn(10, 32)), scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.normalize(self.body(x), dim=1) @ F.normalize(self.ways, dim=1).t()


class Bounded(nn.Sequential):
    """Small outputs 'for stability'."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.1 * torch.tanh(super().forward(x))


@pytest.mark.parametrize(
    ("build", "of", "healthy"),
    [
        (lambda: Cosine(1.0), "confined", lambda: Cosine(16.0)),
        (lambda: Bounded(nn.Linear(64, 10)), "confined", lambda: nn.Sequential(nn.Linear(64, 10))),
    ],
    ids=["cosines", "tanh"],
)
def test_really_trained(build: Callable[[], nn.Module], of: str, healthy: Callable[[], nn.Module]) -> None:
    def errors(build: Callable[[], nn.Module]) -> list[diag.Finding]:
        torch.manual_seed(0)
        model = build()
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

        def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            return F.cross_entropy(model(batch[0]), batch[1])

        checked = diag.check(diag.Workload(model, digits(), loss, optimizer), steps=100)
        return [one for one in checked.findings if one.severity == "error"]

    (finding,) = errors(build)
    assert finding.evidence["of"] == of
    assert finding.evidence["last"] > finding.evidence["floor"] > 1.3
    assert errors(healthy) == []
