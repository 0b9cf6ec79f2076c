"""Running statistics of batch norms."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag
from diag.rules.judge import judge
from tests.rules.traces import chain, found


@pytest.mark.parametrize(
    ("momentum", "batches", "left"),
    [(1e-4, 30, 0.99700), (1e-3, 300, None), (1e-3, 30, 0.97043), (1e-4, 31, None), (1e-4, 0, None)],
    ids=["hardly any", "caught up", "few batches", "trained before", "never ran"],
)
def test_what_is_left_of_the_initial_statistics(momentum: float, batches: int, left: float | None) -> None:
    net = chain().output("norm", "normalization", "batch_norm")
    net.coverage = {"slow_statistics": {"norm": [momentum, batches]}, "training_passes": max(30, batches - 1)}
    if batches == 300:
        net.coverage["training_passes"] = 300
    findings = found("stalled-update", net)
    assert [(one.severity, one.site) for one in findings] == ([("warning", "norm")] if left else [])
    for one in findings:
        assert one.evidence["left"] == pytest.approx(left, abs=1e-5)


@pytest.mark.parametrize(
    ("batches", "evaluations", "severity"), [(100, 1, "error"), (99, 1, "warning"), (100, 0, "warning")]
)
def test_it_is_an_error_where_evaluations_use_them(batches: int, evaluations: int, severity: str) -> None:
    net = chain().output("norm", "normalization", "batch_norm")
    net.coverage = {"slow_statistics": {"norm": [1e-4, batches]}, "training_passes": batches}
    net.coverage["evaluation_passes"] = evaluations
    assert [one.severity for one in found("stalled-update", net)] == [severity]


def test_it_neither_brings_about_nor_follows() -> None:
    net = chain(loss=2.0).output("norm", "normalization", "batch_norm")
    net.coverage = {"slow_statistics": {"norm": [1e-4, 30]}, "training_passes": 30}
    found = {one.rule: one for one in judge(net.build(), {})}
    assert found["stalled-update"].consequences == ()
    assert found["loss-not-decreasing"].severity == "warning"


@pytest.mark.parametrize(("momentum", "known"), [(1e-5, {"1": (1e-5, 12)}), (0.1, {}), (None, {})])
def test_really_trained(momentum: float | None, known: dict[str, tuple[float, int]]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, momentum=momentum), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with diag.watch(model, optimizer) as watch:
        for _ in range(12):
            x = 5 + torch.randn(32, 8)
            optimizer.zero_grad()
            F.cross_entropy(model(x), (x[:, 0] > 5).long()).backward()
            optimizer.step()
    assert watch.trace.coverage["slow_statistics"] == known
    said = [one for one in watch.diagnose().findings if one.evidence.get("of") == "momentum"]
    assert [one.severity for one in said] == ["warning"] * len(known)
