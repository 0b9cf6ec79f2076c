"""The loop of `diag check`: batches, early ends, and every way a workload can be wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diag.errors import TargetError
from diag.probe.probe import Probe
from diag.train.loop import STEPS_AT_INITIALIZATION, train
from diag.train.workload import Workload

BATCHES = [(torch.full((4, 3), float(i)), torch.zeros(4, dtype=torch.long)) for i in range(3)]


def loss(model: nn.Module, batch: Any) -> torch.Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def run(
    steps: int = 4, make: Any = torch.optim.SGD, **changes: Any
) -> tuple[Probe, list[tuple[int, int, float | None]]]:
    torch.manual_seed(0)
    model = changes.pop("model", None) or nn.Linear(3, 2)
    optimizer = make(model.parameters(), lr=0.1) if make else None
    workload = Workload(**{"model": model, "batches": BATCHES, "loss": loss, "optimizer": optimizer, **changes})
    probe = Probe([model], [optimizer] if optimizer else [])
    seen: list[tuple[int, int, float | None]] = []
    probe.start()
    try:
        train(workload, probe, steps, lambda *progress: seen.append(progress))
    finally:
        probe.stop()
    return probe, seen


def test_batches_start_again_and_keep_their_numbers() -> None:
    probe, seen = run(5)
    assert probe.trace().steps["batch"].tolist() == [0, 1, 2, 0, 1]
    assert [done for done, *_ in seen] == [1, 2, 3, 4, 5]
    assert {total for _, total, _ in seen} == {5}
    assert [value for *_, value in seen] == pytest.approx(probe.trace().steps["loss"].tolist())


def test_a_generator_is_used_up_and_that_is_noted() -> None:
    probe, _ = run(5, batches=(batch for batch in BATCHES))
    assert len(probe.trace().steps) == 3
    assert "training ended after 3 of 5 steps: the batches were spent" in probe.notes


@pytest.mark.parametrize("make", [torch.optim.LBFGS, torch.optim.Adam])
def test_one_step_of_the_trace_for_each_step_taken(make: Any) -> None:
    probe, seen = run(3, make)
    assert probe.trace().steps["loss"].tolist() == pytest.approx([value for *_, value in seen])
    assert len(seen) == 3


def test_without_an_optimizer_no_step_is_taken() -> None:
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    probe, seen = run(30, None, model=model)
    assert torch.equal(model.weight, before)
    assert len(seen) == STEPS_AT_INITIALIZATION
    trace = probe.trace()
    assert set(trace.frame["kind"]) == {"activation", "gradient", "weight", "weight_gradient"}
    first = trace.parameters.query("site == 'weight'")["gradient_norm"].tolist()
    assert first[3] == pytest.approx(first[0])  # of one batch each: not accumulated


def test_it_ends_soon_after_the_loss_is_not_finite() -> None:
    def bad(model: nn.Module, batch: Any) -> torch.Tensor:
        return loss(model, batch) * (float("nan") if batch is BATCHES[1] else 1.0)

    probe, seen = run(30, loss=bad)
    assert len(seen) == 4
    assert "training ended after 4 of 30 steps: the loss was no longer finite" in probe.notes


def test_the_model_is_put_into_training_mode() -> None:
    model = nn.Linear(3, 2).eval()
    run(1, model=model)
    assert model.training


def raising(*_: Any) -> Any:
    raise RuntimeError("first line\nsecond line")


def failing_batches() -> Any:
    yield BATCHES[0]
    raise OSError("disk gone")


class FailingStep(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("no step")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "empty list": ({"batches": []}, "batches are empty: give at least one batch"),
    "spent iterator": ({"batches": iter(())}, "it is an iterator that is spent: give a list"),
    "not iterable": ({"batches": 3}, "must be iterable, got int"),
    "failing batches": ({"batches": failing_batches()}, "reading batch 1 failed: OSError: disk gone"),
    "loss raises": ({"loss": raising}, "the workload's loss failed: RuntimeError: first line"),
    "loss is a float": ({"loss": lambda m, b: 1.0}, "must return a scalar tensor, got float"),
    "loss is none": ({"loss": lambda m, b: None}, "must return a scalar tensor, got NoneType"),
    "loss is a vector": ({"loss": lambda m, b: m(b[0])[:, 0]}, r"got shape \(4,\): take its mean or sum"),
    "loss is detached": ({"loss": lambda m, b: loss(m, b).detach()}, "has no gradient"),
    "backward raises": (
        {"loss": lambda m, b: _Bad.apply(loss(m, b))},
        "differentiating the loss failed: RuntimeError: bad",
    ),
    "shapes do not fit": ({"model": nn.Linear(7, 2)}, "loss failed: RuntimeError: mat1 and mat2"),
    "step raises": ({"make": FailingStep}, "the optimizer's step failed: RuntimeError: no step"),
    "closure raises": ({"make": torch.optim.LBFGS, "loss": lambda m, b: 1.0}, "must return a scalar tensor"),
}


class _Bad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("bad")


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_workload_is_named_in_one_line(case: str) -> None:
    changes, message = WRONG[case]
    with pytest.raises(TargetError, match=message) as caught:
        run(**dict(changes))
    assert "\n" not in str(caught.value)
    assert not nn.modules.module._global_forward_hooks
