"""Whether gradients are cleared between the steps of an optimizer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import diag


def train(clear: Callable[[nn.Module, torch.optim.Optimizer], None], steps: int = 5) -> dict[str, object]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model, optimizer) as watch:
        for _ in range(steps):
            clear(model, optimizer)
            model(torch.randn(4, 3)).square().mean().backward()
            optimizer.step()
    return watch.trace.coverage


def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for parameter in model.parameters():
        parameter.grad = None


def to_zero_by_hand(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()


CLEARED: dict[str, Callable[[nn.Module, torch.optim.Optimizer], None]] = {
    "optimizer": lambda model, optimizer: optimizer.zero_grad(),
    "to zero": lambda model, optimizer: optimizer.zero_grad(set_to_none=False),
    "module": lambda model, optimizer: model.zero_grad(),
    "by hand": by_hand,
    "to zero by hand": to_zero_by_hand,
}


@pytest.mark.parametrize("way", CLEARED)
def test_every_way_of_clearing_counts(way: str) -> None:
    assert train(CLEARED[way])["uncleared_steps"] == 0


def test_steps_on_gradients_that_were_kept_are_counted() -> None:
    assert train(lambda model, optimizer: None)["uncleared_steps"] == 4


@pytest.mark.parametrize(
    ("computes", "clears", "uncleared"), [(False, False, 4), (False, True, 0), (True, True, 0), (True, False, 4)]
)
def test_steps_with_a_closure(computes: bool, clears: bool, uncleared: int) -> None:
    """Lightning's manual optimization hands every step a closure that does nothing."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def compute() -> torch.Tensor:
        if clears:
            optimizer.zero_grad()
        loss = model(torch.randn(4, 3)).square().mean()
        loss.backward()
        return loss

    with diag.watch(model, optimizer) as watch:
        for _ in range(5):
            if not computes:
                compute()
            optimizer.step(compute if computes else lambda: torch.zeros(()))
    assert watch.trace.coverage["uncleared_steps"] == uncleared


def test_a_gan_whose_other_half_accumulates_is_cleared() -> None:
    maker, critic = nn.Linear(2, 3), nn.Linear(3, 1)
    both = nn.ModuleDict({"maker": maker, "critic": critic})
    first = torch.optim.SGD(critic.parameters(), lr=0.1)
    second = torch.optim.SGD(maker.parameters(), lr=0.1)
    with diag.watch(both, [first, second]) as watch:
        for _ in range(4):
            first.zero_grad()
            critic(maker(torch.randn(4, 2)).detach()).mean().backward()
            first.step()
            second.zero_grad()
            critic(maker(torch.randn(4, 2))).mean().backward()
            second.step()
    assert watch.trace.coverage["uncleared_steps"] == 0


def test_a_closure_clears_in_its_own_time() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(4, 3)).square().mean()
        loss.backward()
        return loss

    with diag.watch(model, optimizer) as watch:
        for _ in range(4):
            optimizer.step(closure)
    assert watch.trace.coverage["uncleared_steps"] == 0


def test_zero_grad_is_torchs_own_afterwards() -> None:
    before = torch.optim.Optimizer.zero_grad, nn.Module.zero_grad
    train(CLEARED["module"])
    assert (torch.optim.Optimizer.zero_grad, nn.Module.zero_grad) == before


def test_the_verdict_names_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with diag.watch(model, optimizer) as watch:
        for _ in range(8):
            nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 2, (8,))).backward()
            optimizer.step()
    [error] = [one for one in watch.diagnose().findings if one.severity == "error"]
    assert (error.rule, error.evidence["of"]) == ("oversized-update", "uncleared")
    assert "never cleared" in error.message and "zero_grad" in error.remedy


@pytest.mark.parametrize("to_none", [True, False])
def test_one_of_two_optimizers_is_cleared(to_none: bool) -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(3, 4), nn.Linear(4, 2)
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (one, other)]
    model = nn.Sequential(one, other)
    with diag.watch(model) as watch:
        for _ in range(6):
            optimizers[1].zero_grad(set_to_none=to_none)
            model(torch.randn(4, 3)).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
    assert watch.trace.coverage["uncleared_steps"] == 5


@pytest.mark.parametrize("to_none", [True, False])
def test_optimizers_that_take_turns_are_each_cleared_in_time(to_none: bool) -> None:
    """What the generator's loss leaves in the critic is cleared before the critic's own loss."""
    torch.manual_seed(0)
    generator, critic = nn.Linear(3, 4), nn.Linear(4, 1)
    first, second = (torch.optim.SGD(part.parameters(), lr=0.1) for part in (generator, critic))
    with diag.watch(nn.ModuleList([generator, critic])) as watch:
        for _ in range(6):
            first.zero_grad(set_to_none=to_none)
            (-critic(generator(torch.randn(4, 3))).mean()).backward()
            first.step()
            second.zero_grad(set_to_none=to_none)
            critic(generator(torch.randn(4, 3)).detach()).mean().backward()
            second.step()
    assert watch.trace.coverage["uncleared_steps"] == 0


def test_what_an_optimizer_holds_that_is_cleared_and_never_steps() -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(3, 4), nn.Linear(4, 2)
    first, second = (torch.optim.SGD(part.parameters(), lr=0.1) for part in (one, other))
    model = nn.Sequential(one, other)
    with diag.watch(model) as watch:
        for _ in range(6):
            first.zero_grad()
            second.zero_grad()
            model(torch.randn(4, 3)).square().mean().backward()
            second.step()
    assert sorted(watch.trace.coverage["held_without_step"]) == ["0.bias", "0.weight"]
    [error] = [one for one in watch.diagnose().findings if one.severity == "error"]
    assert (error.evidence["of"], sorted(error.evidence["parameters"])) == ("optimizer", ["0.bias", "0.weight"])
    assert "never takes a step" in error.message
