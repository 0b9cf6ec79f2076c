"""`diag.watch`: what it takes, what it refuses, and the whole of it at work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import diag
from diag.errors import TargetError

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((lambda x: x,), "takes a torch.nn.Module, got function"),
        ((nn.Linear,), "takes a torch.nn.Module, got type"),
        ((nn.Linear(3, 2), None, 0), "whole number of steps from 1, got 0"),
        ((nn.Linear(3, 2), None, 2.0), "got 2.0"),
        ((nn.Linear(3, 2), None, True), "got True"),
        ((nn.Linear(3, 2), 3), "takes a torch.optim.Optimizer or several, got int"),
        ((nn.Linear(3, 2), ["sgd"]), "takes a torch.optim.Optimizer or several, got str"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        diag.watch(*arguments)


@pytest.mark.parametrize("loss, message", [(torch.ones(3), r"got shape \(3,\)"), ("1", "got str"), (1j, "got complex")])
def test_a_loss_that_is_no_scalar(loss: Any, message: str) -> None:
    with diag.watch(nn.Linear(3, 2)) as watch, pytest.raises(TargetError, match=message):
        watch.step(loss)


def test_a_step_outside_of_the_watch() -> None:
    watch = diag.watch(nn.Linear(3, 2))
    with pytest.raises(TargetError, match="call it inside"):
        watch.step(1.0)
    with watch:
        pass
    with pytest.raises(TargetError, match="call it inside"):
        watch.step(1.0)


def test_a_watch_that_runs_cannot_be_entered_again() -> None:
    watch = diag.watch(nn.Linear(3, 2))
    with watch, pytest.raises(TargetError, match="already running"), watch:
        pass
    assert not nn.modules.module._global_forward_hooks


@pytest.mark.parametrize("given", [torch.tensor(2.5), torch.tensor([2.5], requires_grad=True), 2.5, None])
def test_the_loss_given_by_hand_comes_first(given: Any) -> None:
    model = nn.Linear(3, 2)
    with diag.watch(model) as watch:
        loss = model(X).square().sum()
        loss.backward()
        watch.step(given)
    assert watch.trace.steps["loss"].item() == pytest.approx(loss.item() if given is None else 2.5)


def test_watching_on_after_a_pause_goes_on_counting() -> None:
    model = nn.Linear(3, 2)
    watch = diag.watch(model)
    for _ in range(2):
        with watch:
            model(X).sum().backward()
            watch.step()
        model(X).sum().backward()  # not watched
    assert watch.trace.steps["step"].tolist() == [0, 1]
    assert (watch.trace.kind("gradient")["count"] == 8).all()


def test_a_diagnosis_carries_the_trace_and_the_models_name() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, [optimizer]) as watch:
        model(X).square().sum().backward()
        optimizer.step()
        during = watch.diagnose()
    after = watch.diagnose()
    assert during.title == after.title == "Sequential"
    assert during.coverage["steps"] == after.coverage["steps"] == 1
    assert after.coverage["optimizer"] is True
    assert after.trace.frame.equals(during.trace.frame)


def test_what_is_refused_for_being_no_number_is_judged() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Sigmoid(), torch.nn.Linear(8, 1), torch.nn.Sigmoid())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = diag.watch(model, optimizer)
    with pytest.raises(RuntimeError, match="between 0 and 1"), watch:
        for step in range(5):
            if step == 3:
                model[2].weight.data.fill_(torch.nan)
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy(model(torch.randn(16, 3)), torch.rand(16, 1)).backward()
            optimizer.step()
    (found,) = [one for one in watch.diagnose().findings if one.severity == "error"]
    assert (found.rule, found.evidence["step"]) == ("non-finite", 3)
    assert "between 0 and 1" in str(watch.trace.coverage)


def test_an_exception_beside_sound_numbers_is_no_pathology() -> None:
    model = torch.nn.Linear(3, 1)
    watch = diag.watch(model)
    with pytest.raises(KeyError), watch:
        model(torch.randn(4, 3)).sum().backward()
        watch.step()
        model(torch.randn(4, 3)).sum().backward()
        raise KeyError("theirs")
    assert not [one for one in watch.diagnose().findings if one.rule == "non-finite"]


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_model_without_numbers_is_noted(by_hand: bool) -> None:
    with torch.device("meta"):
        model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model) as watch:
        for _ in range(2):
            loss = model(torch.randn(4, 4, device="meta")).sum()
            loss.backward()
            optimizer.step()
            watch.step(loss if by_hand else None)
    trace = watch.trace
    assert trace.frame.empty and trace.steps["loss"].isna().all() and len(trace.steps) == 2
    assert any("meta tensors" in note for note in watch.diagnose().coverage["notes"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"budget": one}, "budget is a share of the training's time") for one in ("x", [1], 1j, 0, 2, True)),
        *(({"every": one}, "every is a whole number of steps from 1") for one in ("x", [1], None, 0)),
        *(({"parameters": one}, "parameters is True or False, got") for one in ("x", None, [])),
        *(({"optimizer": one}, "takes a torch.optim.Optimizer or several, got") for one in ("", {}, 5, [5])),
    ],
)
def test_arguments_of_another_kind(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        diag.watch(nn.Linear(2, 2), **changes)


def test_a_watch_that_saw_nothing_is_not_healthy() -> None:
    with diag.watch(nn.Linear(2, 2)) as watch:
        pass
    assert watch.diagnose().healthy is False and watch.diagnose().findings == []
