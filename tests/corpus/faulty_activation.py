"""Faults of activations: dead, saturated and collapsed ones."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.case import faulty
from tests.corpus.data import characters, digits
from tests.corpus.healthy_attention import GPT
from tests.corpus.nets import adam, classify, initialize, mlp, next_token, sgd

DEAD = "dead-units"
SATURATED = "saturated-activation"


def _biased(bias: float, act: type[nn.Module] = nn.ReLU, layers: slice = slice(None, -1), lr: float = 0.1) -> Workload:
    model = mlp(5, act, "he" if act is not nn.Tanh else "glorot")
    for layer in [one for one in model if isinstance(one, nn.Linear)][layers]:
        nn.init.constant_(layer.bias, bias)
    return sgd(model, digits(), lr)


def _biased_channels(share: float, bias: float = -100.0) -> Workload:
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 16), (16, 16)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10))
    initialize(model, "he")
    for number in (0, 2, 4):
        with torch.no_grad():
            model[number].bias[: int(16 * share)] = bias  # type: ignore[operator]
    return adam(model, digits(image=True), 3e-3)


def _scaled(act: type[nn.Module], gain: float, depth: int = 4, scale: str = "standard") -> Workload:
    return sgd(mlp(depth, act, "glorot", gain=gain), digits(scale=scale), 0.1)


def _unscaled(scale: str) -> Workload:
    return adam(mlp(3, nn.Sigmoid, "glorot"), digits(scale=scale), 1e-2)


def _dropout(rate: float) -> Workload:
    return sgd(mlp(5, nn.ReLU, "he", dropout=rate), digits(), 0.05)


class FunctionalDead(nn.Module):
    """Functional ReLUs below a shift that keeps every one of them shut."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return self.head(F.relu(self.second(x) - self.shift))


def _killed(lr: float) -> Workload:
    return sgd(mlp(5, nn.ReLU, "he", width=48), digits(), lr)


def _relu_on_logits(bias: float) -> Workload:
    model = mlp(3, nn.ReLU, "he")
    head = model[-1]
    assert isinstance(head, nn.Linear)
    nn.init.constant_(head.bias, bias)
    if bias:
        model.append(nn.ReLU())
    return sgd(model, digits(), 0.1)


