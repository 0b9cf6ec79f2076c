"""The parts from which cases are put together: initializations, plain deep networks, losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload

Loss = Callable[[nn.Module, Any], Tensor]


def initialize(model: nn.Module, scheme: str, gain: float = 1.0, std: float = 0.01) -> nn.Module:
    """Set the weights of every linear and convolution layer and its bias to 0. scheme: "default" leaves both alone."""
    for layer in model.modules():
        if scheme == "default" or not isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            continue
        fan_in = layer.weight[0].numel()
        if scheme == "he":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif scheme == "glorot":
            nn.init.xavier_uniform_(layer.weight)
        elif scheme == "lecun":
            nn.init.normal_(layer.weight, std=fan_in**-0.5)
        elif scheme == "legacy":
            nn.init.uniform_(layer.weight, -(fan_in**-0.5), fan_in**-0.5)
        elif scheme == "normal":
            nn.init.normal_(layer.weight, std=std)
        else:
            raise ValueError(scheme)
        with torch.no_grad():
            layer.weight.mul_(gain)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return model


def mlp(
    depth: int,
    act: Callable[[], nn.Module] = nn.ReLU,
    scheme: str = "default",
    gain: float = 1.0,
    std: float = 0.01,
    width: int = 64,
    inputs: int = 64,
    outputs: int = 10,
    norm: Callable[[int], nn.Module] | None = None,
    dropout: float = 0.0,
) -> nn.Sequential:
    """A plain network of `depth` linear layers, the last one the head."""
    layers: list[nn.Module] = []
    size = inputs
    for _ in range(depth - 1):
        layers.append(nn.Linear(size, width))
        if norm:
            layers.append(norm(width))
        layers.append(act())
        if dropout:
            layers.append(nn.Dropout(dropout))
        size = width
    model = nn.Sequential(*layers, nn.Linear(size, outputs))
    initialize(model, scheme, gain, std)
    return model


def classify(model: nn.Module, batch: Any) -> Tensor:
    """Cross entropy of the model's logits."""
    return F.cross_entropy(model(batch[0]), batch[1])


def regress(model: nn.Module, batch: Any) -> Tensor:
    """Mean squared error of the model's output."""
    return F.mse_loss(model(batch[0]), batch[1])


def next_token(model: nn.Module, batch: Any) -> Tensor:
    """Cross entropy of the next token; the model returns (size, length, vocabulary)."""
    logits = model(batch[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def sgd(
    model: nn.Module,
    batches: Iterable[Any],
    lr: float = 0.1,
    loss: Loss = classify,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> Workload:
    """A workload trained by SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    return Workload(model, batches, loss, optimizer)


def adam(model: nn.Module, batches: Iterable[Any], lr: float = 1e-3, loss: Loss = classify) -> Workload:
    """A workload trained by Adam."""
    return Workload(model, batches, loss, torch.optim.Adam(model.parameters(), lr=lr))


class Clipped(torch.optim.SGD):
    """SGD which first clips the norm of all gradients together."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, limit: float) -> None:
        super().__init__(parameters, lr=lr)
        self.limit = limit

    def step(self, closure=None):  # type: ignore[no-untyped-def]
        """Clip, then step; the closure, if any, first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], self.limit)
        super().step()
        return loss
