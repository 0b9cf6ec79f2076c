"""Targets of one number a batch, as those of two players are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag

RULE = "loss-not-decreasing"
Target = Callable[[torch.Tensor], torch.Tensor]


def game(of_made: Target, of_generator: Target, steps: int = 60) -> list[tuple[str, str | None]]:
    """Severity and kind of what is found of two players: what the discriminator is told of what is made, and what the
    generator wants it to say."""
    torch.manual_seed(0)
    maker = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    judge = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
    both = nn.ModuleDict({"maker": maker, "judge": judge})
    first, second = torch.optim.Adam(judge.parameters(), 1e-2), torch.optim.Adam(maker.parameters(), 1e-2)
    loss = F.binary_cross_entropy_with_logits
    with diag.watch(both) as watch:
        for _ in range(steps):
            real, made = torch.randn(32, 2) * 0.1 + 2, maker(torch.randn(32, 4))
            told = judge(made.detach())
            first.zero_grad()
            said = judge(real)
            (loss(said, torch.ones_like(said)) + loss(told, of_made(told))).backward()
            first.step()
            second.zero_grad()
            told = judge(made)
            loss(told, of_generator(told)).backward()
            second.step()
    found = watch.diagnose().findings
    return [(one.severity, one.evidence.get("of")) for one in found if one.rule == RULE and one.severity != "note"]


@pytest.mark.parametrize(
    ("of_made", "of_generator", "kinds"),
    [
        (torch.zeros_like, torch.ones_like, []),
        (torch.ones_like, torch.ones_like, [("error", "one target")]),
        (torch.zeros_like, torch.zeros_like, [("error", "one side")]),
    ],
    ids=["against each other", "one target", "on one side"],
)
def test_what_two_players_want(of_made: Target, of_generator: Target, kinds: list[tuple[str, str]]) -> None:
    assert game(of_made, of_generator, steps=200) == kinds


def test_few_batches_tell_nothing() -> None:
    assert game(torch.ones_like, torch.ones_like, steps=8) == []


@pytest.mark.parametrize(("rare", "kinds"), [(0, ["one target"]), (1, [])])
def test_a_classifier_whose_targets_are_all_alike(rare: int, kinds: list[str]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    batches = [(torch.randn(16, 4), (torch.arange(16)[:, None] < 16 - rare).float()) for _ in range(60)]
    workload = diag.Workload(
        model,
        batches,
        lambda model, batch: F.binary_cross_entropy_with_logits(model(batch[0]), batch[1]),
        torch.optim.SGD(model.parameters(), 0.1),
    )
    found = diag.check(workload, steps=60).findings
    assert [one.evidence["of"] for one in found if one.evidence.get("of") in ("one target", "one side")] == kinds
