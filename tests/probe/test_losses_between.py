"""The loss of a step that is not measured: known where its gradient came to the models, to whichever part of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import diag

STEPS, EVERY = 12, 6
PARTS = ("ab", "a" * STEPS, "aaaaabbbbbab", "abbaaabbbaab", "b" * STEPS)


class Halves(nn.Module):
    """Two networks side by side, of which a pass uses one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, x: Tensor, part: str) -> Tensor:
        return getattr(self, part)(x)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("parts", PARTS)
def test_every_step_keeps_its_loss(parts: str, set_to_none: bool) -> None:
    torch.manual_seed(0)
    model, expected = Halves(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model, optimizer, every=EVERY) as watch:
        for step in range(STEPS):
            optimizer.zero_grad(set_to_none=set_to_none)
            loss = model(torch.randn(8, 4), parts[step % len(parts)]).square().mean()
            loss.backward()
            optimizer.step()
            expected.append(float(loss.detach()))
            loss.detach().zero_()  # the number was taken when it was seen
    assert list(watch.trace.steps["loss"]) == pytest.approx(expected)
    assert list(watch.trace.frame["step"].unique()) == [0, EVERY]


@pytest.mark.parametrize("at", range(1, 6))
def test_a_strangers_loss_is_not_the_models(at: int) -> None:
    torch.manual_seed(0)
    model, stranger, expected = nn.Linear(4, 1), nn.Linear(4, 1), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model, optimizer, every=EVERY) as watch:
        for step in range(STEPS):
            optimizer.zero_grad()
            loss = model(torch.randn(8, 4)).square().mean()
            loss.backward()
            if step % EVERY == at:
                (1000 * stranger(torch.randn(8, 4))).square().mean().backward()
            optimizer.step()
            expected.append(float(loss.detach()))
    assert list(watch.trace.steps["loss"]) == pytest.approx(expected)


def _replaced(model: nn.Sequential) -> None:
    model[0].weight = nn.Parameter(torch.randn(4, 4))


def _frozen(model: nn.Sequential) -> None:
    model[0].requires_grad_(False)


def _added(model: nn.Sequential) -> None:
    model[0].requires_grad_(False)
    model.append(nn.Linear(1, 1))


@pytest.mark.parametrize("change", [_replaced, _frozen, _added])
@pytest.mark.parametrize("at", [3, 4, 7])
def test_a_model_may_change_between_two_steps(change: Callable[[nn.Sequential], None], at: int) -> None:
    torch.manual_seed(0)
    model, expected = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model, optimizer, every=EVERY) as watch:
        for step in range(STEPS):
            if step == at:
                change(model)
            optimizer.zero_grad()
            loss = model(torch.randn(8, 4)).square().mean()
            loss.backward()
            optimizer.step()
            expected.append(float(loss.detach()))
    assert list(watch.trace.steps["loss"]) == pytest.approx(expected)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_and_a_loss_of_two_passes(reentrant: bool) -> None:
    torch.manual_seed(0)
    model, expected = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model, optimizer, every=EVERY) as watch:
        for _ in range(STEPS):
            optimizer.zero_grad()
            total = 0.0
            for _ in range(2):
                x = torch.randn(8, 4, requires_grad=True)
                loss = checkpoint(model, x, use_reentrant=reentrant).square().mean()
                loss.backward()
                total += float(loss.detach())
            optimizer.step()
            expected.append(total)
    assert list(watch.trace.steps["loss"]) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64])
def test_a_loss_of_any_dtype(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, expected = nn.Linear(4, 1, dtype=dtype), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model, optimizer, every=EVERY) as watch:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = model(torch.randn(8, 4, dtype=dtype)).square().mean()
            loss.backward(torch.ones_like(loss))
            optimizer.step()
            expected.append(float(loss.detach().abs() if dtype.is_complex else loss.detach()))
    assert list(watch.trace.steps["loss"]) == pytest.approx(expected)


def test_a_step_may_be_closed_under_a_mode() -> None:
    """Whether a mode of dispatch is active is asked anew at every step."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.calls += 1
            return func(*args, **(kwargs or {}))

    def trained(watched: bool) -> list[int]:
        torch.manual_seed(0)
        model, calls = nn.Linear(4, 1), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        context = diag.watch(model, optimizer, every=2) if watched else contextlib.nullcontext()
        with context:
            for step in range(6):
                optimizer.zero_grad()
                with Counting() if step % 3 == 1 else contextlib.nullcontext() as mode:
                    loss = model(torch.randn(8, 4)).square().mean()
                loss.backward()
                optimizer.step()
                calls += [] if mode is None else [mode.calls]
        return calls

    assert trained(watched=True) == trained(watched=False)
