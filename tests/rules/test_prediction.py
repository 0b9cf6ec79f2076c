"""Theory's prediction of a trace: on networks of torch, watched for one step, and on traces that were tampered with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag
from diag.errors import DiagError
from diag.rules.prediction import COLUMNS, Prediction, predict
from diag.trace import Trace
from tests.rules.traces import Net

WIDTH = 128


def watched(model: nn.Module, inputs: torch.Tensor | None = None, steps: int = 1) -> Trace:
    """The trace of some steps on random classes."""
    torch.manual_seed(1)
    given = torch.randn(64, WIDTH) if inputs is None else inputs
    targets = torch.randint(0, 10, (len(given),))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with diag.watch(model, optimizer) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(given).flatten(1), targets).backward()
            optimizer.step()
    return watch.trace


def mlp(
    activation: Callable[[], nn.Module] = nn.Tanh,
    depth: int = 6,
    init: Callable[..., Any] = nn.init.xavier_normal_,
    between: Callable[[], list[nn.Module]] = list,
) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(WIDTH, WIDTH)
        init(linear.weight)
        layers += [linear, *between(), activation()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


@pytest.mark.parametrize(
    ("activation", "init"),
    [
        (nn.Tanh, nn.init.xavier_normal_),
        (nn.Sigmoid, nn.init.xavier_normal_),
        (nn.ReLU, nn.init.kaiming_normal_),
        (lambda: nn.ReLU(inplace=True), nn.init.kaiming_normal_),
        (nn.SELU, nn.init.xavier_normal_),
        (nn.GELU, nn.init.xavier_normal_),
        (nn.Softplus, nn.init.xavier_normal_),
        (nn.Identity, nn.init.orthogonal_),
    ],
)
def test_a_network_of_random_layers_is_as_predicted(activation: Any, init: Any) -> None:
    found = predict(watched(mlp(activation, init=init)))
    assert (found.why_not, found.departs_at) == ("", None)
    assert list(found.table.columns) == list(COLUMNS)
    assert list(found.layers["site"]) == [f"{2 * i}" for i in range(7)]
    assert found.layers["ratio"].iloc[:-1].between(0.75, 1 / 0.75).all()
    assert found.layers["gradient_ratio"].between(0.75, 1 / 0.75).all()
    assert found.says.startswith("spread as predicted within 1.")
    assert found.says.endswith("x through 7 layers")


def test_the_prediction_is_the_formula_with_the_networks_own_numbers() -> None:
    model = mlp(nn.ReLU, depth=2, init=nn.init.kaiming_normal_)
    weights = [float(one.weight.detach().square().mean()) for one in model if isinstance(one, nn.Linear)]
    biases = [float(one.bias.detach().square().mean()) for one in model if isinstance(one, nn.Linear)]
    trace = watched(model)
    rows = trace.frame[trace.frame["kind"] == "activation"].set_index("site")
    q = float(rows.loc["Sequential:input", "rms"]) ** 2
    expected = []
    for weight, bias, keep in zip(weights, biases, (1.0, 0.5, 0.5), strict=True):
        q = WIDTH * weight * keep * q + bias
        expected.append(math.sqrt(q))
    found = predict(trace)
    np.testing.assert_allclose(found.layers["predicted"], expected, rtol=1e-5)
    np.testing.assert_allclose(found.layers["measured"], [rows.loc[site, "rms"] for site in ("0", "2", "4")])
    top = trace.frame[(trace.frame["kind"] == "gradient") & (trace.frame["site"] == "4")]["rms"].iloc[0]
    down = [math.sqrt(10 * weights[2] / 2) * top, top]
    np.testing.assert_allclose(found.layers["gradient_predicted"].iloc[1:], down, rtol=1e-5)


def test_a_layer_scaled_after_its_initialization_is_predicted_at_its_own_scale() -> None:
    model = mlp(nn.ReLU, init=nn.init.kaiming_normal_)
    with torch.no_grad():
        model[6].weight.mul_(10)
    found = predict(watched(model))
    assert found.departs_at is None
    sizes = found.layers["predicted"].to_numpy()
    assert 8 < sizes[3] / sizes[2] < 12


def test_weights_that_share_a_mean_depart_at_the_first_layer_with_a_mean_to_meet() -> None:
    model = mlp(nn.ReLU, init=lambda weight: nn.init.uniform_(weight, 0, 0.2))
    found = predict(watched(model))
    assert found.departs_at == "2"
    assert found.ratio > 3
    assert found.says == f"departs at 2 (measured {found.ratio:.2g}x the prediction)"


def test_units_shut_by_their_bias_depart_above_it() -> None:
    model = mlp(nn.ReLU, init=nn.init.kaiming_normal_)
    nn.init.constant_(model[4].bias, -30.0)
    nn.init.zeros_(model[6].bias)
    found = predict(watched(model))
    assert (found.departs_at, found.ratio) == ("6", 0.0)
    assert found.says == "departs at 6 (measured 0x the prediction)"
    assert json.loads(json.dumps(found.to_dict()))["departs_at"] == "6"


def test_the_threshold_decides_what_departs() -> None:
    trace = watched(mlp(nn.ReLU, init=lambda weight: nn.init.uniform_(weight, 0, 0.2)))
    assert predict(trace, {"prediction_factor": 1e9}).departs_at is None
    with pytest.raises(DiagError, match="prediction_fact"):
        predict(trace, {"prediction_fact": 2.0})


def test_the_threshold_is_read_from_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = watched(mlp(nn.ReLU, init=lambda weight: nn.init.uniform_(weight, 0, 0.2)))
    assert predict(trace).departs_at == "2"
    (tmp_path / "pyproject.toml").write_text("[tool.diag.thresholds]\nprediction_factor = 1e9\n")
    monkeypatch.chdir(tmp_path)
    assert predict(trace).departs_at is None


def test_batch_norm_and_the_gradient_that_explodes_through_it() -> None:
    model = mlp(nn.ReLU, 10, nn.init.kaiming_normal_, lambda: [nn.BatchNorm1d(WIDTH)])
    trace = watched(model, torch.randn(256, WIDTH))
    found = predict(trace)
    assert (found.why_not, found.departs_at) == ("", None)
    norms = found.table[found.table["role"] == "normalization"]
    np.testing.assert_allclose(norms["predicted"], 1.0, rtol=1e-4)
    assert found.layers["gradient_ratio"].between(0.75, 1 / 0.75).all()
    grows = norms["gradient_predicted"].to_numpy()
    assert (grows[0] / grows[-1]) ** (2 / 9) == pytest.approx(math.pi / (math.pi - 1), rel=0.03)


@pytest.mark.parametrize(
    "activation",
    [
        lambda: nn.LeakyReLU(0.3),
        lambda: nn.PReLU(init=0.6),
        lambda: nn.ELU(2.0),
        lambda: nn.CELU(0.3),
        lambda: nn.Softplus(3.0),
        lambda: nn.Softplus(0.4),
        lambda: nn.Hardtanh(-0.2, 0.5),
    ],
)
def test_parameters_of_an_activation_are_read_from_its_extremes(activation: Any) -> None:
    found = predict(watched(mlp(activation, init=nn.init.kaiming_normal_)))
    assert (found.why_not, found.departs_at) == ("", None)
    assert found.layers["ratio"].between(0.7, 1 / 0.7).all()


def test_convolutions_strides_dropout_and_a_reshape() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (2, 8, 8)),
        nn.Conv2d(2, 32, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.4),
        nn.Linear(64 * 16, 10),
    )
    found = predict(watched(model))
    assert (found.why_not, found.departs_at) == ("", None)
    assert found.table["ratio"].between(0.75, 1 / 0.75).all()
    assert found.table["gradient_ratio"].dropna().between(0.75, 1 / 0.75).all()


class Functional(nn.Module):
    """Activations as functions, the same one at every depth."""

    def __init__(self, shortcut: float = 0.0, after: bool = False, depth: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(WIDTH, WIDTH)
        self.first = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.second = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.head = nn.Linear(WIDTH, 10)
        self.shortcut, self.after = shortcut, after
        for one in (*self.first, *self.second):
            nn.init.kaiming_normal_(one.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for first, second in zip(self.first, self.second, strict=True):
            inner = second(torch.relu(first(x)))
            x = inner if self.shortcut == 0 else self.shortcut * x + inner
            x = torch.relu(x) if self.after else x
        return self.head(x)


def test_a_function_called_at_every_depth_is_followed_call_by_call() -> None:
    found = predict(watched(Functional()))
    assert (found.why_not, found.departs_at) == ("", None)
    bends = found.table[found.table["role"] == "nonlinearity"]
    assert list(bends["call"]) == [0, 1, 2, 3, 4]


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x)[0]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.layer(x)))


class Gated(nn.Module):
    """h sigmoid(h): a trace shows the sigmoid, and not the product."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(5))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
            x = x * torch.sigmoid(x)
        return self.head(x)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Gated, "layers.1 gets less than what stands before it puts out, and so do"),
        (lambda: Functional(1.0), "first.1 gets more than what stands before it puts out, and so do"),
        (lambda: Functional(1.0, after=True), "relu is not relu of what second.0 puts out: a branch"),
        (Twice, "layer is called more than once in a forward pass"),
        (lambda: mlp(lambda: nn.Softmax(1)), "1 is a softmax, which theory does not cover"),
        (lambda: mlp(nn.RReLU), "1 is an rrelu, which theory does not cover"),
        (lambda: mlp(between=lambda: [nn.LayerNorm(WIDTH)]), "1 is a layer_norm, which theory does not cover"),
        (lambda: mlp(between=lambda: [nn.Tanh()]), "2 follows a nonlinearity with no layer between"),
        (lambda: nn.Sequential(nn.Linear(WIDTH, 10)), "there are fewer than two layers"),
        (lambda: mlp(between=lambda: [Attending()]), "1.attention is an attention, which theory does not cover"),
    ],
)
def test_what_is_no_chain_says_so_and_predicts_nothing(model: Callable[[], nn.Module], reason: str) -> None:
    found = predict(watched(model()))
    assert reason in found.why_not
    assert found.table.empty
    assert found.departs_at is None
    assert math.isnan(found.ratio)
    assert found.says == f"no prediction: {found.why_not}"
    assert json.loads(json.dumps(found.to_dict()))["ratio"] is None


