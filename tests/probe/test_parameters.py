"""Parameters per optimizer step: norms, gradients, updates, ratios."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import diag
from diag.probe import parameters
from tests.probe.by_hand import as_double, assert_row, only_row, rows_of

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))

OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, 1e-3),
    "adamw-foreach": lambda parameters: torch.optim.AdamW(parameters, 1e-2, weight_decay=0.1, foreach=True),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, 1e-3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_norms_and_the_update_ratio(name: str) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    optimizer = OPTIMIZERS[name](model.parameters())
    expected = []
    with diag.watch(model, optimizer) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            model(X).square().mean().backward()
            before = [as_double(p) for p in model.parameters()]
            gradients = [as_double(p.grad) for p in model.parameters()]
            optimizer.step()
            for old, gradient, p in zip(before, gradients, model.parameters(), strict=True):
                norm, change = np.linalg.norm(old), np.linalg.norm(as_double(p) - old)
                expected.append([norm, np.linalg.norm(gradient), change, change / norm])
    table = watch.trace.parameters
    assert list(table["site"][:4]) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    measured = table[["norm", "gradient_norm", "update_norm", "update_ratio"]].to_numpy()
    np.testing.assert_allclose(measured, expected, rtol=2e-4)


def test_frozen_unused_and_left_out_parameters() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.used, self.idle, self.forgotten = (nn.Linear(6, 6) for _ in range(4))
            self.frozen.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.forgotten(self.used(self.frozen(x)))

    model = Model()
    held = [*model.frozen.parameters(), *model.used.parameters(), *model.idle.parameters()]
    optimizer = torch.optim.SGD(held, 0.1)
    with diag.watch(model, optimizer) as watch:
        model(X).sum().backward()
        optimizer.step()
    trace = watch.trace
    sites = trace.sites.set_index("site")
    owners = ["frozen", "used", "idle", "forgotten"]
    assert [bool(sites.loc[f"{one}.weight", "trainable"]) for one in owners] == [False, True, True, True]
    assert [bool(sites.loc[f"{one}.weight", "optimized"]) for one in owners] == [True, True, True, False]
    weights = {
        kind: {one.split(".")[0] for one in rows_of(trace, kind)["site"]}
        for kind in ("weight", "weight_gradient", "update")
    }
    assert weights == {
        "weight": {"used", "idle", "forgotten"},
        "weight_gradient": {"used", "forgotten"},
        "update": {"used", "idle"},
    }
    assert only_row(trace, "update", "idle.weight").zero_fraction == 1
    assert "idle" in trace.coverage["not_seen"]
    assert not bool(sites.loc["frozen", "trainable"])


def test_an_announced_optimizer_that_never_steps_still_holds_its_parameters() -> None:
    model = nn.Linear(6, 2)
    with diag.watch(model, torch.optim.SGD([model.weight], 0.1)) as watch:
        model(X).sum().backward()
        watch.step()
    sites = watch.trace.sites.set_index("site")
    assert bool(sites.loc["weight", "optimized"])
    assert not bool(sites.loc["bias", "optimized"])
    assert only_row(watch.trace, "weight_gradient", "weight").count == 12


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.SparseAdam])
@pytest.mark.parametrize("layer", [nn.Embedding, nn.EmbeddingBag])
def test_sparse_gradients_count_the_zeros_they_do_not_store(
    make: type[torch.optim.Optimizer], layer: type[nn.Module]
) -> None:
    model = layer(50, 4, sparse=True)
    optimizer = make(model.parameters(), lr=0.1)
    before = as_double(model.weight)
    with diag.watch(model, optimizer) as watch:
        model(torch.tensor([[1, 2, 2]])).square().sum().backward()
        gradient = as_double(model.weight.grad)
        optimizer.step()
    assert model.weight.grad.is_sparse
    assert_row(only_row(watch.trace, "weight_gradient", "weight"), gradient)
    assert_row(only_row(watch.trace, "update", "weight"), as_double(model.weight) - before)
    assert only_row(watch.trace, "weight_gradient", "weight").zero_fraction == pytest.approx(48 / 50)


def test_a_large_parameter_is_measured_on_a_sample() -> None:
    model = nn.Linear(1500, 1024, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = as_double(model.weight)
    with diag.watch(model, optimizer) as watch:
        model(torch.randn(4, 1500)).square().mean().backward()
        gradient = as_double(model.weight.grad)
        optimizer.step()
    change = np.linalg.norm(as_double(model.weight) - before)
    row = watch.trace.parameters.iloc[0]
    assert only_row(watch.trace, "update", "weight").count < 2**20 < before.size
    assert row["norm"] == pytest.approx(np.linalg.norm(before), rel=1e-5)
    assert row["gradient_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    assert row["update_norm"] == pytest.approx(change, rel=0.03)
    assert row["update_ratio"] == pytest.approx(change / np.linalg.norm(before), rel=0.03)


@pytest.mark.parametrize("shape", [(256, 256, 3, 3), (128, 64, 3, 3), (512, 384), (300, 300), (64, 3, 24, 24)])
def test_the_sample_meets_every_column_and_corner_alike(shape: tuple[int, ...]) -> None:
    places = torch.arange(math.prod(shape)).reshape(shape)
    seen = parameters._sample(places)
    assert len(seen) <= 2**16
    for dim in range(len(shape)):
        inner = math.prod(shape[dim + 1 :])
        counts = torch.bincount((seen // inner) % shape[dim], minlength=shape[dim])
        assert counts.min() >= 0.9 * len(seen) / shape[dim] - 1
        assert counts.max() <= 1.1 * len(seen) / shape[dim] + 1


def test_twin_units_of_weights_and_their_gradients() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    with torch.no_grad():
        model[0].weight[1:3] = model[0].weight[0]
        model[0].bias.zero_()
        model[2].weight.fill_(0.3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, optimizer) as watch:
        model(X).square().sum().backward()
        optimizer.step()
    assert only_row(watch.trace, "weight", "0.weight").twin_units == 3
    assert only_row(watch.trace, "weight_gradient", "0.weight").twin_units == 3
    assert np.isnan(only_row(watch.trace, "weight", "0.bias").twin_units)
    assert np.isnan(only_row(watch.trace, "activation", "0").twin_units)


def test_a_complex_parameter_by_its_magnitude() -> None:
    model = nn.Linear(6, 4, dtype=torch.complex64)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = model.weight.detach().clone()
    with diag.watch(model, optimizer) as watch:
        model(X.to(torch.complex64)).abs().square().sum().backward()
        optimizer.step()
    row = watch.trace.parameters.set_index("site").loc["weight"]
    assert row["norm"] == pytest.approx(before.abs().square().sum().sqrt().item(), rel=1e-5)
    change = (model.weight.detach() - before).abs().square().sum().sqrt().item()
    assert row["update_norm"] == pytest.approx(change, rel=1e-4)


def test_the_learning_rate_is_the_one_the_step_was_taken_with() -> None:
    model = nn.Linear(6, 2)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    with diag.watch(model, optimizer) as watch:
        for _ in range(3):
            model(X).sum().backward()
            optimizer.step()
            scheduler.step()
    assert watch.trace.steps["lr"].tolist() == [1.0, 0.5, 0.25]


def test_parameters_stand_where_their_module_runs() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    with diag.watch(model) as watch:
        model(X).sum().backward()
        watch.step()
    orders = watch.trace.sites.set_index("site")["order"]
    assert orders["0.weight"] == orders["0"] == 1
    assert orders["2.bias"] == orders["2"] == 3


def test_norms_without_any_weight_row() -> None:
    assert diag.Trace().parameters.empty
