"""A watched model trains bit for bit as an unwatched one, copies as before, and is left alone afterwards."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import diag
from tests.probe.by_hand import only_row, rows_of
from tests.probe.conftest import assert_nothing_left

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


class Last(nn.Module):
    """The output at the last time of a recurrent network."""

    def forward(self, out: tuple[torch.Tensor, Any]) -> torch.Tensor:
        return out[0][:, -1]


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 20), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(20, 3)), (8, 6)),
    "cnn": (
        lambda: nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)),
        (4, 2, 6, 6),
    ),
    "lstm": (
        lambda: nn.Sequential(nn.LSTM(5, 7, 2, batch_first=True, dropout=0.3), Last(), nn.Linear(7, 3)),
        (4, 6, 5),
    ),
    "transformer": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.LazyLinear(3)),
        (4, 5, 8),
    ),
}


def trained(name: str, watched: bool) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    torch.manual_seed(7)
    make, shape = MODELS[name]
    model = make()
    model(torch.randn(shape))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)

    def train() -> None:
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(shape)), torch.randint(0, 3, shape[:1])).backward()
            optimizer.step()

    if watched:
        with diag.watch(model, optimizer) as watch:
            train()
        assert set(rows_of(watch.trace, "gradient")["step"]) == set(range(20))
    else:
        train()
    return model.state_dict(), torch.get_rng_state()


@pytest.mark.parametrize("name", MODELS)
def test_training_is_bit_identical(name: str) -> None:
    (plain, plain_random), (watched, watched_random) = trained(name, False), trained(name, True)
    assert plain.keys() == watched.keys()
    assert all(torch.equal(plain[key], watched[key]) for key in plain)
    assert torch.equal(plain_random, watched_random)


def hooks_on(module: nn.Module) -> list[Any]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    on_modules = [hook for one in module.modules() for kind in kinds for hook in getattr(one, kind).values()]
    on_tensors = [p._backward_hooks for p in module.parameters() if p._backward_hooks]
    return on_modules + on_tensors


@pytest.mark.parametrize("copying", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one)), "save"])
def test_model_and_optimizer_copy_while_watched(copying: Any) -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.Adam(model.parameters())
    if copying == "save":

        def copying(one: Any) -> Any:
            file = io.BytesIO()
            torch.save(one, file)
            file.seek(0)
            return torch.load(file, weights_only=False)

    with diag.watch(model, optimizer):
        loss = model(X).sum()
        twin = copying(model)  # between forward and backward, when hooks hang on activations
        loss.backward()
        optimizer.step()
        state = copying(optimizer)
        assert not hooks_on(model)
    assert not hooks_on(twin)
    assert twin.state_dict().keys() == model.state_dict().keys()
    assert len(state.state) == 4
    assert not state._optimizer_step_pre_hooks
    assert not state._optimizer_step_post_hooks
    twin(X).sum().backward()
    assert not hooks_on(model)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["forward", "backward", "step"])
def test_an_exception_leaves_nothing_behind(error: type[BaseException], where: str) -> None:
    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            raise error("here")

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin, self.fails = nn.Linear(6, 6), False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.relu(self.lin(x))
            if self.fails and where == "forward":
                raise error("here")
            return Failing.apply(x) if self.fails and where == "backward" else x

    class Step(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            if model.fails and where == "step":
                raise error("here")
            return super().step(closure)

    model = Deep()
    optimizer = Step(model.parameters(), 0.1)
    outer = nn.Sequential(model, nn.Tanh())
    watch = diag.watch(outer, optimizer)
    with pytest.raises(error, match="here"), watch:
        for model.fails in (False, True):
            optimizer.zero_grad()
            outer(X).sum().backward()
            optimizer.step()
    assert_nothing_left()
    assert not hooks_on(outer)
    assert {0, 1} == set(rows_of(watch.trace, "activation", "0.lin")["step"])
    outer[0].fails = False
    outer(X).sum().backward()
    assert watch.trace.coverage["training_passes"] == 2


def test_training_goes_on_after_an_exception_within_the_watch() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, optimizer) as watch:
        with pytest.raises(RuntimeError):
            model(X[:, :5])
        model(X).sum().backward()
        optimizer.step()
    assert only_row(watch.trace, "gradient", "1").call == 0
    assert torch.overrides._len_torch_function_stack() == 0


def test_training_goes_on_after_an_interrupt_that_no_hook_sees() -> None:
    class Interrupted(nn.Linear):
        fails = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.fails:
                raise KeyboardInterrupt
            return super().forward(x)

    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), Interrupted(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model, optimizer) as watch:
        with pytest.raises(KeyboardInterrupt):
            model(X)
        model[2].fails = False
        for _ in range(3):
            model(X).sum().backward()
            optimizer.step()
            assert torch.overrides._len_torch_function_stack() == 0
    gradients = rows_of(watch.trace, "gradient", "0")
    assert list(gradients["step"]) == [0, 1, 2]
    assert list(gradients["call"])[1:] == [0, 0]


def test_gradients_of_a_graph_that_outlives_its_watch_are_let_through() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    with diag.watch(model) as watch:
        loss = model(X).sum()
    loss.backward()
    assert model[0].weight.grad is not None
    assert not rows_of(watch.trace, "gradient").size


def test_no_activation_and_no_graph_is_kept_alive() -> None:
    kept: list[weakref.ref[Any]] = []

    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x * 2
            kept.append(weakref.ref(x))
            return x

    model = nn.Sequential(nn.Linear(6, 4), Spy(), nn.Sigmoid())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    gc.collect()
    gc.disable()
    try:
        with diag.watch(model, optimizer):
            loss = model(X).sum()
            assert kept[0]() is not None or loss.grad_fn is not None
            loss.backward()
            optimizer.step()
            del loss
            assert kept[0]() is None
            model(X)
            assert kept[1]() is None
    finally:
        gc.enable()


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


def test_memory_does_not_grow_over_a_thousand_steps() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def steps(number: int) -> None:
        for _ in range(number):
            optimizer.zero_grad()
            model(X).square().sum().backward()
            optimizer.step()

    with diag.watch(model, every=50) as watch:
        steps(401)
        tensors = live_tensors()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        steps(1200)  # 24 are measured: as many wait to be taken in as before
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert live_tensors() == tensors
    trace = watch.trace
    assert len(trace.steps) == 1601
    # 24 measured steps of 19 rows with 12 + 4 numbers, and a small dict for every step.
    assert after - before < 24 * 19 * 16 * 8 * 2 + 1200 * 600


def test_a_compiled_model_runs_eagerly_while_watched_and_compiled_again_after() -> None:
    calls = []

    def backend(graph: Any, inputs: Any) -> Any:
        calls.append(len(inputs))
        return lambda *args: (calls.append(-1), graph.forward(*args))[1]

    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    compiled = torch.compile(model, backend=backend)
    compiled(X).sum().backward()
    ran = len(calls)
    assert ran >= 2
    for target in (model, compiled):
        with diag.watch(target) as watch:
            compiled(X).sum().backward()
            watch.step()
        assert len(calls) == ran
        assert list(rows_of(watch.trace, "gradient")["site"]) == ["0", "1"]
        assert "code made by torch.compile ran eagerly while it was watched" in watch.trace.coverage["notes"]
    compiled(X).sum().backward()
    assert len(calls) > ran


def test_a_model_compiled_within_the_watch_is_seen() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    with diag.watch(model) as watch:
        model.compile(backend="eager")
        model(X).sum().backward()
        watch.step()
    assert list(rows_of(watch.trace, "gradient")["site"]) == ["0", "1"]
    assert "code made by torch.compile ran eagerly while it was watched" in watch.trace.coverage["notes"]


def test_tracing_and_scripting_a_watched_model() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    with diag.watch(model) as watch:
        exported = torch.export.export(model, (X,))
        model(X).sum().backward()
        watch.step()
    assert torch.equal(exported.module()(X), model(X))
    assert only_row(watch.trace, "gradient", "1").count == 32
