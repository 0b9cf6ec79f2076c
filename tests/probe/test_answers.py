"""Samples told right in tests, by the labels that stand beside the call."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diag

X = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
Y = (X @ torch.randn(6, 3, generator=torch.Generator().manual_seed(2))).argmax(1)
TEST_X, TEST_Y = X[:40], Y[:40]


class Net(nn.Module):
    def __init__(self, outputs: int = 3, wraps: Callable[[Tensor], Any] = lambda out: out) -> None:
        super().__init__()
        self.layer, self.wraps = nn.Linear(6, outputs), wraps

    def forward(self, x: Tensor) -> Any:
        return self.wraps(self.layer(x))


def told_of(test: Callable[[nn.Module], Any], net: nn.Module | None = None, steps: int = 5) -> list[dict[str, Any]]:
    """What is told of tests after each step."""
    torch.manual_seed(0)
    net = net or Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with diag.watch(net) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            out = net.train()(X)
            getattr(out, "logits", out).square().mean().backward()
            optimizer.step()
            with torch.no_grad():
                test(net)
    told: dict[str, list[dict[str, Any]]] = watch.trace.coverage["answers"]
    return told.get("Net", [])


def one_line(net: nn.Module) -> float:
    return float((net(TEST_X).argmax(1) == TEST_Y).float().mean())


def in_eval_mode(net: nn.Module) -> float:
    net.eval()
    predictions = net(TEST_X).argmax(1)
    return float((predictions == TEST_Y).float().mean())


def in_batches(net: nn.Module) -> float:
    right = 0
    for x, y in zip(TEST_X.split(10), TEST_Y.split(10), strict=True):
        out = net(x)
        right += int((out.max(1).indices == y).sum())
    return right / 40


def in_a_comprehension(net: nn.Module) -> float:
    pairs = zip(TEST_X.split(10), TEST_Y.split(10), strict=True)
    return sum(int((net(x).argmax(1) == y).sum()) for x, y in pairs) / 40


def of_dicts(net: nn.Module) -> float:
    right = 0
    for batch in [{"x": TEST_X[:20], "y": TEST_Y[:20]}, {"x": TEST_X[20:], "y": TEST_Y[20:]}]:
        if net(batch["x"]).argmax(1).eq(batch["y"]).any():
            right += 1
    return right / 2


def with_numpy(net: nn.Module) -> float:
    labels = TEST_Y.numpy()
    return float((net(TEST_X).argmax(1).numpy() == labels).mean())


@pytest.mark.parametrize("test", [one_line, in_eval_mode, in_batches, in_a_comprehension, of_dicts, with_numpy])
def test_right_samples_are_those_of_an_own_count(test: Callable[[nn.Module], Any]) -> None:
    counted = []

    def count(net: nn.Module) -> None:
        counted.append(int((net.get_submodule("layer")(TEST_X).argmax(1) == TEST_Y).sum()))
        test(net)

    told = told_of(count)
    labels = {str(label): int(TEST_Y.eq(label).sum()) for label in range(3)}
    assert [(one["step"], one["right"]) for one in told] == list(enumerate(counted))
    assert all(one["samples"] == 40 and one["labels"] == labels for one in told)


def test_two_sets_are_told_apart_by_who_asks() -> None:
    def share(net: nn.Module, x: Tensor, y: Tensor) -> float:
        return float((net(x).argmax(1) == y).float().mean())

    def both(net: nn.Module) -> None:
        share(net, X, Y)
        share(net, TEST_X, TEST_Y)

    assert [one["samples"] for one in told_of(both, steps=1)] == [60, 40]


def no_labels(net: nn.Module) -> Any:
    return net(TEST_X).softmax(1)


def several_that_differ(net: nn.Module) -> Any:
    domain = torch.arange(40) % 2
    return net(TEST_X).argmax(1) == TEST_Y + 0 * domain


def numbers_of_samples(net: nn.Module) -> Any:
    index = torch.arange(40)
    return net(TEST_X)[index]


def targets_of_a_regression(net: nn.Module) -> Any:
    wanted = TEST_Y + 0.5
    return net(TEST_X)[:, 0] - wanted


@pytest.mark.parametrize("test", [no_labels, several_that_differ, numbers_of_samples, targets_of_a_regression])
def test_what_is_not_told(test: Callable[[nn.Module], Any]) -> None:
    assert told_of(test) == []


@pytest.mark.parametrize("inverted", [False, True])
def test_the_samples_of_a_mask(inverted: bool) -> None:
    mask = torch.arange(60) % 3 == 0
    expected = []

    def chosen(net: nn.Module) -> None:
        out = net(X)
        right, loss = (out[mask].argmax(1) == Y[mask]).sum(), F.cross_entropy(out[mask], Y[mask])
        expected.append((int(right), pytest.approx(float(loss), rel=1e-6)))

    def others(net: nn.Module) -> None:
        with torch.no_grad():
            out = net(X)
        right, loss = (out.argmax(1) == Y)[~mask].sum(), F.cross_entropy(out[~mask], Y[~mask])
        expected.append((int(right), pytest.approx(float(loss), rel=1e-6)))

    told = told_of(others if inverted else chosen)
    assert [(one["right"], one["loss"]) for one in told] == expected
    assert {one["samples"] for one in told} == {40 if inverted else 20}


class Data:
    """Holds its tensors in a mapping, as those of torch_geometric do, and counts what is asked of it by name."""

    def __init__(self) -> None:
        self._store = {"y": TEST_Y}
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return self._store[name]

    @property
    def labels(self) -> Tensor:
        self.asked += 1
        return TEST_Y


def test_labels_that_are_an_attribute() -> None:
    class Holder:
        def __init__(self) -> None:
            self.y = TEST_Y

    held, data = Holder(), Data()
    assert [one["samples"] for one in told_of(lambda net: net(TEST_X).argmax(1) == held.y, steps=1)] == [40]
    assert [one["samples"] for one in told_of(lambda net: net(TEST_X).argmax(1) == data.y, steps=1)] == [40]
    assert told_of(lambda net: (net(TEST_X), data.labels), steps=1) == []
    assert data.asked == 1


@pytest.mark.parametrize(("kind", "even"), [("logits", 0.0), ("probabilities", 0.5)])
def test_two_classes_of_one_number(kind: str, even: float) -> None:
    wanted = (Y > 0).float()[:, None]
    net = Net(1, torch.sigmoid if kind == "probabilities" else lambda out: 3 * out)
    expected = []

    def test(net: nn.Module) -> None:
        net.eval()
        out = net(X)
        expected.append(int(((out > even).float() == wanted).sum()))

    assert [one["right"] for one in told_of(test, net)] == expected


def test_a_model_that_returns_its_logits_by_name() -> None:
    net = Net(wraps=lambda out: SimpleNamespace(logits=out))

    def test(net: nn.Module) -> Any:
        batch = (TEST_X, TEST_Y)
        return (net(batch[0]).logits.argmax(1) == batch[1]).sum()

    assert [one["samples"] for one in told_of(test, net, 1)] == [40]


def test_code_without_a_file_and_classes_named_in_numpy() -> None:
    names = {"x": TEST_X, "y": TEST_Y.numpy().astype(np.uint8)}
    assert told_of(lambda net: eval("net(x).argmax(1).numpy() == y", {**names, "net": net})) == []


def test_variables_of_the_caller_are_not_kept_and_its_locals_not_changed() -> None:
    gone, kept = [], []

    def dropped(net: nn.Module) -> None:
        y = TEST_Y.clone()
        told = net(TEST_X).argmax(1) == y
        seen = weakref.ref(y)
        del y, told
        gone.append(seen() is None)

    def holding(net: nn.Module) -> None:
        settings = locals()
        y = TEST_Y.clone()
        told = net(TEST_X).argmax(1) == y
        kept.append((len(told), set(settings)))

    assert [one["samples"] for one in told_of(dropped, steps=2)] == [40, 40]
    assert gone == [True, True]
    assert told_of(holding, steps=2) == []
    assert kept == [(40, {"net", "kept"})] * 2


def test_labels_of_positions_but_for_those_to_be_ignored() -> None:
    tags = TEST_Y.reshape(20, 2).clone()
    tags[:5, 1] = -100

    def test(net: nn.Module) -> Any:
        told = net(TEST_X).argmax(-1)
        return (told == tags)[tags >= 0].float().mean()

    net = Net(wraps=lambda out: out.reshape(20, 2, 3) if len(out) == 40 else out)
    [one] = told_of(test, net, steps=1)
    right = int(((net(TEST_X).argmax(-1) == tags) & (tags >= 0)).sum())
    assert (one["samples"], one["right"]) == (35, right)
    assert "-100" not in one["labels"]
