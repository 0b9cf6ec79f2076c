"""Healthy fully connected networks: an activation with the initialization that suits it, shallow and deep."""

from __future__ import annotations

import itertools
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.case import healthy
from tests.corpus.data import digits, records
from tests.corpus.nets import adam, classify, initialize, mlp, regress, sgd


def _plain(depth: int, act: type[nn.Module], scheme: str, lr: float, **more: object) -> Workload:
    return sgd(mlp(depth, act, scheme, **more), digits(), lr)  # type: ignore[arg-type]


class Functional(nn.Module):
    """Raw parameters and functional activations: no leaf module at all."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [64, 96, 96, 96, 10]
        pairs = itertools.pairwise(sizes)
        self.weights = nn.ParameterList(torch.randn(b, a) * (2 / a) ** 0.5 for a, b in pairs)
        self.biases = nn.ParameterList(torch.zeros(b) for b in sizes[1:])

    def forward(self, x: Tensor) -> Tensor:
        last = len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = F.linear(x, weight, bias)
            if number < last:
                x = F.relu(x)
        return x


class ResidualMLP(nn.Module):
    """Pre-norm residual blocks, 16 of them."""

    def __init__(self, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(blocks)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def _selu() -> Workload:
    model = mlp(10, nn.SELU, "lecun", width=96, dropout=0.0)
    return sgd(model, digits(), 0.05)


def _softplus() -> Workload:
    return adam(mlp(4, nn.Softplus, "glorot"), digits(), 3e-3)


def _diabetes() -> Workload:
    return adam(mlp(3, nn.ReLU, inputs=10, outputs=1), records(), 3e-3, regress)


def _orthogonal_tanh() -> Workload:
    model = mlp(20, nn.Tanh, "glorot")
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight)
    return sgd(model, digits(), 0.05)


def _smoothed() -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.1)

    return sgd(mlp(4, nn.ReLU, "he"), digits(), 0.1, loss)


def _weight_norm() -> Workload:
    model = mlp(4, nn.ReLU, "he")
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.utils.parametrizations.weight_norm(layer)
    return sgd(model, digits(), 0.1)


def _zero_head() -> Workload:
    model = mlp(4, nn.ReLU, "he")
    head = model[-1]
    assert isinstance(head, nn.Linear)
    nn.init.zeros_(head.weight)
    return sgd(model, digits(), 0.1, classify)


def _wide() -> Workload:
    return sgd(initialize(mlp(3, nn.ReLU, width=1024), "he"), digits(), 0.05)


CASES = [
    healthy("mlp-relu-he-2", partial(_plain, 2, nn.ReLU, "he", 0.1)),
    healthy("mlp-relu-he-6", partial(_plain, 6, nn.ReLU, "he", 0.1)),
    healthy(
        "mlp-relu-he-20", partial(_plain, 20, nn.ReLU, "he", 0.02, width=96), "He init holds the gradient at depth 20"
    ),
    healthy("mlp-relu-wide", _wide),
    healthy("mlp-tanh-glorot-5", partial(_plain, 5, nn.Tanh, "glorot", 0.1)),
    healthy("mlp-tanh-orthogonal-20", _orthogonal_tanh, "orthogonal weights keep the gradient through 20 tanh layers"),
    healthy("mlp-sigmoid-2", partial(_plain, 2, nn.Sigmoid, "glorot", 0.5)),
    healthy("mlp-sigmoid-3-adam", lambda: adam(mlp(3, nn.Sigmoid, "glorot"), digits(), 1e-2), "shallow: it learns"),
    healthy("mlp-default-3", partial(_plain, 3, nn.ReLU, "default", 0.1), "torch's own init"),
    healthy("mlp-default-6-adam", lambda: adam(mlp(6), digits(), 2e-3), "torch's own init shrinks, yet Adam trains it"),
    healthy("mlp-gelu-6", lambda: adam(mlp(6, nn.GELU, "he"), digits())),
    healthy("mlp-silu-6", lambda: adam(mlp(6, nn.SiLU, "he"), digits())),
    healthy("mlp-elu-6", partial(_plain, 6, nn.ELU, "he", 0.05)),
    healthy("mlp-leaky-8", partial(_plain, 8, nn.LeakyReLU, "he", 0.05)),
    healthy("mlp-selu-10", _selu, "SELU with LeCun init normalizes itself"),
    healthy("mlp-softplus-4", _softplus),
    healthy("mlp-batchnorm-12", partial(_plain, 12, nn.ReLU, "he", 0.1, norm=nn.BatchNorm1d), "bias before batch norm"),
    healthy("mlp-layernorm-8", partial(_plain, 8, nn.ReLU, "he", 0.1, norm=nn.LayerNorm)),
    healthy(
        "mlp-dropout-half", partial(_plain, 4, nn.ReLU, "he", 0.1, dropout=0.5), "dropout's zeros are no dead units"
    ),
    healthy("mlp-residual-16", lambda: adam(ResidualMLP(), digits())),
    healthy("mlp-functional", lambda: sgd(Functional(), digits(), 0.1), "no leaf module: F.relu and raw parameters"),
    healthy("mlp-diabetes", _diabetes, "regression with a noise floor"),
    healthy("mlp-label-smoothing", _smoothed, "the loss cannot fall below the entropy of the smoothed label"),
    healthy("mlp-weight-norm", _weight_norm, "parametrized weights"),
    healthy("mlp-zero-head", _zero_head, "a zero head gives the body no gradient in the first step only"),
]
