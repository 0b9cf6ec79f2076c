"""What a loss is given beside its prediction: targets, and what "log-probabilities" add up to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag
from diag.probe.beside import beside, difference


def seen(
    loss: Callable[[nn.Module, Any], Tensor],
    target: Tensor,
    steps: int = 4,
    role: str = "",
    samples: int = 16,
    **options: Any,
) -> Any:
    """By step and site, the rows of what stands beside the loss."""
    torch.manual_seed(0)
    model = nn.Linear(3, 5)
    batches = [(torch.randn(samples, 3), target)] * steps
    workload = diag.Workload(model, batches, loss, torch.optim.SGD(model.parameters(), lr=0.01))
    trace = diag.check(workload, steps=steps, **options).trace
    roles = trace.sites.set_index("site")["role"]
    frame = trace.frame[trace.frame["site"].map(roles).isin([role] if role else ["target", "log_sum"])]
    return frame.set_index(["step", "site"])


def test_targets_that_are_numbers_and_every_second_step() -> None:
    target = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
    rows = seen(lambda model, batch: F.mse_loss(model(batch[0]), batch[1]), target)
    assert list(rows.index) == [(0, "loss:mse_loss[target]"), (2, "loss:mse_loss[target]")]
    assert rows["rms"].iloc[0] == pytest.approx(float(target.double().square().mean().sqrt()))
    assert (rows["min"].iloc[0], rows["max"].iloc[0]) == pytest.approx((float(target.min()), float(target.max())))


def test_classes_count_as_numbers() -> None:
    target = torch.arange(16) % 5
    rows = seen(lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]), target)
    assert rows.loc[(0, "loss:cross_entropy[target]"), "max"] == 4
    assert rows.loc[(0, "loss:cross_entropy[target]"), "count"] == 16


@pytest.mark.parametrize("turned", [False, True])
def test_a_loss_that_is_written_out(turned: bool) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        out = model(batch[0])
        return ((batch[1] - out) if turned else (out - batch[1])).square().mean()

    rows = seen(loss, torch.full((16, 5), 2.0))
    assert rows.loc[(0, "loss:sub[target]"), "mean"] == 2


def test_the_pairs_of_a_loss_that_is_written_out_are_scored_as_those_of_the_function() -> None:
    def written(model: nn.Module, batch: Any) -> Tensor:
        return ((batch[1] - model(batch[0])) ** 2).mean()

    def called(model: nn.Module, batch: Any) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[1])

    target = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
    scores = [list(seen(loss, target, role="pairing")["mean"].groupby("step").sum()) for loss in (written, called)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
    assert len(seen(written, target[:, :1].expand(-1, 5)[:7], role="pairing", samples=7)) == 0


def test_what_is_no_prediction_minus_its_target() -> None:
    given, target = torch.ones(4, 1, requires_grad=True), torch.ones(4)
    assert difference((given, target)) == (given, target)
    assert difference((target, given)) == (given, target)
    for args in [
        (given, given), (target, target), (given, 1.0), (given,), (given, torch.ones(4, dtype=torch.long)),
        (given, torch.ones(1, 4)), (given, torch.ones(3)), (torch.ones(1, 1, requires_grad=True), torch.ones(1)),
        (torch.ones(4, 2, requires_grad=True), target),
    ]:  # fmt: skip
        assert difference(args) is None


def log_sums(op: str, given: Tensor) -> Tensor:
    (found,) = [tensor for role, tensor in beside(op, (given, torch.zeros(len(given))), {}) if role == "log_sum"]
    return found


def test_log_probabilities_add_up_to_one() -> None:
    x = torch.randn(300, 7, 5)
    assert log_sums("nll_loss", x.log_softmax(1)).shape == (150, 5), "of so many samples every second"
    assert log_sums("nll_loss", x.log_softmax(1)).abs().max() < 1e-5
    assert log_sums("nll_loss", x.softmax(1)).min() > 1
    assert torch.allclose(log_sums("nll_loss", x[:, :, 0]), x[::2, :, 0].logsumexp(1))
    for dim in (1, 2):
        assert float(log_sums("kl_div", x.log_softmax(dim))) < 1e-5
    assert float(log_sums("kl_div", x.log_softmax(0))) > 1
    assert log_sums("nll_loss", x[0, :, 0].log_softmax(0)).shape == ()


def test_other_losses_have_none() -> None:
    assert [role for role, _ in beside("cosine_embedding_loss", (torch.randn(16, 3), torch.randn(16, 3)), {})] == []
    assert [role for role, _ in beside("nll_loss", (torch.randn(2, 3), torch.zeros(2).long()), {})] == [
        "target",
        "log_sum",
    ]


def test_targets_of_a_binary_cross_entropy() -> None:
    target = torch.rand(16, 5, generator=torch.Generator().manual_seed(1)) * 16
    rows = seen(lambda model, batch: F.binary_cross_entropy_with_logits(model(batch[0]), batch[1]), target)
    assert rows.loc[(0, "loss:binary_cross_entropy_with_logits[target]"), "max"] == pytest.approx(float(target.max()))


@pytest.mark.parametrize("graph", [False, True], ids=["a function", "read off the graph"])
def test_what_ctc_is_given_adds_up_over_the_last_dimension(graph: bool) -> None:
    torch.manual_seed(0)
    model, x, labels = nn.Linear(3, 5), torch.randn(12, 4, 3), torch.randint(1, 5, (4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return F.ctc_loss(model(batch), labels, torch.full((4,), 12), torch.full((4,), 2))

    if graph:
        with diag.watch(model, optimizer) as watch:
            loss(model, x).backward()
            optimizer.step()
        trace = watch.trace
    else:
        trace = diag.check(diag.Workload(model, [x], loss, optimizer), steps=1).trace
    row = trace.frame[trace.frame["site"] == "loss:ctc_loss[log_sum]"].iloc[0]
    assert row["count"] == 48
    torch.manual_seed(0)
    expected = nn.Linear(3, 5)(torch.randn(12, 4, 3)).logsumexp(-1).mean()
    assert row["mean"] == pytest.approx(float(expected.detach()), rel=1e-5)
