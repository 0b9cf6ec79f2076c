"""What is kept of evaluations between the steps of a training."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diag

X, Y = torch.randn(32, 6, generator=torch.Generator().manual_seed(1)), torch.arange(32) % 3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, 3)
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, x: Tensor, scale: Tensor | None = None, fail: bool = False) -> Tensor:
        if fail:
            raise RuntimeError("as asked")
        out: Tensor = self.head(self.body(x))
        return out if scale is None else out * scale.mean()


def entries(evaluate: Callable[[Net, int], Any], steps: int = 3) -> list[dict[str, Any]]:
    """Of a training that calls `evaluate(net, step)` after each step."""
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with diag.watch(net) as watch:
        for step in range(steps):
            net.train()
            optimizer.zero_grad()
            F.cross_entropy(net(X, scale=torch.ones(32, 1)), Y).backward()
            optimizer.step()
            evaluate(net.eval(), step)
    found: list[dict[str, Any]] = watch.trace.coverage["evaluations"]
    return found


def test_statistics_are_those_of_all_batches() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def evaluate(net: Net, step: int) -> None:
        for batch in (3 + X[:20], 5 * X[20:]):
            seen.append((batch, net(batch)))

    found = entries(evaluate, 2)
    assert [one["step"] for one in found] == [0, 1]
    for one, pairs in zip(found, (seen[:2], seen[2:]), strict=True):
        assert set(one["sites"]) == {"Net:input", "head"}
        for site, tensors in zip(("Net:input", "head"), zip(*pairs, strict=True), strict=True):
            values = torch.cat(tensors).double()
            spread = sum(len(each) * each.double().var(0, correction=0).mean() for each in tensors) / len(values)
            told = one["sites"][site]
            assert told["mean"] == pytest.approx(float(values.mean()), rel=1e-6, abs=1e-7)
            assert told["rms"] == pytest.approx(float(values.square().mean().sqrt()), rel=1e-6)
            assert told["sample_var"] == pytest.approx(float(spread), rel=1e-6)
            assert told["count"] == values.numel()


def test_of_many_passes_four_are_looked_at_and_of_many_evaluations_forty_kept() -> None:
    def evaluate(net: Net, step: int) -> None:
        with torch.no_grad():
            for _ in range(6):
                net(X)

    found = entries(evaluate, 60)
    assert [one["step"] for one in found] == [*range(8), *range(28, 60)]
    assert {one["sites"]["Net:input"]["count"] for one in found} == {4 * X.numel()}


@pytest.mark.parametrize("way", ["none", "training mode", "before training", "a part that was no outermost one"])
def test_what_is_no_evaluation(way: str) -> None:
    def evaluate(net: Net, step: int) -> None:
        with torch.no_grad():
            if way == "training mode":
                net.train()(X)
            elif way == "a part that was no outermost one":
                net.body(X)

    assert entries(evaluate) == []


def test_inputs_given_by_name_and_a_mode_without_no_grad() -> None:
    found = entries(lambda net, step: net(x=X, scale=2 * torch.ones(32, 1)))
    assert [set(one["sites"]) for one in found] == [{"Net:input.scale", "head"}] * 3
    assert found[0]["sites"]["Net:input.scale"]["rms"] == 2.0


@pytest.mark.parametrize("kind", ["outside", "inside", "sum", "function"])
def test_losses_are_kept_where_they_are_means_of_modules(kind: str) -> None:
    outside = nn.CrossEntropyLoss(reduction="sum" if kind == "sum" else "mean")
    seen = []

    @torch.no_grad()
    def evaluate(net: Net, step: int) -> None:
        values = []
        for rows in (slice(0, 16), slice(16, 32)):
            out = net(X[rows])
            criterion = F.cross_entropy if kind == "function" else net.criterion if kind == "inside" else outside
            values.append(criterion(out, Y[rows]).item())
        seen.append(sum(values) / 2)

    losses = [one["losses"] for one in entries(evaluate)]
    assert losses == ([{}] * 3 if kind in ("sum", "function") else [{"cross_entropy": pytest.approx(v)} for v in seen])


def test_a_model_that_returns_its_loss() -> None:
    class Returns(Net):
        def forward(self, x: Tensor) -> Any:  # type: ignore[override]
            out = self.head(self.body(x))
            return SimpleNamespace(loss=F.cross_entropy(out, Y), logits=out)

    torch.manual_seed(0)
    net = Returns()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with diag.watch(net) as watch:
        net(X).loss.backward()
        optimizer.step()
        with torch.no_grad():
            loss = net.eval()(X).loss
    assert watch.trace.coverage["evaluations"][0]["losses"] == {"cross_entropy": pytest.approx(float(loss))}


def test_a_pass_that_fails_leaves_nothing_open() -> None:
    def evaluate(net: Net, step: int) -> None:
        with torch.no_grad():
            with pytest.raises(RuntimeError, match="as asked"):
                net(X, fail=True)
            nn.CrossEntropyLoss()(torch.zeros(2, 3), Y[:2])

    assert [set(one["sites"]) for one in entries(evaluate)] == [{"Net:input"}] * 3


def test_training_is_bit_identical_and_infinities_are_left_out() -> None:
    def train(watched: bool) -> Tensor:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 3))
        optimizer = torch.optim.SGD(net.parameters(), 0.1)

        def loop() -> None:
            for _ in range(4):
                optimizer.zero_grad()
                F.cross_entropy(net.train()(X), Y).backward()
                optimizer.step()
                with torch.inference_mode():
                    net.eval()(torch.full((4, 6), float("inf")))

        if watched:
            with diag.watch(net) as watch:
                loop()
            assert watch.trace.coverage["evaluations"][-1]["sites"]["Sequential:input"]["count"] == 0
        else:
            loop()
        return net[0].weight.detach().clone()

    assert torch.equal(train(True), train(False))
