"""Where tensors are met: every module, function and call, named, in order, with the values and gradients found by
hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import diag
from tests.probe.by_hand import check_against_hand, only_row, rows_of, unnoted, watched

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


def squared(*inputs: torch.Tensor) -> Any:
    """A loss that runs the model on these inputs and sums the squares of what it returns."""
    return lambda model, note: model(*inputs, note=note).square().sum()


class Leaves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.norm, self.b = nn.Linear(6, 5), nn.GELU(), nn.BatchNorm1d(5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor, note: Any = unnoted) -> torch.Tensor:
        x = note("act", self.act(note("a", self.a(x))))
        return note("b", self.b(note("norm", self.norm(x))))


def test_every_leaf_module_in_execution_order() -> None:
    trace = check_against_hand(Leaves(), squared(X))
    assert list(rows_of(trace, "activation")["op"]) == ["input", "linear", "gelu", "batch_norm", "linear"]
    assert trace.coverage["modules_seen"] == trace.coverage["modules_total"] == 4
    assert trace.coverage["not_seen"] == []


class Functions(nn.Module):
    """Every way to call an activation that is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor, note: Any = unnoted) -> torch.Tensor:
        x = note("lin", self.lin(x))
        x = note("Functions:sigmoid", torch.sigmoid(x - 0.1))
        x = note("Functions:tanh", x.tanh())
        x = note("Functions:sigmoid", torch.special.expit(x))
        x = note("Functions:relu", F.relu(x - 0.6))
        x = note("Functions:clamp", (x - 0.01).clamp(min=0))
        x = note("Functions:clamp", torch.clip(x - 0.005, 0))
        x = note("Functions:gelu", F.gelu(input=x))
        x = note("Functions:softmax", x.softmax(-1))
        x = note("Functions:threshold", F.threshold(x, 0.16, 0.0))
        return note("Functions:relu", torch.relu(x))


def test_functional_activations_by_the_module_they_run_in() -> None:
    check_against_hand(Functions(), squared(X))


def test_a_function_is_named_by_its_module_path_and_operation() -> None:
    class Inner(Functions):
        pass

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Inner(), Inner()])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.blocks[1](self.blocks[0](x))

    trace = watched(Outer(), lambda model, note: model(X).sum())
    assert {"blocks.0:relu", "blocks.1:tanh", "blocks.0.lin"} <= set(trace.frame["site"])


def test_a_clamp_between_bounds_is_no_activation() -> None:
    class Bounded(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).clamp(-1, 1).clamp(max=0.5)

    assert ":clamp" not in "".join(watched(Bounded(6, 2), lambda model, note: model(X).sum()).frame["site"])


def test_attention_functional_and_module() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.mha = nn.Linear(6, 6), nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x: torch.Tensor, note: Any = unnoted) -> torch.Tensor:
            q = note("q", self.q(x))
            x = note("Attention:attention", F.scaled_dot_product_attention(q, x, x))
            out, weights = self.mha(x, x, x)
            note("mha", out), note("mha[1]", weights)
            return out + weights.sum()

    trace = check_against_hand(Attention(), squared(torch.randn(3, 4, 6)))
    assert trace.coverage["not_seen"] == []


def test_every_call_of_shared_modules() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin, self.act = nn.Linear(6, 6), nn.Tanh()

        def forward(self, x: torch.Tensor, note: Any = unnoted) -> torch.Tensor:
            for _ in range(3):
                x = note("act", self.act(note("lin", self.lin(x))))
            return x

    trace = check_against_hand(Shared(), squared(X))
    assert list(rows_of(trace, "gradient", "lin")["call"]) == [0, 1, 2]


