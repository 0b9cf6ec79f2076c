"""What belongs to one step: accumulation, closures, several optimizers and losses, evaluation between, loss scaling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as global_hooks

import diag
from diag.probe.probe import Probe
from tests.probe.by_hand import Notes, as_double, assert_agrees, assert_row, only_row, rows_of, watched

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
Y = torch.randint(0, 3, (8,), generator=torch.Generator().manual_seed(2))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def notes_of(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, share: float = 1.0) -> tuple[Notes, float]:
    notes = Notes()
    for name, layer in model.named_children():
        x = notes(name, layer(x))
    loss = F.cross_entropy(x, y) * share
    return notes.differentiate(loss), loss.item()


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X), Y)
    loss.backward()
    optimizer.step()
    return loss.item()


def closure_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Callable[[], torch.Tensor], list[float]]:
    """What the optimizer's step is given, and the losses that it has come to."""
    losses: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y)
        loss.backward()
        losses.append(loss.item())
        return loss

    return closure, losses


def test_micro_batches_merge_into_one_row() -> None:
    model = network()
    parts = [notes_of(model, X[:3], Y[:3], 0.5), notes_of(model, X[3:], Y[3:], 0.5)]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, optimizer) as watch:
        for rows in (slice(0, 3), slice(3, None)):
            (F.cross_entropy(model(X[rows]), Y[rows]) * 0.5).backward()
        optimizer.step()
    trace = watch.trace
    for index, site in enumerate("012"):
        assert_row(only_row(trace, "activation", site), np.concatenate([one.values[index] for one, _ in parts]))
        assert_row(only_row(trace, "gradient", site), np.concatenate([one.gradients[index] for one, _ in parts]))
    assert trace.steps["loss"].tolist() == pytest.approx([parts[0][1] + parts[1][1]])
    assert trace.steps["backward_passes"].tolist() == [2]


def test_a_unit_must_be_zero_in_every_micro_batch_to_be_dead() -> None:
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
    with diag.watch(model) as watch:
        for x in (torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])):
            model(x).sum().backward()
        watch.step()
    assert only_row(watch.trace, "activation", "1").dead_units == 1  # two of three in either part
    assert watch.trace.units.query("site == '1'")["sleeping"].tolist() == [1]


def test_several_backward_passes_over_one_graph() -> None:
    model = network()
    notes, value = notes_of(model, X, Y)
    with diag.watch(model) as watch:
        loss = F.cross_entropy(model(X), Y)
        loss.backward(retain_graph=True)
        loss.backward()
        watch.step()
    assert only_row(watch.trace, "activation", "0").count == 40
    assert_row(only_row(watch.trace, "gradient", "0"), np.concatenate([notes.gradients[0]] * 2))
    assert watch.trace.steps["loss"].item() == pytest.approx(2 * value)


def test_two_passes_before_their_backward_are_two_calls() -> None:
    model = network()
    first, second = notes_of(model, X, Y)[0], notes_of(model, -X, Y)[0]
    with diag.watch(model) as watch:
        losses = [F.cross_entropy(model(X), Y), F.cross_entropy(model(-X), Y)]
        for loss in losses:
            loss.backward()
        watch.step()
    rows = list(rows_of(watch.trace, "gradient", "0").itertuples())
    assert [row.call for row in rows] == [0, 1]
    assert_row(rows[0], first.gradients[0])
    assert_row(rows[1], second.gradients[0])


@pytest.mark.parametrize("weight", [torch.tensor(-1.0), torch.tensor([-1.0])[0]])
def test_a_weighted_loss_counts_with_its_weight(weight: torch.Tensor) -> None:
    model = network()
    with diag.watch(model) as watch:
        loss = F.cross_entropy(model(X), Y)
        loss.backward(weight)
        watch.step()
    assert watch.trace.steps["loss"].item() == pytest.approx(-loss.item())


def test_backward_from_several_or_vector_outputs() -> None:
    model = network()
    with diag.watch(model) as watch:
        out = model(X).square().mean(0)
        torch.autograd.backward([out[0], out[1]], retain_graph=True)
        watch.step()
        out.backward(torch.ones(3))
        watch.step()
    assert watch.trace.steps["loss"].tolist() == pytest.approx([(out[0] + out[1]).item(), np.nan], nan_ok=True)


def test_a_closure_is_one_step_and_its_first_loss() -> None:
    model = network()
    reference = F.cross_entropy(model(X), Y).item()
    before = as_double(model[0].weight)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    closure, losses = closure_of(model, optimizer)
    with diag.watch(model, optimizer) as watch:
        optimizer.step(closure)
        middle = as_double(model[0].weight)
        optimizer.step(closure)
    trace = watch.trace
    assert len(losses) > 4
    assert len(trace.steps) == 2
    assert trace.steps["loss"].iloc[0] == pytest.approx(reference)
    assert trace.steps["backward_passes"].sum() == len(losses)
    assert only_row(trace, "activation", "0", 0).count == 40 * trace.steps["backward_passes"].iloc[0]
    assert_row(only_row(trace, "weight", "0.weight", 0), before)
    assert_row(only_row(trace, "update", "0.weight", 0), middle - before)
    assert_row(only_row(trace, "weight", "0.weight", 1), middle)


