"""A mistake of ours ends the watch, and not the training."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import diag
from diag.probe.clearing import Clearing
from diag.probe.forward import Forward
from diag.probe.loaders import Loaders
from diag.probe.losses import Losses
from diag.probe.omissions import Omissions
from diag.probe.parameters import Parameters
from diag.probe.tested import InputsOfTests
from diag.probe.untrained import Untrained


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.below, self.above = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.above(torch.relu(self.below(x)))


def trained(watched: bool = True) -> tuple[torch.Tensor, Any]:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    watch = diag.watch(net, optimizer) if watched else None
    with watch or contextlib.nullcontext():
        for (x,) in DataLoader(TensorDataset(torch.randn(48, 4)), 8):
            optimizer.zero_grad()
            F.cross_entropy(net(x), torch.arange(8) % 3).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                net(x)
    return torch.cat([one.detach().reshape(-1) for one in net.parameters()]), watch


def broken(*_: Any, **__: Any) -> None:
    raise RuntimeError("ours")


PLACES = [
    (Forward, "_see_inputs"),
    (Forward, "_see"),
    (Untrained, "see_training"),
    (Losses, "add_output"),
    (Losses, "see_backward"),
    (Parameters, "_begin_step"),
    (Parameters, "_see_ended"),
    (Clearing, "see_zero_grad"),
    (Omissions, "see_zero_grad"),
    (Omissions, "see_clip"),
    (Loaders, "see"),
    (InputsOfTests, "see"),
]


@pytest.mark.parametrize(("owner", "name"), PLACES)
def test_training_goes_on_as_if_nothing_had_been_watched(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = trained(watched=False)
    monkeypatch.delenv("DIAG_STRICT")
    monkeypatch.setattr(owner, name, broken)
    weights, watch = trained()
    assert torch.equal(plain, weights)
    [note] = [one for one in watch.trace.coverage["notes"] if "diag itself failed" in one]
    assert "RuntimeError: ours" in note
    assert not nn.modules.module._global_forward_hooks


def test_in_our_own_tests_it_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forward, "_see_inputs", broken)
    with pytest.raises(RuntimeError, match="ours"):
        trained()