def test_a_recurrent_network_and_an_embedding_are_no_chain() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.reader = nn.Embedding(20, 16), nn.LSTM(16, 16, batch_first=True)
            self.middle, self.head = nn.Linear(16, 16), nn.Linear(16, 10)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.middle(self.reader(self.table(tokens))[0][:, -1]))

    trace = watched(Reader(), torch.randint(0, 20, (8, 5)))
    assert predict(trace).why_not == "table is an embedding, which theory does not cover"
    trace.frame = trace.frame[trace.frame["site"] != "table"]
    assert predict(trace).why_not == "reader is an lstm, which theory does not cover"
    trace.frame = trace.frame[~trace.frame["site"].str.startswith("reader")]
    assert predict(trace).why_not == "one floating-point input is needed, 0 were seen"


@pytest.mark.parametrize("kind", ["activation", "weight"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_or_was_not_measured_is_not_predicted(kind: str, value: float) -> None:
    trace = watched(mlp())
    rows = (trace.frame["kind"] == kind) & trace.frame["site"].isin(["4", "4.weight"])
    trace.frame.loc[rows, "rms"] = value
    found = predict(trace)
    expected = "4 is not finite in the first step" if kind == "activation" else "4.weight was not measured"
    assert found.why_not == expected


def test_nothing_observed_and_a_trace_without_gradients() -> None:
    assert predict(Trace()).why_not == "nothing was observed"
    trace = watched(mlp())
    trace.frame = trace.frame[trace.frame["kind"] != "gradient"]
    found = predict(trace)
    assert (found.why_not, found.departs_at) == ("", None)
    assert found.table["gradient_predicted"].isna().all()
    assert found.table["predicted"].notna().all()


def test_no_signal_is_no_departure() -> None:
    trace = watched(mlp(nn.ReLU, init=nn.init.kaiming_normal_), torch.zeros(8, WIDTH))
    trace.frame.loc[trace.frame["kind"] == "weight", "rms"] = 0.0
    trace.frame.loc[trace.frame["kind"] == "activation", ["rms", "min", "max", "mean", "var"]] = 0.0
    found = predict(trace)
    assert (found.why_not, found.departs_at, found.says) == ("", None, "no signal, as predicted")


def test_the_first_step_counts_and_not_what_training_made_of_it() -> None:
    model = mlp(nn.ReLU, init=nn.init.kaiming_normal_)
    long, short = predict(watched(model, steps=3)), predict(watched(mlp(nn.ReLU, init=nn.init.kaiming_normal_)))
    np.testing.assert_allclose(long.table["predicted"], short.table["predicted"], rtol=1e-6)
    assert long.step == 0


def test_a_trace_put_together_by_hand() -> None:
    """fan_in 32 and weights of rms 0.25 double a second moment; the third layer has half of what it should."""
    net = Net(steps=2).output("Net:input", "input", "input", gradient=None)
    for number, rms in enumerate((2**0.5, 2, 2**1.5 / 8, 0.5)):
        net.output(f"{number}", rms=rms, gradient=0.01 * 2 ** (-number / 2)).parameter(f"{number}.weight", rms=0.25)
    found: Prediction = predict(net.build(), {"prediction_factor": 2.0})
    np.testing.assert_allclose(found.table["predicted"], [2**0.5, 2, 2**1.5, 4], rtol=1e-6)
    np.testing.assert_allclose(found.table["gradient_ratio"], 1, rtol=1e-6)
    assert found.departs_at == "2"
    assert found.ratio == pytest.approx(1 / 8)