class Collapsing(nn.Module):
    """A code to which a large constant is added before a norm: all samples look alike."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.body, self.head = mlp(3, nn.ReLU, "he", outputs=64), mlp(3, nn.ReLU, "he")
        self.offset = offset * torch.linspace(-1, 1, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.normalize(self.body(x) + self.offset, dim=-1) * 8)


def _gpt(std: float) -> Workload:
    model = GPT(depth=4)
    for weight in model.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=std)
    return adam(model, characters(), 2e-3, next_token)


class HardGates(nn.Module):
    """A highway network whose gates are shut by their bias: nothing but zeros goes on."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.values = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
        self.gates = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
        self.head = nn.Linear(64, 10)
        for gate in self.gates:
            nn.init.constant_(gate.bias, bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        for value, gate in zip(self.values, self.gates, strict=True):
            x = F.gelu(value(x)) * torch.sigmoid(gate(x))
        return self.head(x)


BIAS_TWIN = partial(_biased, 0.0)

CASES = [
    faulty("dead-bias-all", partial(_biased, -10.0), DEAD, "bias -10 before every ReLU", BIAS_TWIN),
    faulty(
        "dead-bias-one-layer",
        partial(_biased, -30.0, layers=slice(1, 2)),
        DEAD,
        "one layer shut, the rest fine",
        BIAS_TWIN,
    ),
    faulty(
        "dead-gelu",
        partial(_biased, -20.0, nn.GELU),
        DEAD + " saturated-activation vanishing-gradient collapsed-signal",
        "bias -20 before GELU",
        partial(_biased, 0.0, nn.GELU),
    ),
    faulty(
        "dead-functional",
        lambda: sgd(FunctionalDead(20.0), digits(), 0.1),
        DEAD,
        "F.relu, no module",
        lambda: sgd(FunctionalDead(0.0), digits(), 0.1),
    ),
    faulty(
        "dead-channels-all",
        partial(_biased_channels, 1.0),
        DEAD,
        "bias -100 on all channels",
        partial(_biased_channels, 0.0),
    ),
    faulty(
        "dead-channels-most",
        partial(_biased_channels, 0.9),
        DEAD,
        "bias -100 on 14 of 16 channels of each layer",
        partial(_biased_channels, 0.0),
    ),
    faulty(
        "dead-by-lr",
        partial(_killed, 3.0),
        DEAD + " oversized-update diverging-loss exploding-activation non-finite exploding-gradient",
        "the first steps kill the ReLUs",
        partial(_killed, 0.05),
    ),
    faulty(
        "dead-relu-on-logits",
        partial(_relu_on_logits, -30.0),
        DEAD,
        "a ReLU after the head, shut by its bias",
        partial(_relu_on_logits, 0.0),
    ),
    faulty(
        "saturated-sigmoid-weights",
        partial(_scaled, nn.Sigmoid, 40.0, 3),
        SATURATED + " exploding-gradient",
        "weights x40",
        partial(_scaled, nn.Sigmoid, 1.0, 2),
    ),
    faulty(
        "saturated-tanh-weights",
        partial(_scaled, nn.Tanh, 20.0, 5),
        SATURATED + " exploding-gradient",
        "weights x20",
        partial(_scaled, nn.Tanh, 1.0, 5),
    ),
    faulty(
        "saturated-sigmoid-input",
        partial(_unscaled, "raw"),
        SATURATED + " exploding-activation",
        "pixels 0 to 255 into sigmoid units",
        partial(_unscaled, "standard"),
    ),
    faulty(
        "saturated-tanh-bias",
        partial(_biased, 12.0, nn.Tanh),
        SATURATED + " collapsed-signal vanishing-gradient",
        "bias 12 before tanh",
        partial(_biased, 0.0, nn.Tanh),
    ),
    faulty(
        "saturated-relu6",
        lambda: sgd(mlp(4, nn.ReLU6, "he", gain=20.0), digits(), 0.1),
        SATURATED + " exploding-gradient dead-units",
        "weights x20 before ReLU6",
        lambda: sgd(mlp(4, nn.ReLU6, "he"), digits(), 0.1),
    ),
    faulty(
        "saturated-gates-shut",
        lambda: adam(HardGates(-12.0), digits(), 5e-3),
        SATURATED + " vanishing-gradient collapsed-signal",
        "gate bias -12",
        lambda: adam(HardGates(2.0), digits(), 5e-3),
    ),
    faulty(
        "collapsed-code",
        lambda: sgd(Collapsing(1e6), digits(), 0.05),
        "collapsed-signal vanishing-gradient symmetric-units",
        "a constant of a million drowns the sample",
        lambda: sgd(Collapsing(0.0), digits(), 0.05),
    ),
    faulty(
        "dropout-99",
        partial(_dropout, 0.99),
        "collapsed-signal dead-units loss-not-decreasing diverging-loss exploding-activation exploding-gradient",
        "dropout 0.99 in four layers",
        partial(_dropout, 0.0),
    ),
    faulty(
        "gpt-init-std-1",
        partial(_gpt, 1.0),
        "exploding-activation saturated-activation exploding-gradient oversized-update diverging-loss",
        "std 1 in place of 0.02",
        partial(_gpt, 0.02),
    ),
    faulty(
        "hardtanh-input",
        lambda: sgd(mlp(4, nn.Hardtanh, "glorot"), digits(scale="raw"), 0.1),
        SATURATED + " exploding-activation",
        "pixels 0 to 255 into hardtanh",
        lambda: sgd(mlp(4, nn.Hardtanh, "glorot"), digits(), 0.1, classify),
    ),
]
