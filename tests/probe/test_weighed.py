"""What losses are told of their classes, and with what their logits were multiplied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3


def coverage(loss: Callable[[Tensor], Tensor], outputs: int = 3) -> dict[str, Any]:
    torch.manual_seed(0)
    net = nn.Linear(4, outputs)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    with diag.watch(net, optimizer) as watch:
        for _ in range(4):
            optimizer.zero_grad()
            loss(net(X)).backward()
            optimizer.step()
    found: dict[str, Any] = watch.trace.coverage
    return found


def test_a_label_that_is_ignored() -> None:
    known = coverage(lambda out: F.cross_entropy(out, Y, ignore_index=1))["terms"]["ignored"]
    assert known == {"label": 1, "passes": 2, "share": pytest.approx(1 / 3), "predictions": 12}
    assert "ignored" not in coverage(lambda out: F.cross_entropy(out, Y))["terms"]


@pytest.mark.parametrize(("weight", "excess"), [(2.0, 1.0), (200.0, 100.0), (0.02, 0.01)])
def test_how_much_more_positive_samples_count(weight: float, excess: float) -> None:
    targets = (Y == 0).float()[:, None]

    def loss(out: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(out, targets, pos_weight=torch.tensor(weight))

    known = coverage(loss, 1)["terms"]["pos_weight"]
    assert known == {"weight": pytest.approx(weight), "excess": pytest.approx(excess), "passes": 2}


@pytest.mark.parametrize(
    ("scale", "loss"),
    [
        (0.01, lambda out: F.cross_entropy(out / 100, Y)),
        (0.01, lambda out: F.cross_entropy(0.1 * (out.view(12, 3) / 10), Y)),
        (20.0, lambda out: F.cross_entropy(out * 20, Y)),
        (None, lambda out: F.cross_entropy(out, Y)),
        (None, lambda out: F.cross_entropy(out * torch.ones(3), Y)),
        (None, lambda out: F.cross_entropy(out * out.detach().abs().mean().clone().requires_grad_(), Y)),
    ],
)
def test_what_logits_are_multiplied_with(scale: float | None, loss: Callable[[Tensor], Tensor]) -> None:
    known = coverage(loss)["scaled_logits"]
    assert list(known.values()) == ([] if scale is None else [pytest.approx(scale)])


def test_what_classes_count_beside_how_often_they_occur() -> None:
    targets = torch.tensor([0] * 8 + [1] * 3 + [2])
    known = coverage(lambda out: F.cross_entropy(out, targets, weight=torch.tensor([3.0, 1.0, 0.5])))["terms"]
    assert known["class_weights"] == {"weights": [3.0, 1.0, 0.5], "counts": [16, 6, 2]}
    assert "class_weights" not in coverage(lambda out: F.cross_entropy(out, targets))["terms"]


@pytest.mark.parametrize(
    ("targets", "share"),
    [
        (torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]).repeat(6, 1), 0.5),
        (torch.eye(3).repeat(4, 1), 0.0),
        (torch.full((12, 3), 1 / 3), 0.0),
    ],
)
def test_targets_that_name_several_classes(targets: Tensor, share: float) -> None:
    known = coverage(lambda out: F.cross_entropy(out, targets))["terms"]["several"]
    assert known == {"share": pytest.approx(share), "passes": 2}


def test_positives_of_a_contrast_are_no_targets() -> None:
    mask = torch.ones(12, 3)

    def loss(out: Tensor) -> Tensor:
        return -((out.log_softmax(1) * mask).sum(1) / mask.sum(1)).mean()

    assert "several" not in coverage(loss)["terms"]


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_how_much_ctc_reads(zero_infinity: bool) -> None:
    labels = torch.tensor([[1], [2]])

    def loss(out: Tensor) -> Tensor:
        given = out.view(6, 2, 3).log_softmax(2)
        lengths = torch.tensor([3, 2]), torch.tensor([1, 1])
        return F.ctc_loss(given, labels, *lengths, zero_infinity=zero_infinity)

    assert coverage(loss)["terms"]["read"] == {"share": 0.5, "passes": 2}


@pytest.mark.parametrize(
    ("cut", "bounds"),
    [(lambda out: out.clamp(0, 1), [0.0, 1.0]), (F.hardtanh, [-1.0, 1.0]), (lambda out: out.clamp(min=0), None)],
)
def test_logits_that_are_cut(cut: Callable[[Tensor], Tensor], bounds: list[float] | None) -> None:
    known = coverage(lambda out: F.cross_entropy(cut(out), Y))["clamped_logits"]
    assert list(known.values()) == ([] if bounds is None else [bounds])
