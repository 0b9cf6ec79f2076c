"""Normalizations behind which no sample differs from another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag
from diag.rules.judge import judge
from tests.corpus.data import digits
from tests.rules.traces import Net, chain, falling, flat, found

COLLAPSED = "collapsed-signal"


def with_norm(op: str, units: int, spread: float, loss: object = flat) -> Net:
    """A normalization in the middle, of so many features."""
    net = chain((0.01, 0.01), loss=loss).output("narrow", units=units)
    net.output("norm", "normalization", op, units=units, spread=spread)
    return net.output("head", spread=0.5 if spread else 0.0, units=10)


@pytest.mark.parametrize(
    ("op", "units", "spread", "loss", "severity"),
    [
        ("layer_norm", 1, 0.0, flat, "error"),
        ("layer_norm", 1, 0.0, falling, "warning"),
        ("layer_norm", 2, 0.0, flat, None),
        ("layer_norm", 1, 0.1, flat, None),
        ("batch_norm", 1, 0.0, flat, None),
    ],
)
def test_of_a_single_feature(op: str, units: int, spread: float, loss: object, severity: str | None) -> None:
    findings = [one for one in found(COLLAPSED, with_norm(op, units, spread, loss)) if one.site == "norm"]
    findings = [one for one in findings if one.evidence["of"] == "flattened"]
    assert [(one.severity, one.evidence["before"]) for one in findings] == ([(severity, "narrow")] if severity else [])


def test_it_is_the_root_of_the_gradient_that_vanishes_there() -> None:
    def said(pooled: float) -> list[tuple[str, object, list[str]]]:
        net = Net(loss=flat).output("Net:input", "input", "input", gradient=None)
        for number in range(4):
            net.output(f"{number}", gradient=1e-9 if pooled < 1 else 0.01).parameter(f"{number}.weight", gradient=1e-9)
        net.output("norm", "normalization", "instance_norm", gradient=1e-6 if pooled < 1 else 0.01)
        net.output("pool", "pooling", "adaptive_avg_pool2d", rms=pooled).output("head", gradient=0.1)
        findings = judge(net.build(), {})
        return [(one.rule, one.evidence.get("of"), [two.rule for two in one.consequences]) for one in findings]

    assert said(1e-7) == [(COLLAPSED, "flattened", ["vanishing-gradient", "loss-not-decreasing"])]
    assert all(rule != COLLAPSED for rule, *_ in said(1.0))


class Image(nn.Module):
    """Its last activation stands between the normalization and the average, or does not."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(1, 16, 3, padding=1), nn.InstanceNorm2d(16), last
        self.deep = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.deep(self.last(self.norm(self.conv(x))).mean((2, 3)))


def test_really_trained() -> None:
    def errors(last: nn.Module) -> list[tuple[str, str, object]]:
        torch.manual_seed(0)
        model = Image(last)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

        def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            return F.cross_entropy(model(batch[0]), batch[1])

        checked = diag.check(diag.Workload(model, digits(image=True), loss, optimizer), steps=30)
        return [(one.rule, one.site, one.evidence.get("of")) for one in checked.findings if one.severity == "error"]

    assert errors(nn.Identity()) == [(COLLAPSED, "deep.0", "flattened")]
    assert errors(nn.ReLU()) == []