def test_a_cell_unrolled_for_30_steps() -> None:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.RNNCell(6, 4)

        def forward(self, x: torch.Tensor, note: Any = unnoted) -> torch.Tensor:
            h = x.new_zeros(x.shape[0], 4)
            for _ in range(30):
                h = note("cell", self.cell(x, h))
            return h

    assert len(rows_of(check_against_hand(Unrolled(), squared(X)), "gradient", "cell")) == 30


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], batch_first: bool) -> None:
        super().__init__()
        self.rnn = kind(6, 4, num_layers=2, batch_first=batch_first)

    def forward(self, x: Any, note: Any = unnoted) -> torch.Tensor:
        out, state = self.rnn(x)
        out = note("rnn", out.data if isinstance(out, nn.utils.rnn.PackedSequence) else out)
        if isinstance(state, tuple):
            state = note("rnn[1][0]", state[0]) + note("rnn[1][1]", state[1])
        else:
            note("rnn[1]", state)
        return out.sum() + state.sum()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_outputs_and_their_variance_over_samples(kind: type[nn.RNNBase], batch_first: bool) -> None:
    model = Recurrent(kind, batch_first)
    x = torch.randn(3, 5, 6)
    trace = check_against_hand(model, squared(x))
    out, state = model.rnn(x)
    state = state[0] if isinstance(state, tuple) else state
    site = "rnn[1][0]" if kind is nn.LSTM else "rnn[1]"
    for name, tensor, samples in (("rnn", out, 0 if batch_first else 1), (site, state, 1)):
        expected = tensor.detach().double().var(samples, correction=0).mean().item()
        assert only_row(trace, "activation", name).sample_var == pytest.approx(expected, rel=1e-4)
        assert only_row(trace, "activation", name).units == 4


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_packed_sequences(kind: type[nn.RNNBase]) -> None:
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 3, 6), torch.tensor([5, 3, 2]))
    check_against_hand(Recurrent(kind, False), squared(packed))


class Point(NamedTuple):
    left: torch.Tensor
    none: None
    right: torch.Tensor


@dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]
    ids: torch.Tensor


SHAPES: dict[str, tuple[Any, Any, str]] = {
    "tuple": (lambda a, b: (a, b), lambda out: out, "[1]"),
    "dict": (lambda a, b: {"x": a, "y": [b, None]}, lambda out: (out["x"], out["y"][0]), "[y][0]"),
    "dataclass": (lambda a, b: Output(a, (b,), torch.arange(3)), lambda out: (out.logits, *out.hidden), "[hidden][0]"),
    "namedtuple": (lambda a, b: Point(a, None, b), lambda out: (out.left, out.right), "[2]"),
}


class Head(nn.Module):
    def __init__(self, pack: Any) -> None:
        super().__init__()
        self.weight, self.pack = nn.Parameter(torch.randn(6, 6)), pack

    def forward(self, x: torch.Tensor) -> Any:
        return self.pack(x * self.weight[0], x - self.weight[1])


@pytest.mark.parametrize("shape", SHAPES)
def test_structured_outputs(shape: str) -> None:
    pack, unpack, suffix = SHAPES[shape]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = Head(pack)

        def forward(self, x: torch.Tensor, note: Any = unnoted) -> torch.Tensor:
            left, right = unpack(self.head(x))
            return note("head", left) + 2 * note(f"head{suffix}", right)

    check_against_hand(Model(), squared(X))


