"""What is kept of the inputs of tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import diag


class Multiplied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.weight.to(x.dtype) if x.is_complex() else self.weight)


def watched(tests: list[torch.Tensor], steps: int = 1, first: bool = False) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def tried() -> None:
        with torch.no_grad():
            for one in tests:
                net(one)

    with diag.watch(net) as watch:
        for _ in range(steps):
            if first:
                tried()
            optimizer.zero_grad()
            F.cross_entropy(net(torch.randn(8, 2, 3)), torch.arange(8) % 2).backward()
            optimizer.step()
            tried()
    found: list[dict[str, Any]] = watch.trace.coverage["tested"]
    return found


def test_the_numbers_are_those_of_each_pass() -> None:
    batches = [torch.randn(20, 2, 3) + 4, 5 * torch.randn(10, 2, 3)]
    found = watched(batches)
    assert [(one["step"], one["samples"]) for one in found] == [(0, 20), (0, 10)]
    assert {one["site"] for one in found} == {"Sequential:input"}
    for one, batch in zip(found, batches, strict=True):
        flat = batch.double().flatten(1)
        assert one["mean"] == pytest.approx(float(flat.mean()), rel=1e-5)
        assert one["rms"] == pytest.approx(float(flat.square().mean()) ** 0.5, rel=1e-5)
        assert one["sample_var"] == pytest.approx(float(flat.var(0, correction=0).mean()), rel=1e-5)


def test_four_passes_after_a_step_and_sixteen_in_all() -> None:
    found = watched([torch.randn(4, 2, 3)] * 6, steps=10)
    assert [one["step"] for one in found] == [6] * 4 + [7] * 4 + [8] * 4 + [9] * 4


def test_before_any_training_nothing_is_a_test() -> None:
    assert watched([torch.zeros(4, 2, 3)], steps=0) == []


@pytest.mark.parametrize("how", ["sparse", "empty", "complex", "subclass"])
def test_other_tensors_are_left_alone(how: str) -> None:
    torch.manual_seed(0)
    net = Multiplied()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    x = torch.randn(8, 6)
    others = {
        "sparse": x.to_sparse(),
        "empty": x[:0],
        "complex": x.to(torch.complex64),
        "subclass": x.as_subclass(nn.Buffer),
    }
    with diag.watch(net) as watch:
        F.cross_entropy(net(x), torch.arange(8) % 2).backward()
        optimizer.step()
        with torch.no_grad():
            net(others[how])
    assert watch.trace.coverage["tested"] == []
    assert not [one for one in watch.trace.coverage["notes"] if "failed" in one]