def test_a_model_that_first_runs_within_a_closure_has_its_first_step() -> None:
    """Lightning runs every pass within its optimizer's step: of the first one no model was known before it."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3.0)
    closure, losses = closure_of(model, optimizer)
    weights = [as_double(model[0].weight)]
    probe = Probe(discover=True)
    probe.start()
    for _ in range(3):
        optimizer.step(closure)
        weights.append(as_double(model[0].weight))
    probe.stop()
    trace = probe.trace()
    assert trace.steps["loss"].tolist() == pytest.approx(losses)
    assert trace.steps["backward_passes"].tolist() == [1, 1, 1]
    assert trace.coverage["steps_elsewhere"] == trace.coverage["idle_steps"] == 0
    for step in range(3):
        assert_row(only_row(trace, "weight", "0.weight", step), weights[step])
        assert_row(only_row(trace, "update", "0.weight", step), weights[step + 1] - weights[step])


def test_a_closure_that_trains_what_is_not_watched_is_a_step_elsewhere() -> None:
    model, other = network(), nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(other.parameters(), max_iter=2)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = other(torch.ones(3, 4)).square().mean()
        loss.backward()
        return loss

    with diag.watch(model) as watch:
        optimizer.step(closure)
        F.cross_entropy(model(X), Y).backward()
        watch.step()
    assert watch.trace.coverage["steps_elsewhere"] == 1
    assert watch.trace.coverage["idle_steps"] == 0
    assert len(watch.trace.steps) == 1


def test_two_optimizers_with_closures_take_a_step_each() -> None:
    model = network()
    optimizers = [torch.optim.Adam(model[i].parameters()) for i in (0, 2)]

    def closure() -> torch.Tensor:
        model.zero_grad()
        loss = F.cross_entropy(model(X), Y)
        loss.backward()
        return loss

    with diag.watch(model, optimizers) as watch:
        for optimizer in optimizers:
            optimizer.step(closure)
    parameters = watch.trace.parameters.dropna(subset="update_norm")
    assert parameters[["step", "site"]].values.tolist() == [
        [0, "0.weight"],
        [0, "0.bias"],
        [1, "2.weight"],
        [1, "2.bias"],
    ]
    assert parameters["norm"].notna().all()


class Adversaries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.g, self.d = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))


@pytest.mark.parametrize("announced", [True, False])
def test_adversaries_take_alternate_steps(announced: bool) -> None:
    gan = Adversaries()
    optimizers = torch.optim.SGD(gan.d.parameters(), 0.1), torch.optim.SGD(gan.g.parameters(), 0.2)
    losses = []
    with diag.watch(gan, optimizers if announced else None) as watch:
        for _ in range(2):
            for optimizer, fakes in zip(optimizers, (lambda: gan.g(X).detach(), lambda: gan.g(X)), strict=True):
                optimizer.zero_grad()
                loss = gan.d(fakes()).sigmoid().mean() + (gan.d(X).square().mean() if optimizer is optimizers[0] else 0)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
    trace = watch.trace
    assert trace.steps["optimizer"].tolist() == [0, 1, 0, 1]
    assert trace.steps["lr"].tolist() == [0.1, 0.2, 0.1, 0.2]
    assert trace.steps["loss"].tolist() == pytest.approx(losses)
    assert set(rows_of(trace, "update", step=2)["site"]) == {f"d.{i}.{p}" for i in (0, 2) for p in ("weight", "bias")}
    assert set(rows_of(trace, "update", step=3)["site"]) == {"g.weight", "g.bias"}
    assert list(rows_of(trace, "gradient", "d.0", 2)["call"]) == [0, 1]


@pytest.mark.parametrize("announced", [True, False])
def test_optimizers_that_step_one_after_the_other_share_a_step(announced: bool) -> None:
    model = network()
    weights = as_double(model[0].weight), as_double(model[2].weight)
    optimizers = [torch.optim.SGD(model[i].parameters(), 0.1) for i in (0, 2)]
    with diag.watch(model, optimizers if announced else None) as watch:
        for _ in range(2):
            model.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            gradients = [as_double(model[i].weight.grad) for i in (0, 2)]
            for optimizer in optimizers:
                optimizer.step()
    trace = watch.trace
    assert len(trace.steps) == 2
    for i, weight, gradient in zip((0, 2), weights, gradients, strict=True):
        assert_row(only_row(trace, "weight", f"{i}.weight", 0), weight)
        assert_row(only_row(trace, "weight_gradient", f"{i}.weight", 1), gradient)
        assert only_row(trace, "update", f"{i}.weight", 0).count == weight.size


def test_a_gradient_is_the_one_its_own_optimizer_was_given() -> None:
    """The first optimizer steps before the second, not yet known one has all of its gradient."""
    model = network()
    optimizers = [torch.optim.SGD(model[i].parameters(), 0.1) for i in (0, 2)]
    with diag.watch(model) as watch:
        F.cross_entropy(model(X), Y).backward()
        optimizers[0].step()
        model[2].weight.square().sum().backward()
        gradient = as_double(model[2].weight.grad)
        optimizers[1].step()
    assert_row(only_row(watch.trace, "weight_gradient", "2.weight"), gradient)


def test_passes_without_training_are_only_counted() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, optimizer) as watch:
        for _ in range(2):
            train_step(model, optimizer)
            with torch.no_grad():
                model(X)
            with torch.inference_mode():
                model(X)
            model.eval()
            model(X)
            model.train()
    trace = watch.trace
    assert trace.coverage["training_passes"] == 2
    assert trace.coverage["evaluation_passes"] == 6
    assert (rows_of(trace, "activation", "0")["count"] == 40).all()
    assert len(rows_of(trace, "activation", "0")) == 2


def test_a_part_that_stays_in_evaluation_mode_is_seen_at_every_step() -> None:
    model = nn.ModuleDict({"body": nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)), "head": nn.Linear(6, 3)})
    model["body"].eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, optimizer) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model["head"](model["body"](X)), Y).backward()
            optimizer.step()
    assert list(rows_of(watch.trace, "gradient", "body.1")["step"]) == [0, 1, 2]


def test_every_third_step_is_measured_and_the_others_keep_their_loss() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, every=3) as watch:
        losses = [train_step(model, optimizer) for _ in range(8)]
    trace = watch.trace
    assert set(trace.frame["step"]) == {0, 3, 6}
    assert trace.steps["loss"].tolist() == pytest.approx(losses)
    assert trace.coverage["steps"] == 8
    assert trace.coverage["measured_steps"] == 3
    for kind in ("activation", "gradient", "weight", "weight_gradient", "update"):
        assert set(rows_of(trace, kind)["step"]) == {0, 3, 6}


def test_steps_ended_by_hand_are_measured_at_their_stride_too() -> None:
    model = network()
    with diag.watch(model, every=2) as watch:
        for step in range(4):
            model(X).sum().backward()
            watch.step(float(step))
    assert set(watch.trace.frame["step"]) == {0, 2}
    assert watch.trace.steps["loss"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("with_optimizer", [False, True])
def test_no_module_hook_runs_in_a_step_that_is_not_measured(with_optimizer: bool) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    during = []

    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            during.append(len(global_hooks._global_forward_hooks))
            return model(x)

    spy = Spy()
    with diag.watch(spy, every=3) as watch:
        for step in range(5):
            spy.zero_grad()
            loss = spy(X).square().mean()
            loss.backward()
            if with_optimizer:
                optimizer.step()
            watch.step(loss)
            if step == 3:
                assert len(watch.trace.steps) == 4
    assert during == [1, 0, 0, 1, 0]
    assert set(watch.trace.frame["step"]) == {0, 3}
    assert len(watch.trace.steps) == 5


def test_a_step_that_is_not_measured_follows_a_trace_read_before_its_end() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, every=3) as watch:
        for step in range(5):
            model.zero_grad()
            model(X).square().mean().backward()
            if step != 2:
                optimizer.step()
            if step == 1:
                assert len(watch.trace.steps) == 2
            watch.step(float(step))
    assert watch.trace.steps["loss"].tolist() == [0, 1, 2, 3, 4]


def test_gradients_asked_for_within_the_loss_are_not_the_losses() -> None:
    model = network()
    x = X.clone().requires_grad_()

    def loss(m: nn.Module) -> torch.Tensor:
        (slope,) = torch.autograd.grad(m(x).sum(), x, create_graph=True)
        return m(X).square().mean() + (slope.norm(dim=1) - 1).square().mean()

    by_grad = torch.autograd.grad(loss(model), list(model.parameters()), allow_unused=True)
    notes = Notes()
    out = x
    for name, layer in model.named_children():
        out = notes(name, layer(out))
    (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    for name, layer in model.named_children():
        out = notes(name, layer(X if name == "0" else out))
    notes.differentiate(out.square().mean() + (slope.norm(dim=1) - 1).square().mean())
    trace = watched(model, lambda m, note: loss(m))
    assert_agrees(_without_norms(trace), notes)
    assert_row(only_row(trace, "weight_gradient", "0.weight"), as_double(by_grad[0]))
    assert trace.steps["backward_passes"].item() == 1


def _without_norms(trace: diag.Trace) -> diag.Trace:
    trace.frame = trace.frame[trace.frame["op"] != "norm"]
    return trace


def test_create_graph_backward_is_measured() -> None:
    model = network()
    notes, value = notes_of(model, X, Y)
    with diag.watch(model) as watch, pytest.warns(UserWarning, match="create_graph"):
        F.cross_entropy(model(X), Y).backward(create_graph=True)
        watch.step()
    model.zero_grad()
    assert_agrees(watch.trace, notes)
    assert watch.trace.steps["loss"].item() == pytest.approx(value)