def test_a_module_that_returns_none_or_integers_counts_as_seen() -> None:
    class Silent(nn.Module):
        def forward(self, x: torch.Tensor) -> None:
            return None

    class Indices(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.argmax(1)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.silent, self.indices, self.lin = Silent(), Indices(), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.silent(x)
            self.indices(x)
            return self.lin(x)

    trace = watched(Model(), lambda model, note: model(X).sum())
    assert trace.coverage["not_seen"] == []
    assert set(rows_of(trace, "activation")["site"]) == {"Model:input", "lin"}


def test_inputs_by_keyword_are_seen_as_inputs() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin, self.act = nn.Linear(6, 3), nn.GELU()

        def forward(self, x: torch.Tensor, *, scale: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            return self.act(input=self.lin(input=x)) * scale

    model = Model()
    trace = watched(model, lambda m, note: m(X, scale=torch.ones(3), ids=torch.arange(3)).sum())
    sites = rows_of(trace, "activation")
    assert list(sites["site"]) == ["Model:input", "Model:input.scale", "lin", "act"]
    flat = float((model.lin(X) <= -3.5).double().mean())
    assert only_row(trace, "activation", "act").saturated_fraction >= flat
    assert not rows_of(trace, "gradient", "Model:input").size


def test_inputs_are_measured_before_the_model_changes_them() -> None:
    class Scaling(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.mul_(100.0)
            return super().forward(x)

    trace = watched(Scaling(6, 2), lambda model, note: model(X.clone()).sum())
    assert only_row(trace, "activation", "Scaling:input").max == pytest.approx(X.max().item())


def test_lazy_modules_and_modules_added_in_training() -> None:
    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.LazyLinear(4)
            self.layers = nn.ModuleList()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            for layer in self.layers:
                x = layer(x)
            return x

    model = Growing()
    with diag.watch(model) as watch:
        for _ in range(3):
            model(X).sum().backward()
            watch.step()
            model.layers.append(nn.Linear(4, 4))
    sites = rows_of(watch.trace, "activation")
    assert [set(sites.loc[sites["step"] == step, "site"]) for step in range(3)] == [
        {"Growing:input", "first"},
        {"Growing:input", "first", "layers.0"},
        {"Growing:input", "first", "layers.0", "layers.1"},
    ]
    assert "layers.1.weight" in set(rows_of(watch.trace, "weight", step=2)["site"])


def pruned(lin: nn.Linear) -> nn.Linear:
    prune.random_unstructured(lin, "weight", 0.5)
    lin.weight = lin.weight.detach()  # as it is, torch cannot copy it
    return lin


@pytest.mark.parametrize(
    "transform",
    [
        lambda lin: nn.utils.parametrizations.weight_norm(lin),
        lambda lin: nn.utils.parametrizations.spectral_norm(lin),
        lambda lin: pruned(lin),
    ],
    ids=["weight_norm", "spectral_norm", "prune"],
)
def test_reparametrized_layers_are_still_one_layer(transform: Any) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = transform(nn.Linear(6, 4))

        def forward(self, x: torch.Tensor, note: Any = unnoted) -> torch.Tensor:
            return note("lin", self.lin(x))

    trace = check_against_hand(Wrapped(), squared(X))
    assert trace.coverage["modules_total"] == 1
    parameters = trace.sites[trace.sites["kind"] == "parameter"]
    assert (parameters["owner"] == "lin").all()
    assert (parameters["order"] == 1).all()


def test_reading_a_parametrized_weight_outside_forward_is_no_pass() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)))
    with diag.watch(model) as watch:
        (model(X).sum() + model[0].weight.square().sum()).backward()
        watch.step()
    assert watch.trace.coverage["training_passes"] == 1
    assert set(rows_of(watch.trace, "activation")["site"]) == {"Sequential:input", "0"}


def test_functorch_models_are_let_through() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh())
    parameters = dict(model.named_parameters())

    def loss(values: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, values, (x,)).sum()

    with diag.watch(model) as watch:
        per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, X)
        stacked = torch.func.functional_call(model, parameters, (X,))
        stacked.sum().backward()
        watch.step()
    assert per_sample["0.weight"].shape == (8, 4, 6)
    assert only_row(watch.trace, "gradient", "1").count == 32


def test_what_cannot_be_measured_is_said() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    parts = [torch.ones(3, 6), torch.ones(2, 6)]
    with diag.watch(model) as watch:
        model(torch.nested.nested_tensor(parts, layout=torch.jagged)).values().sum().backward()
        watch.step()
    assert rows_of(watch.trace, "activation").empty
    (note,) = [one for one in watch.trace.coverage["notes"] if "could not be measured" in one]
    assert note.endswith("the model itself, 0, 1")


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_scripted_model_is_one_site() -> None:
    model = torch.jit.script(nn.Sequential(nn.Linear(6, 4), nn.ReLU()))
    trace = watched(model, lambda m, note: m(X).sum())
    assert set(rows_of(trace, "gradient")["site"]) == {"RecursiveScriptModule"}
    assert trace.coverage["not_seen"] == ["0", "1"]


def test_names_of_several_models_tell_them_apart() -> None:
    from diag.probe.probe import Probe

    models = [nn.Sequential(nn.Linear(6, 6)), nn.Sequential(nn.Linear(6, 6))]
    probe = Probe(models)
    probe.start()
    models[1](models[0](X)).sum().backward()
    probe.end_step()
    probe.stop()
    trace = probe.trace()
    assert set(trace.sites["site"]) >= {"Sequential.0", "Sequential#2.0", "Sequential#2.0.weight"}
    assert set(trace.sites["owner"]) == {"Sequential", "Sequential#2", "Sequential.0", "Sequential#2.0"}
