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


TAKEN = torch.arange(60)[::2]
KEPT = torch.arange(60) % 3 == 0


def of_a_slice(net: nn.Module) -> Tensor:
    return net(X[20:]).argmax(1) == Y[20:]


def of_numbers_of_samples(net: nn.Module) -> Tensor:
    return (net(X[TAKEN]).argmax(1) == Y[TAKEN]).float()


def of_a_mask(net: nn.Module) -> Tensor:
    return net(X[KEPT]).argmax(1).eq(Y[KEPT])


def of_what_a_mask_leaves(net: nn.Module) -> Tensor:
    return net(X[~KEPT]).argmax(1).eq(Y[~KEPT])


def with_labels_shifted(net: nn.Module) -> Tensor:
    shifted = Y + 4
    return net(X[-30:]).argmax(1) == shifted[-30:] - 4


def of_a_loss(net: nn.Module) -> Tensor:
    out = net(X[:-30])
    loss = nn.CrossEntropyLoss()(out, Y[:-30].long())
    return (out.argmax(1) == Y[:-30]) & (loss > 0)


def of_nodes_picked_from_all(net: nn.Module) -> Tensor:
    out = net(X)
    return out[TAKEN].argmax(1) == Y[TAKEN]


IDIOMS = [
    of_a_slice,
    of_numbers_of_samples,
    of_a_mask,
    of_what_a_mask_leaves,
    with_labels_shifted,
    of_a_loss,
    of_nodes_picked_from_all,
]


@pytest.mark.parametrize("test", IDIOMS)
def test_labels_that_are_a_part_of_others(test: Callable[[nn.Module], Tensor]) -> None:
    expected = []

    def count(net: nn.Module) -> None:
        told = test(net)
        expected.append((int(told.sum()), len(told)))

    assert [(one["right"], one["samples"]) for one in told_of(count)] == expected


def test_what_a_statement_assigns_still_holds_the_last_batch() -> None:
    expected = 0

    def test(net: nn.Module) -> None:
        nonlocal expected
        right = 0
        for x, y in zip(TEST_X.split(10), TEST_Y.split(10), strict=True):
            told = net(x).argmax(1)
            right += int((told == y).sum())
        expected = right

    [one] = told_of(test, steps=1)
    assert (one["right"], one["samples"]) == (expected, 40)


def test_what_is_gathered_holds_what_was_told_before() -> None:
    gathered: list[Tensor] = []
    filled = torch.zeros(40, dtype=torch.long)

    def test(net: nn.Module) -> Tensor:
        for x in TEST_X.split(10):
            told = net(x).argmax(1)
            gathered.append(told)
            filled[:10] = told
        return (gathered[0] == filled[:10]).any()

    assert told_of(test, steps=2) == []


def test_labels_that_a_model_is_given_by_name() -> None:
    class Own(Net):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
            return self.layer(x), None if labels is None else F.cross_entropy(self.layer(x), labels)

    net = Own()
    told = []
    with diag.watch(net) as watch:
        sum(part.sum() for part in net(X, labels=Y)).backward()
        torch.optim.SGD(net.parameters(), 0.1).step()
        with torch.no_grad():
            out, _ = net.eval()(TEST_X, labels=TEST_Y)
            told.append(int((out.argmax(1) == TEST_Y).sum()))
    assert [one["right"] for one in watch.trace.coverage["answers"]["Own"]] == told


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize(("shifts", "samples"), [("no", [75]), ("a copy", []), ("itself", [])])
def test_labels_that_are_what_the_model_is_given_too_are_shifted_by_it(
    shifts: str, samples: list[int], by_name: bool
) -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(5, 8), nn.Linear(8, 5)

        def forward(self, ids: Tensor, labels: Tensor | None = None) -> Any:
            logits = self.head(self.embedding(ids))
            return logits.mean(), logits

    ids = torch.randint(5, (20, 4), generator=torch.Generator().manual_seed(0))
    labels = (ids + 1) % 5 if shifts == "no" else ids.clone() if shifts == "a copy" else ids
    if labels is not ids:
        labels[::4, 0] = -100
    net = Causal()
    with diag.watch(net) as watch:
        net(ids, labels=labels)[0].backward()
        torch.optim.SGD(net.parameters(), 0.1).step()
        with torch.no_grad():
            _ = net.eval()(ids=ids, labels=labels) if by_name else net.eval()(ids, labels=labels)
    told = watch.trace.coverage["answers"].get("Causal", [])
    assert [one["samples"] for one in told] == samples


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 3)])
def test_numbers_are_held_against_those_that_stand_beside_them(shape: tuple[int, ...]) -> None:
    columns = shape[1] if len(shape) > 1 else 1
    wanted = (X[:, :columns] * 2 + 5).reshape(shape)
    net = Net(columns, lambda out: out.reshape(shape) if len(out) == 60 else out.reshape(-1, *shape[1:]))
    expected = []

    def test(net: nn.Module) -> None:
        given = net(X[20:])
        residual = given - wanted[20:]
        spread = wanted[20:].reshape(40, -1).var(0).sum() * 40
        expected.append((pytest.approx(float(residual.square().sum())), pytest.approx(float(spread)), 40))

    told = told_of(test, net)
    assert [(one["error"], one["spread"], one["samples"]) for one in told] == expected
    assert "right" not in told[0]


