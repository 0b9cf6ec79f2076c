"""What a loss judges and what it returns, in a loss function of `check` and as a module in the user's own loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag
from diag.check import check
from diag.train.workload import Workload

Loss = Callable[[nn.Module, Any], Tensor]


def workload(loss: Loss, outputs: int = 3) -> Workload:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, outputs))
    batches = [(torch.randn(16, 4), torch.randint(0, max(outputs, 2), (16,))) for _ in range(20)]
    return Workload(model, batches, loss, torch.optim.SGD(model.parameters(), lr=0.05))


def errors(loss: Loss, outputs: int = 3) -> list[diag.Finding]:
    return [one for one in check(workload(loss, outputs), steps=20).findings if one.severity == "error"]


def test_a_loss_function_is_seen_with_its_input_and_its_value() -> None:
    made = workload(lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]))
    trace = check(made, steps=2).trace
    rows = trace.frame[(trace.frame["step"] == 0) & (trace.frame["kind"] == "activation")].set_index("site")
    assert rows.loc["loss:cross_entropy", "rms"] == rows.loc["2", "rms"]
    assert rows.loc["loss:cross_entropy[value]", "mean"] == pytest.approx(trace.steps["loss"][0])
    assert trace.sites.set_index("site").loc["loss:cross_entropy", "role"] == "loss"


def test_a_loss_module_is_seen_in_the_users_own_loop() -> None:
    model, criterion = nn.Linear(4, 3), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model, optimizer) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            criterion(model(torch.randn(8, 4)), torch.randint(0, 3, (8,))).backward()
            optimizer.step()
    frame = watch.trace.frame
    values = frame[frame["site"] == "loss:cross_entropy[value]"].sort_values("step")["mean"]
    assert list(values) == pytest.approx(list(watch.trace.steps["loss"]))
    assert not torch.overrides._get_current_function_mode_stack()


def test_a_nan_of_the_loss_function_is_named_by_its_operation() -> None:
    [error] = errors(lambda model, batch: -model(batch[0]).log().mean())
    assert (error.rule, error.site, error.evidence["phase"]) == ("non-finite", "loss:log", "forward")


SQUASHED: dict[str, tuple[Loss, int]] = {
    "softmax": (lambda model, batch: F.cross_entropy(model(batch[0]).softmax(-1), batch[1]), 3),
    "softmax twice": (lambda model, batch: F.cross_entropy(model(batch[0]).softmax(-1).softmax(-1), batch[1]), 3),
    "sigmoid, sliced": (
        lambda model, batch: F.binary_cross_entropy_with_logits(model(batch[0]).sigmoid()[:, 0], batch[1].float()),
        1,
    ),
    "sigmoid, squeezed": (
        lambda model, batch: nn.BCEWithLogitsLoss()(torch.sigmoid(model(batch[0])).squeeze(1), batch[1].float()),
        1,
    ),
}


@pytest.mark.parametrize("name", SQUASHED)
def test_an_output_squashed_twice_is_an_error(name: str) -> None:
    loss, outputs = SQUASHED[name]
    [error] = errors(loss, outputs)
    assert error.rule == "loss-not-decreasing"
    assert "squashed twice" in error.message


def focal(model: nn.Module, batch: Any) -> Tensor:
    """The sigmoid and the cross-entropy both read the logits."""
    logits = model(batch[0])[:, 0]
    chance = torch.sigmoid(logits)
    each = F.binary_cross_entropy_with_logits(logits, batch[1].float(), reduction="none")
    return ((1 - chance).square() * each).mean()


RIGHT: dict[str, tuple[Loss, int]] = {
    "logits": (lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]), 3),
    "focal": (focal, 1),
    "log of softmax": (lambda model, batch: F.nll_loss(model(batch[0]).softmax(-1).log(), batch[1]), 3),
    "probabilities": (
        lambda model, batch: F.binary_cross_entropy(model(batch[0]).sigmoid()[:, 0], batch[1].float()),
        1,
    ),
    "a negative bonus": (
        lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]) - 5 * model(batch[0]).softmax(-1).std(0).mean(),
        3,
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_losses_that_are_right_raise_nothing(name: str) -> None:
    assert errors(*RIGHT[name]) == []


def test_a_turned_sign_is_an_error_before_it_diverges() -> None:
    [error] = errors(lambda model, batch: -F.cross_entropy(model(batch[0]), batch[1]))
    assert (error.rule, error.evidence["of"]) == ("diverging-loss", "sign")
    assert error.evidence["step"] == 0
