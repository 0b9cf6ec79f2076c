"""Losses that are scaled, watches beside and after each other, and steps that do not end as they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import diag
from diag.probe.probe import Probe
from tests.probe.by_hand import as_double, assert_agrees, assert_row, only_row, rows_of
from tests.probe.test_steps import X, Y, network, notes_of, train_step


def scaled_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, factor: float = 1.0
) -> float:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X), Y) * factor
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss.item()


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaled_loss_is_reported_unscaled(fused: bool) -> None:
    model = network()
    notes, value = notes_of(model, X, Y)
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(X), Y), model[0].weight)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, fused=fused)
    with diag.watch(model, optimizer) as watch:
        scaled_step(model, optimizer, torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert_agrees(watch.trace, notes)
    assert watch.trace.steps["loss"].item() == pytest.approx(value)
    assert_row(only_row(watch.trace, "weight_gradient", "0.weight"), as_double(gradient))


def test_only_the_scaled_loss_is_unscaled() -> None:
    model = network()
    notes, value = notes_of(model, X, Y)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with diag.watch(model, optimizer) as watch:
        scaled_step(model, optimizer, scaler)
        (scaler.scale(F.cross_entropy(model(X), Y)) / 2).backward()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    assert watch.trace.steps["loss"].tolist() == pytest.approx([value, 1.5 * value])
    expected = np.concatenate([notes.gradients[0] / 2, notes.gradients[0]])
    assert_row(only_row(watch.trace, "gradient", "0", 1), expected)


def test_losses_that_were_scaled_before_either_backward() -> None:
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with diag.watch(model) as watch:
        loss = F.cross_entropy(model(X), Y)
        scaled = scaler.scale([loss, 2 * loss])
        for one in scaled:
            one.backward(retain_graph=True)
        watch.step()
    assert watch.trace.steps["loss"].item() == pytest.approx(3 * loss.item())


def test_a_step_that_the_scaler_leaves_out_is_a_step_of_its_own() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with diag.watch(model, optimizer) as watch:
        losses = [scaled_step(model, optimizer, scaler, factor) for factor in (1.0, float("inf"), 1.0)]
    trace = watch.trace
    assert trace.steps["loss"].tolist() == pytest.approx(losses)
    assert trace.coverage["skipped_steps"] == [1]
    assert any(note.endswith("in step 1") for note in trace.coverage["notes"])
    assert set(rows_of(trace, "update")["step"]) == {0, 2}
    assert only_row(trace, "weight_gradient", "0.weight", 1).nonfinite == 30
    assert only_row(trace, "weight_gradient", "0.weight", 2).nonfinite == 0


def test_two_models_watched_at_once_keep_their_own_losses() -> None:
    left, right = network(), network()
    optimizers = torch.optim.SGD(left.parameters(), 0.1), torch.optim.SGD(right.parameters(), 0.1)
    losses: tuple[list[float], list[float]] = ([], [])
    with diag.watch(left) as first, diag.watch(right, every=2) as second:
        for _ in range(4):
            for model, optimizer, record in zip((left, right), optimizers, losses, strict=True):
                record.append(train_step(model, optimizer))
    for watch, expected in zip((first, second), losses, strict=True):
        assert watch.trace.steps["loss"].tolist() == pytest.approx(expected)
        assert (watch.trace.steps["backward_passes"] == 1).all()
        assert (rows_of(watch.trace, "gradient", "0")["count"] == 40).all()
    assert set(second.trace.frame["step"]) == {0, 2}


def test_watches_may_end_in_any_order() -> None:
    model = network()
    first, second = diag.watch(model), diag.watch(model)
    first.__enter__(), second.__enter__()
    model(X).sum().backward()
    first.__exit__(None, None, None)
    model(X).sum().backward()
    second.__exit__(None, None, None)
    assert only_row(first.trace, "gradient", "0").count == 40
    assert only_row(second.trace, "gradient", "0").count == 80


def test_watching_twice_in_sequence() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        with diag.watch(model, optimizer) as watch:
            train_step(model, optimizer)
        assert len(watch.trace.steps) == 1
        assert only_row(watch.trace, "gradient", "0").count == 40


def test_a_loss_given_after_the_trace_was_read_belongs_to_the_step_that_ended() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, optimizer) as watch:
        for step in range(2):
            train_step(model, optimizer)
            assert len(watch.trace.steps) == step + 1
            watch.step(10.0 + step)
    assert watch.trace.steps["loss"].tolist() == [10, 11]


def test_a_pass_that_was_abandoned_does_not_shift_the_calls() -> None:
    class Fragile(nn.Sequential):
        fails = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = super().forward(x)
            if self.fails:
                raise RuntimeError("out of memory")
            return x

    model = Fragile(nn.Linear(6, 5), nn.ReLU())
    with diag.watch(model) as watch:
        with pytest.raises(RuntimeError, match="out of memory"):
            model(X)
        model.fails = False
        model(X).sum().backward()
        watch.step()
    assert only_row(watch.trace, "activation", "0").call == 0
    assert only_row(watch.trace, "gradient", "0").order == 1


def test_a_step_that_was_not_finished_is_kept_and_noted() -> None:
    model = network()
    with diag.watch(model) as watch:
        model(X).sum().backward()
    assert len(watch.trace.steps) == 1
    assert "step 0 was not finished by an optimizer step" in watch.trace.coverage["notes"]
    assert "no optimizer was seen" in " ".join(watch.trace.coverage["notes"])


def test_an_evaluation_that_builds_a_graph_after_the_last_step_is_no_step() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with diag.watch(model, optimizer) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            model(X).sum().backward()
            optimizer.step()
        print(model(X).argmax(1))
    assert list(watch.trace.steps["step"]) == [0, 1, 2]
    assert watch.trace.coverage["steps"] == 3
    assert set(watch.trace.frame["step"]) == {0, 1, 2}
    assert "what ran after the last step was left out: no backward pass followed" in watch.trace.coverage["notes"]


def test_a_model_that_is_never_called_gives_an_empty_trace() -> None:
    with diag.watch(network()) as watch:
        pass
    trace = watch.trace
    assert trace.frame.empty
    assert trace.steps.empty
    assert trace.coverage["modules_seen"] == 0
    assert trace.coverage["not_seen"] == ["0", "1", "2"]


def test_a_long_run_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diag.probe.recorder._MAX_ROWS", 18 * 40)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with diag.watch(model, optimizer) as watch:
        for _ in range(90):
            train_step(model, optimizer)
    trace = watch.trace
    assert set(range(30)) < set(trace.frame["step"])
    kept = sorted(step for step in set(trace.frame["step"]) if step >= 30)
    assert all(step % 2 == 0 for step in kept)
    assert len(trace.frame) <= 18 * 41
    assert len(trace.steps) == 90
    assert "to bound the trace" in " ".join(trace.coverage["notes"])


@pytest.mark.parametrize(("way", "count"), [("step", 3), ("scaler", 0), ("unscaled", 0), ("no scaler", 0)])
def test_steps_on_gradients_that_are_still_scaled_are_counted(way: str, count: int) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=way != "no scaler")
    with diag.watch(model, optimizer) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(F.cross_entropy(model(X), Y)).backward()
            if way == "unscaled":
                scaler.unscale_(optimizer)
            if way == "scaler":
                scaler.step(optimizer)
            else:
                optimizer.step()
            scaler.update(4.0) if way in ("scaler", "unscaled") else None
    assert watch.trace.coverage["scaled_steps"] == count


def test_a_loss_is_told_with_the_model_whose_output_it_judges() -> None:
    teacher, student = network(), network()
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    probe = Probe([teacher, student], [optimizer])
    probe.start()
    for _ in range(2):
        with torch.no_grad():
            target = teacher(X).softmax(1)
        nn.KLDivLoss(reduction="batchmean")(student(X).log_softmax(1), target).backward()
        optimizer.step()
    probe.stop()
    sites = probe.trace().sites
    assert set(sites.loc[sites["role"] == "loss", "model"]) == {"Sequential#2"}


def test_a_scale_that_has_come_down_to_nothing_is_no_crash() -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=0.0)
    with diag.watch(model, optimizer) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(model(torch.randn(8, 4)).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
    assert watch.trace.steps["loss"].isna().all()


def test_an_optimizer_whose_every_step_is_left_out_has_its_steps() -> None:
    """Overflow from the first step on: an optimizer that is found when it steps never would be."""
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    probe = Probe(discover=True)
    probe.start()
    for _ in range(5):
        optimizer.zero_grad()
        scaler.scale(model(torch.randn(8, 4)).mul(torch.inf).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    probe.stop()
    trace = probe.trace()
    assert len(trace.steps) == 5
    assert len(trace.coverage["skipped_steps"]) == 5
    assert not [one for one in trace.coverage["notes"] if "no optimizer" in one]