def test_the_score_of_numbers_is_their_correlation() -> None:
    net = Net(1)
    wanted = X @ torch.arange(6.0)[:, None]
    expected = []

    def test(net: nn.Module) -> None:
        out = net(X)
        both = torch.cat([out, wanted], 1)
        expected.append(pytest.approx(float(torch.corrcoef(both.T)[0, 1]) * 59**0.5, rel=1e-5))

    assert [one["z"] for one in told_of(test, net)] == expected


def test_the_score_of_labels_is_that_of_all_ways_to_pair_them() -> None:
    expected = []

    def test(net: nn.Module) -> None:
        out, right = net(X), Y
        pairs = out[:, right].double()
        centered = pairs - pairs.mean(0) - pairs.mean(1, keepdim=True) + pairs.mean()
        expected.append(pytest.approx(float(centered.diagonal().sum() / centered.square().sum().sqrt() * 59**0.5)))

    assert [one["z"] for one in told_of(test)] == expected


def test_what_the_model_is_given_is_not_wanted_of_it() -> None:
    same = Net(6)
    assert told_of(lambda net: (net(X[3:]) - X[3:]).square().mean(), same) == []


def no_labels(net: nn.Module) -> Any:
    return net(TEST_X).softmax(1)


def several_that_differ(net: nn.Module) -> Any:
    domain = torch.arange(40) % 2
    return net(TEST_X).argmax(1) == TEST_Y + 0 * domain


def numbers_of_samples(net: nn.Module) -> Any:
    index = torch.arange(40)
    return net(TEST_X)[index]


def a_column_of_the_output(net: nn.Module) -> Any:
    wanted = TEST_Y + 0.5
    return net(TEST_X)[:, 0] - wanted


class Counted:
    """What runs code of its own where a part of it is asked for."""

    asked = 0

    def __getitem__(self, place: Any) -> Tensor:
        self.asked += 1
        return TEST_Y


COUNTED = Counted()


def what_runs_code_of_its_own(net: nn.Module) -> Any:
    before = COUNTED.asked
    told = net(TEST_X).argmax(1) == COUNTED[0]
    assert COUNTED.asked == before + 1
    return told


def a_part_that_there_is_not(net: nn.Module) -> Any:
    return net(TEST_X) if len(X) > 1 else Y[999]


@pytest.mark.parametrize(
    "test",
    [
        no_labels,
        several_that_differ,
        numbers_of_samples,
        a_column_of_the_output,
        what_runs_code_of_its_own,
        a_part_that_there_is_not,
    ],
)
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


@torch.no_grad()
def told_by_one_of_two(net: nn.Module) -> Tensor:
    one, other = net(TEST_X)
    return (one if other.ndim == 0 else other).argmax(-1).eq(TEST_Y)


@pytest.mark.parametrize(
    ("wraps", "samples"),
    [
        (lambda out: (out, out.sum()), [40]),
        (lambda out: [out.new_zeros(1, 40, 8), out], [40]),
        (lambda out: (-out, out), []),  # boxes beside as many classes
    ],
)
def test_a_model_that_returns_several(wraps: Callable[[Tensor], Any], samples: list[int]) -> None:
    net = Net(wraps=wraps)
    torch.manual_seed(0)
    with diag.watch(net) as watch:
        sum(part.square().sum() for part in net(X)).backward()
        torch.optim.SGD(net.parameters(), 0.1).step()
        told_by_one_of_two(net)
    assert [told["samples"] for told in watch.trace.coverage["answers"].get("Net", [])] == samples


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
