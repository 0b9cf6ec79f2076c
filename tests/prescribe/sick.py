"""Trainings that something is wrong with, and the remedy that cures each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.prescribe.cases import STEPS, blobs, classify, mlp, sgd


def biased(act: Callable[[], nn.Module], bias: float) -> Workload:
    model = mlp(4, act)
    for layer in list(model)[:-1]:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, bias)
    return sgd(model)


def adam(model: nn.Module, **options: Any) -> Workload:
    return Workload(model, blobs(), classify, torch.optim.Adam(model.parameters(), **options))


def dropped() -> Workload:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.97)]
    return sgd(nn.Sequential(*layers, nn.Linear(16, 4)), 0.3)


def crossed() -> Workload:
    """Predictions of shape N x 1 beside targets of shape N."""
    batches = [(x, x[:, :3].sum(1) / 2) for x, _ in blobs()]
    model = nn.Sequential(*list(mlp(3))[:-1], nn.Linear(32, 1))

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return ((model(batch[0]) - batch[1]) ** 2).mean()

    return Workload(model, batches, loss, torch.optim.Adam(model.parameters(), lr=1e-2))


def out_of_reach() -> Workload:
    """A last ReLU before targets of both signs."""
    batches = [(x, x[:, :3]) for x, _ in blobs()]
    model = nn.Sequential(*list(mlp(3))[:-1], nn.Linear(32, 3), nn.ReLU())

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[1])

    return Workload(model, batches, loss, torch.optim.Adam(model.parameters(), lr=1e-2))


class NeverCleared(torch.optim.SGD):
    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


def uncleared() -> Workload:
    model = mlp(4)
    return Workload(model, blobs(), classify, NeverCleared(model.parameters(), lr=0.3))


def frozen_head() -> Workload:
    model = mlp(4)
    nn.init.zeros_(model[-1].weight)  # type: ignore[arg-type]
    model[-1].requires_grad_(False)
    return sgd(model)


def of_the_head() -> Workload:
    model = mlp(6)
    return Workload(model, blobs(), classify, torch.optim.SGD(model[-1].parameters(), lr=0.02))


def loud_head() -> Workload:
    model = mlp(3)
    groups = [{"params": model[:-1].parameters()}, {"params": model[-1].parameters(), "lr": 300.0}]
    return Workload(model, blobs(), classify, torch.optim.SGD(groups, lr=0.1))


def regression() -> Workload:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.mse_loss(model(batch[0])[:, :1], batch[1])

    batches = [(x, 1e4 * (x[:, :1] + 3 * x[:, 1:2])) for x, _ in blobs()]
    return sgd(mlp(3), 0.05, batches, loss)


def scaled_loss(scale: float) -> Workload:
    return sgd(mlp(4), 0.1, None, lambda model, batch: classify(model, batch) * scale)


def broken_inputs() -> Workload:
    batches = [(x.index_fill(0, torch.tensor([3]), torch.nan), y) for x, y in blobs()]
    return sgd(mlp(4), 0.1, batches)


def outliers() -> Workload:
    return sgd(mlp(4), 0.1, [(x * (100 if number % 7 == 3 else 1), y) for number, (x, y) in enumerate(blobs())])


def uneven_inputs() -> Workload:
    factors = torch.ones(16)
    factors[3] = 3e3
    return sgd(mlp(4), 0.1, [(x * factors, y) for x, y in blobs()])


def softmaxed(inside: bool) -> Workload:
    model = mlp(4)
    if inside:
        model.append(nn.Softmax(-1))
        return sgd(model)
    return sgd(model, 0.1, None, lambda model, batch: F.cross_entropy(model(batch[0]).softmax(-1), batch[1]))


def decaying() -> Workload:
    workload = sgd(mlp(4), 0.2)
    assert workload.optimizer is not None
    schedule = torch.optim.lr_scheduler.ExponentialLR(workload.optimizer, 0.05)
    workload.optimizer.register_step_post_hook(lambda *_: schedule.step())
    return workload


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


def halved() -> Workload:
    """Gradients that float16 cannot hold, and a rate that would make up for them."""
    batches = [(x.half(), y) for x, y in blobs()]
    return sgd(mlp(4).half(), 6e4, batches, lambda model, batch: 3e-7 * classify(model, batch).float())


def residual() -> Workload:
    torch.manual_seed(0)
    model = nn.Sequential(*(Residual() for _ in range(16)), nn.Linear(16, 4))
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    return sgd(model, 0.01)


def convolutions(gain: float) -> Workload:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels in (1, 8, 8, 8, 8, 8):
        layers += [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight)  # type: ignore[arg-type]
        layers[-2].weight.data.mul_(gain)  # type: ignore[union-attr, operator]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
    return sgd(model, 0.1, blobs(size=16, shape=(1, 6, 6)))


class OverTime(nn.Module):
    """16 numbers, then zeros for as many steps, and what a recurrence has left of them. make: the recurrence."""

    def __init__(self, make: Callable[[], nn.RNNBase], zeros: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.zeros = make(), zeros
        self.head = nn.Linear(self.cell.hidden_size, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(torch.stack([x] + [0 * x] * self.zeros, 1))[0][:, -1])


class Recurrent(OverTime):
    def __init__(self, recurrent: float) -> None:
        super().__init__(lambda: nn.RNN(16, 16, batch_first=True), 15)
        self.cell.weight_hh_l0.data.copy_(recurrent * torch.eye(16))


class TimeFirst(OverTime):
    def __init__(self) -> None:
        super().__init__(lambda: nn.GRU(16, 32), 5)


class Forgetting(OverTime):
    def __init__(self) -> None:
        super().__init__(lambda: nn.LSTM(16, 16, batch_first=True), 9)
        self.cell.bias_ih_l0.data[16:32] = -5.0


class ForgettingCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.LSTMCell(16, 16), nn.Linear(16, 4)
        self.cell.bias_ih.data[16:32] = -5.0

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for one in [x] + [0 * x] * 9:
            state = self.cell(one, state)
        assert state is not None
        return self.head(state[0])


def embedded() -> Workload:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(8, 32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 8))
    for weight in model.parameters():
        nn.init.normal_(weight, std=30.0)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(8, (64,), generator=generator) for _ in range(STEPS)]
    workload = adam(model, lr=0.02)
    workload.batches, workload.loss = batches, lambda model, batch: F.cross_entropy(model(batch), (batch + 1) % 8)
    return workload


# remedy: the training that it cures, and the most that may be left of the control's loss (of the measured one).
CASES: dict[str, tuple[Callable[[], Workload], float]] = {
    "sign turned": (partial(scaled_loss, -1.0), 0.5),
    "loss scaled": (partial(scaled_loss, 1e-7), 0.6),
    "squashed once": (partial(softmaxed, False), 0.95),
    "inputs cleaned": (broken_inputs, 0.5),
    "inputs standardized": (lambda: sgd(mlp(4), 0.1, blobs(scale=100.0)), 0.5),
    "inputs standardized by feature": (uneven_inputs, 0.5),
    "targets standardized": (regression, 0.3),
    "same shape": (crossed, 0.6),
    "batch_first=True": (lambda: adam(TimeFirst(), lr=0.01), 0.8),
    "no last activation": (out_of_reach, 0.8),
    "zero_grad": (uncleared, 0.6),
    "parameters added": (of_the_head, 0.9),
    "unfrozen": (frozen_head, 0.6),
    "minimized": (lambda: sgd(mlp(4), maximize=True), 0.5),
    "usual eps": (lambda: adam(mlp(4), lr=0.01, eps=1e4), 0.5),
    "usual betas": (lambda: adam(mlp(4), lr=0.01, betas=(0.9, 0.1)), 0.8),
    "usual momentum": (lambda: sgd(mlp(4), momentum=0.999), 0.6),
    "less weight decay": (lambda: sgd(mlp(4), weight_decay=5.0), 0.6),
    "one learning rate": (loud_head, 0.5),
    "plain optimizer": (decaying, 0.6),
    "biases at zero": (partial(biased, nn.ReLU, -20.0), 0.5),
    "less dropout": (dropped, 0.6),
    "forget gates opened": (lambda: adam(Forgetting(), lr=0.01), 0.8),
    "He initialization": (lambda: sgd(mlp(8, gain=0.1), 0.1), 0.7),
    "Glorot initialization": (lambda: sgd(mlp(8, nn.Tanh, "glorot", gain=0.05), 0.1), 0.6),
    "LeCun initialization": (lambda: sgd(mlp(8, nn.Identity, "glorot", gain=0.05), 0.1), 0.6),
    "GPT-2 initialization": (embedded, 0.5),
    "LSUV initialization": (lambda: sgd(mlp(8, gain=0.1), 0.1), 0.7),
    "ReLU for sigmoid": (lambda: sgd(mlp(6, nn.Sigmoid, "glorot"), 0.1), 0.6),
    "SiLU for sigmoid": (lambda: sgd(mlp(4, nn.Sigmoid, "glorot"), 0.1), 0.8),
    "leaky ReLU for relu": (partial(biased, nn.ReLU, -20.0), 0.5),
    "GELU for relu": (partial(biased, nn.ReLU, -20.0), 0.6),
    "batch normalization": (partial(convolutions, 0.1), 0.7),
    "layer normalization": (lambda: sgd(mlp(8, gain=0.5), 0.1), 0.7),
    "residual scaling": (residual, 0.9),
    "weights in float32": (halved, 0.6),
    "gradient clipping": (outliers, 0.8),
}
