"""Faults of initialization: signals and gradients that shrink, grow or are all alike from the first step on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from diag.train.workload import Workload
from tests.corpus.case import faulty
from tests.corpus.data import digits
from tests.corpus.nets import adam, initialize, mlp, sgd

SHRINKS = "vanishing-gradient collapsed-signal"
GROWS = "exploding-gradient exploding-activation diverging-loss non-finite oversized-update"


def _deep(depth: int, act: Callable[[], nn.Module], scheme: str, lr: float = 0.05, **more: object) -> Workload:
    return sgd(mlp(depth, act, scheme, **more), digits(), lr)  # type: ignore[arg-type]


def _constant(value: float, act: type[nn.Module] = nn.ReLU) -> Workload:
    model = mlp(4, act, "he")
    for weight in model.parameters():
        nn.init.constant_(weight, value)
    return sgd(model, digits(), 0.1)


def _scaled_layer(factor: float, lr: float = 0.05) -> Workload:
    model = mlp(8, nn.ReLU, "he")
    with torch.no_grad():
        model[6].weight.mul_(factor)  # type: ignore[operator]
    return sgd(model, digits(), lr)


def _conv(gain: float) -> Workload:
    layers: list[nn.Module] = []
    channels = 1
    for _ in range(12):
        layers += [nn.Conv2d(channels, 12, 3, padding=1), nn.ReLU()]
        channels = 12
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 10))
    return adam(initialize(model, "he", gain), digits(32, image=True), 2e-3)


RELU_TWIN = partial(_deep, 10, nn.ReLU, "he")
TANH_TWIN = partial(_deep, 10, nn.Tanh, "glorot")

CASES = [
    faulty(
        "sigmoid-legacy-10", partial(_deep, 10, nn.Sigmoid, "legacy"), SHRINKS, "0.25 / sqrt(3) per layer", RELU_TWIN
    ),
    faulty("sigmoid-legacy-20", partial(_deep, 20, nn.Sigmoid, "legacy"), SHRINKS, "the same, deeper", RELU_TWIN),
    faulty("sigmoid-glorot-12", partial(_deep, 12, nn.Sigmoid, "glorot"), SHRINKS, "slope of 1/4 per layer", TANH_TWIN),
    faulty(
        "sigmoid-default-adam-10",
        lambda: adam(mlp(10, nn.Sigmoid), digits()),
        SHRINKS,
        "Adam does not cure it",
        lambda: adam(mlp(10), digits(), 2e-3),
    ),
    faulty(
        "tanh-tiny-10", partial(_deep, 10, nn.Tanh, "normal", std=0.01), SHRINKS, "std 0.01: 0.08 per layer", TANH_TWIN
    ),
    faulty(
        "tanh-legacy-20",
        partial(_deep, 20, nn.Tanh, "legacy"),
        SHRINKS,
        "1/sqrt(3) per layer",
        partial(_deep, 20, nn.Tanh, "glorot"),
    ),
    faulty("relu-tenth-10", partial(_deep, 10, nn.ReLU, "he", gain=0.1), SHRINKS, "a tenth of He", RELU_TWIN),
    faulty(
        "relu-half-20",
        partial(_deep, 20, nn.ReLU, "he", gain=0.5),
        SHRINKS,
        "half of He, 20 layers",
        partial(_deep, 20, nn.ReLU, "he", 0.02),
    ),
    faulty(
        "relu-glorot-30",
        partial(_deep, 30, nn.ReLU, "glorot"),
        SHRINKS,
        "1/sqrt(2) per layer",
        partial(_deep, 30, nn.ReLU, "he", 0.01),
    ),
    faulty(
        "relu-default-15",
        partial(_deep, 15, nn.ReLU, "default"),
        SHRINKS,
        "1/sqrt(6) per layer",
        partial(_deep, 15, nn.ReLU, "he", 0.02),
    ),
    faulty(
        "linear-tiny-8",
        partial(_deep, 8, nn.Identity, "normal", std=0.02),
        SHRINKS,
        "0.16 per layer",
        partial(_deep, 8, nn.Identity, "lecun"),
    ),
    faulty("conv-small-12", partial(_conv, 0.3), SHRINKS, "0.3 of He, 12 convolutions, no norm", partial(_conv, 1.0)),
    faulty("conv-large-12", partial(_conv, 2.5), GROWS, "2.5 of He", partial(_conv, 1.0)),
    faulty("relu-triple-12", partial(_deep, 12, nn.ReLU, "he", gain=3.0), GROWS, "3 to the 12", RELU_TWIN),
    faulty("relu-tenfold-8", partial(_deep, 8, nn.ReLU, "he", gain=10.0), GROWS, "10 to the 8", RELU_TWIN),
    faulty(
        "linear-double-20",
        partial(_deep, 20, nn.Identity, "lecun", gain=2.0),
        GROWS,
        "2 to the 20",
        partial(_deep, 20, nn.Identity, "lecun", 0.005),
    ),
    faulty(
        "tanh-times-20",
        partial(_deep, 8, nn.Tanh, "glorot", gain=20.0),
        "saturated-activation exploding-gradient",
        "all units at +-1",
        TANH_TWIN,
    ),
    faulty(
        "middle-layer-1e-6",
        partial(_scaled_layer, 1e-6),
        SHRINKS,
        "one layer of a plain chain passes a millionth",
        partial(_scaled_layer, 1.0),
    ),
    faulty(
        "middle-layer-1e4",
        partial(_scaled_layer, 1e4),
        GROWS + " dead-units",
        "one layer multiplies by 10,000",
        partial(_scaled_layer, 1.0),
    ),
    faulty(
        "constant-init",
        partial(_constant, 0.05),
        "symmetric-units collapsed-signal",
        "all units of a layer alike",
        partial(_deep, 4, nn.ReLU, "he", 0.1),
    ),
    faulty(
        "constant-init-tanh",
        partial(_constant, 0.02, nn.Tanh),
        "symmetric-units collapsed-signal",
        "all units of a layer alike",
        partial(_deep, 4, nn.Tanh, "glorot", 0.1),
    ),
    faulty(
        "zero-init",
        partial(_constant, 0.0),
        "symmetric-units dead-units vanishing-gradient missing-gradient collapsed-signal",
        "nothing but the last bias moves",
        partial(_deep, 4, nn.ReLU, "he", 0.1),
    ),
]
