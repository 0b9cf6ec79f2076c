"""`diag.check`: the whole of it leaves a workload as it found it, and refuses what cannot be trained."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import diag
from diag.errors import TargetError


def loss(model: nn.Module, batch: Any) -> torch.Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def workload(**changes: Any) -> diag.Workload:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)).eval()
    data = TensorDataset(torch.randn(24, 3), torch.randint(0, 2, (24,)))
    loader = DataLoader(data, 6, shuffle=True, generator=torch.Generator().manual_seed(3))
    given = {"model": model, "batches": loader, "loss": loss, **changes}
    if "optimizer" not in given:
        given["optimizer"] = torch.optim.Adam(model.parameters(), 0.01)
    return diag.Workload(**given)


def states(one: diag.Workload) -> tuple[Any, ...]:
    optimizer = one.optimizer.state_dict() if one.optimizer is not None else {}
    model = {key: value.clone() for key, value in one.model.state_dict().items()}
    generator = one.batches.generator.get_state()
    modes = [module.training for module in one.model.modules()]
    chance = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    return copy.deepcopy(
        (model, optimizer, generator.tolist(), modes, chance, [p.grad for p in one.model.parameters()])
    )


def assert_unchanged(before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][key], after[0][key]) for key in before[0])
    assert before[1:] == after[1:]


def test_a_workload_is_trained_watched_and_put_back() -> None:
    one = workload()
    before = states(one)
    first, second = diag.check(one, steps=6), diag.check(one, steps=6)
    assert_unchanged(before, states(one))
    steps = first.trace.steps
    assert steps["batch"].tolist() == [0, 1, 2, 3, 0, 1]
    assert set(first.trace.frame["kind"]) == {"activation", "gradient", "weight", "weight_gradient", "update"}
    assert steps["loss"].nunique() == 6
    assert second.trace.frame.equals(first.trace.frame)  # so it did learn the same thing from the same start
    assert first.title == "Sequential"


def test_what_was_measured_is_handed_out_before_it_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(diag.check.__globals__, "diagnose", fail)
    kept: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        diag.check(workload(), steps=2, keep=kept.append)
    assert len(kept[0].steps) == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_it_is_put_back_after_an_exception(error: type[BaseException]) -> None:
    calls = []

    def failing(model: nn.Module, batch: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise error
        return loss(model, batch)

    one = workload(loss=failing)
    before = states(one)
    with pytest.raises(TargetError if error is ValueError else error):
        diag.check(one)
    assert_unchanged(before, states(one))
    assert not nn.modules.module._global_forward_hooks


def test_without_an_optimizer_the_network_is_judged_at_initialization() -> None:
    one = workload(optimizer=None)
    before = states(one)
    diagnosis = diag.check(one)
    assert_unchanged(before, states(one))
    assert diagnosis.coverage["optimizer"] is False
    assert "update" not in set(diagnosis.trace.frame["kind"])
    assert "no optimizer was seen" in " ".join(diagnosis.coverage["notes"])


def test_progress_title_and_command_are_handed_on() -> None:
    seen: list[tuple[Any, ...]] = []
    diagnosis = diag.check(workload(), 3, progress=lambda *one: seen.append(one), title="mine", command="diag check x")
    assert [one[:2] for one in seen] == [(1, 3), (2, 3), (3, 3)]
    assert (diagnosis.title, diagnosis.command) == ("mine", "diag check x")


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "3"])
def test_a_number_of_steps_that_is_none(steps: Any) -> None:
    with pytest.raises(TargetError, match="steps is a whole number from 1"):
        diag.check(workload(), steps=steps)


FROZEN = nn.Linear(3, 2).requires_grad_(False)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": 3}, "must be a torch.nn.Module, got int"),
        ({"model": nn.ReLU()}, "ReLU has no parameters"),
        ({"model": FROZEN}, "no parameter of Linear requires a gradient"),
        ({"loss": "mse"}, "must be a function .*, got str"),
        ({"optimizer": "adam"}, "must be a torch.optim.Optimizer, got str"),
        ({"model": nn.Linear}, "must be a torch.nn.Module, got the class Linear: make one of it"),
        ({"optimizer": torch.optim.SGD}, "must be a torch.optim.Optimizer, got the class SGD: make one of it"),
        ({"batches": []}, "batches are empty"),
        ({"loss": lambda m, b: loss(m, b).item()}, "scalar tensor, got float"),
    ],
)
def test_a_workload_that_cannot_be_trained(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        diag.check(workload(**{"optimizer": None, **changes}))


@pytest.mark.parametrize("changes", [{"model": None}, {"optimizer": "adam"}, {"loss": None}])
def test_prescribe_says_the_same_of_it(changes: dict[str, Any]) -> None:
    with pytest.raises(TargetError, match=f"the workload's {next(iter(changes))} must be"):
        diag.prescribe(workload(**{"optimizer": None, **changes}), steps=5, seeds=1)


@pytest.mark.parametrize("name", ["progress", "keep"])
def test_something_that_is_no_function(name: str) -> None:
    with pytest.raises(TargetError, match=f"{name} is a function or None, got int"):
        diag.check(workload(), **{name: 5})


def test_something_that_is_no_workload() -> None:
    with pytest.raises(TargetError, match=r"takes a diag\.Workload, got Linear"):
        diag.check(nn.Linear(3, 2))  # type: ignore[arg-type]


class Breaks(nn.Module):
    """Its hidden values are no numbers from the call `at` on; a mask may be given to it in every call."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.first, self.last, self.calls, self.at = nn.Linear(3, 8), nn.Linear(8, 1), 0, at

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(x))
        if self.calls >= self.at:
            hidden = torch.log(hidden - 1)
        self.calls += 1
        return torch.sigmoid(self.last(hidden)).squeeze(1)


def breaking(at: int, fails_at: int = 99) -> diag.Workload:
    """binary_cross_entropy refuses what is no number."""
    torch.manual_seed(0)
    model, mask, target = Breaks(at), torch.full((24,), -torch.inf if at else 0.0), torch.rand(24)
    batches = [torch.randn(24, 3) for _ in range(6)]

    def refusing(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        predicted = model(batch, mask)
        if model.calls > fails_at:
            raise ValueError("a mistake of one's own")
        return F.binary_cross_entropy(predicted, target)

    return diag.Workload(model, batches, refusing, torch.optim.SGD(model.parameters(), 0.1))


@pytest.mark.parametrize("at", [0, 3])
def test_what_breaks_off_since_something_is_no_number_is_judged(at: int) -> None:
    diagnosis = diag.check(breaking(at))
    (found,) = [one for one in diagnosis.findings if one.severity == "error"]
    assert (found.rule, found.site, found.evidence["step"]) == ("non-finite", "Breaks:log", at)
    assert list(diagnosis.trace.steps["step"]) == list(range(at + 1))
    notes = diagnosis.trace.coverage["notes"]
    assert any(f"ended in step {at}" in one and "between 0 and 1" in one for one in notes)


@pytest.mark.parametrize("fails_at", [0, 3])
def test_a_mistake_of_the_users_beside_a_mask_of_infinities_is_told_as_it_is(fails_at: int) -> None:
    with pytest.raises(TargetError, match="a mistake of one's own"):
        diag.check(breaking(99, fails_at))


def test_a_model_without_numbers() -> None:
    model = nn.Linear(3, 2, device="meta")
    with pytest.raises(TargetError, match="the workload's loss holds no number: model and batches must be on a real"):
        diag.check(diag.Workload(model, [torch.randn(4, 3, device="meta")], lambda m, b: m(b).sum()))
