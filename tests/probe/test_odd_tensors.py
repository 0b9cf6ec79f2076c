"""Tensors that are no plain outputs: changed in place, returned as they came, complex, sparse, empty, half precise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import diag
from tests.probe.by_hand import assert_agrees, check_against_hand, noted, only_row, rows_of, unnoted, watched

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


def squared(*inputs: torch.Tensor) -> Any:
    """A loss that runs the model on these inputs and sums the squares of what it returns."""
    return lambda model, note: model(*inputs, note=note).square().sum()


class InPlace(nn.Module):
    """By hand the operations run out of place: the probe must see the same values and gradients in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True)
        self.lin, self.out = nn.Linear(27, 7), nn.Linear(7, 7)

    def forward(self, x: torch.Tensor, note: Any = unnoted) -> torch.Tensor:
        if note is unnoted:
            x = self.act(self.conv(x))
            x = self.lin(x.flatten(1))
            x.add_(1.0)
            x = F.relu(x, inplace=True)
            x = self.out(x)
            x[:, :3].relu_()
            return x.sigmoid()
        x = note("act", self.act(note("conv", self.conv(x)).clone()).clone())
        x = note("InPlace:relu", F.relu(note("lin", self.lin(x.flatten(1))) + 1.0))
        x = note("out", self.out(x))
        head = note("InPlace:relu", x[:, :3].relu())
        return note("InPlace:sigmoid", torch.cat([head, x[:, 3:]], 1).sigmoid())


def test_in_place_operations_after_a_measured_output() -> None:
    model, loss = InPlace(), squared(torch.randn(4, 2, 5, 5))
    notes = noted(model, loss)
    # Autograd gives no gradient at a view that was changed in place, only at its base: the row is missing, not zero.
    notes.gradients[notes.keys.index(("InPlace:relu", 1))] = None
    assert_agrees(watched(model, loss), notes)


def test_an_in_place_activation_without_its_input_reports_no_saturation() -> None:
    trace = watched(nn.Sequential(nn.Linear(6, 6), nn.SiLU(inplace=True)), lambda model, note: model(X).sum())
    assert torch.tensor(only_row(trace, "activation", "1").saturated_fraction).isnan()


@pytest.mark.parametrize("act, flat", [(nn.Sigmoid, 0.0025126), (nn.Hardtanh, -1.0), (nn.ReLU, 0.0)])
def test_saturation_of_an_activation(act: type[nn.Module], flat: float) -> None:
    model = nn.Sequential(nn.Linear(6, 50), act())
    with torch.no_grad():
        model[0].weight.mul_(8)
    out = model(X).double()
    high = {nn.Sigmoid: 1 - flat, nn.Hardtanh: 1.0, nn.ReLU: float("inf")}[act]
    expected = ((out <= flat) | (out >= high)).double().mean().item()
    assert 0.05 < expected < 0.9
    row = only_row(watched(model, lambda m, note: m(X).sum()), "activation", "1")
    assert row.saturated_fraction == pytest.approx(expected, abs=0.006)


def test_identity_and_dropout_that_return_their_input() -> None:
    class Passing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin, self.same, self.drop = nn.Linear(6, 4), nn.Identity(), nn.Dropout(0.0)

        def forward(self, x: torch.Tensor, note: Any = unnoted) -> torch.Tensor:
            x = note("lin", self.lin(note("same", self.same(x))))
            return note("drop", self.drop(note("same", self.same(x))))

    check_against_hand(Passing(), squared(X))


def test_a_module_that_returns_its_parameter_keeps_no_hook() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4))

        def forward(self) -> torch.Tensor:
            return self.weight

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.lin = Token(), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lin(x + self.token())

    model = Model()
    with diag.watch(model) as watch:
        for _ in range(2):  # two micro-batches: the hook of the first must not see the gradient of the second
            model(torch.ones(3, 4)).sum().backward()
        watch.step()
    assert not model.token.weight._backward_hooks
    row = only_row(watch.trace, "gradient", "token")
    assert row.count == 8
    assert row.mean == pytest.approx(3 * model.lin.weight.sum(0).mean().item(), rel=1e-5)


def test_an_output_beside_the_one_that_is_used_has_no_gradient() -> None:
    """Autograd tells hooks of the unused half of a chunk with None."""

    class Half(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return x.chunk(2, 1)

    model = nn.Sequential(nn.Linear(6, 6), Half())
    trace = watched(model, lambda m, note: m(X)[1].sum())
    assert set(rows_of(trace, "gradient")["site"]) == {"0", "1[1]"}


def test_complex_signals_are_measured_by_magnitude() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(6, 4, dtype=torch.complex64)

        def forward(self, x: torch.Tensor, note: Any = unnoted) -> torch.Tensor:
            return torch.view_as_real(note("lin", self.lin(x)))

    check_against_hand(Complex(), squared(X.to(torch.complex64)))


def test_integer_inputs_and_sparse_embeddings() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.bag = nn.Embedding(20, 4, sparse=True), nn.EmbeddingBag(20, 4, sparse=True, mode="sum")

        def forward(self, ids: torch.Tensor, note: Any = unnoted) -> torch.Tensor:
            return note("one", self.one(ids)).sum(1) + note("bag", self.bag(ids))

    trace = check_against_hand(Embedded(), squared(torch.randint(0, 20, (5, 3))))
    assert "Embedded:input" not in set(trace.frame["site"])


def test_an_empty_batch_is_counted_and_kills_no_unit() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    trace = watched(model, lambda m, note: m(X[:0]).sum())
    row = only_row(trace, "activation", "1")
    assert row.count == 0
    assert torch.tensor([row.mean, row.var, row.zero_fraction, row.dead_units]).isnan().all()
    assert trace.units.empty


def test_a_sequence_that_grows_from_nothing() -> None:
    model = nn.ModuleDict({"body": nn.Sequential(), "head": nn.Linear(6, 2)})
    with diag.watch(model) as watch:
        for _ in range(2):
            model["head"](model["body"](X)).sum().backward()
            watch.step()
            model["body"].append(nn.Linear(6, 6))
    assert "body.0" in set(rows_of(watch.trace, "activation", step=1)["site"])


def test_autocast_is_measured_in_its_own_precision() -> None:
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU())
    with diag.watch(model) as watch:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(X)
            loss = out.float().square().sum()
        loss.backward()
        watch.step()
    assert out.dtype == torch.bfloat16
    row = only_row(watch.trace, "activation", "1")
    assert row.rms == pytest.approx(out.double().square().mean().sqrt().item(), rel=1e-5)
    gradient = only_row(watch.trace, "gradient", "1")
    assert gradient.rms == pytest.approx(2 * row.rms, rel=1e-2)  # d(y^2)/dy, in bfloat16
