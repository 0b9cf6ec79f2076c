"""Families for images, third round: networks of tutorials and notebooks, segmentation, detection, newer designs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import Batches, digits, large_digits
from tests.corpus.families.family import OPTIMIZERS, family
from tests.corpus.nets import Loss, classify, initialize

Act = type[nn.Module]
OTHER = {"turn": 23}
MORE: dict[str, Callable[..., torch.optim.Optimizer]] = {
    **OPTIMIZERS,
    "adadelta": torch.optim.Adadelta,
    "adamax": torch.optim.Adamax,
    "radam": torch.optim.RAdam,
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=5e-4),
}
NESTEROV = {"optimizer": "nesterov", "lr": 0.02}


def _workload(
    model: nn.Module, batches: list[Any], optimizer: str, lr: float, turn: int = 0, loss: Loss = classify
) -> Workload:
    """turn: how far the order of the batches is turned: another draw of the data."""
    return Workload(model, batches[turn:] + batches[:turn], loss, MORE[optimizer](model.parameters(), lr=lr))


def _decay(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate is multiplied by `rate` after each step."""

    def act(held: torch.optim.Optimizer, *_: Any) -> None:
        for group in held.param_groups:
            group["lr"] *= rate

    optimizer.register_step_post_hook(act)


class Example(nn.Module):
    """The network of PyTorch's MNIST example, with fewer channels."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, width, 3, 1), nn.Conv2d(width, 2 * width, 3, 1)
        self.dropout1, self.dropout2 = nn.Dropout(dropout), nn.Dropout(2 * dropout)
        self.fc1, self.fc2 = nn.Linear(72 * width, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        x = F.relu(self.fc1(torch.flatten(self.dropout1(x), 1)))
        return F.log_softmax(self.fc2(self.dropout2(x)), dim=1)


@family("mnist-example", wide={"width": 16}, plain={"dropout": 0.0}, adam={"optimizer": "adam", "lr": 2e-3})
def example(width: int = 8, dropout: float = 0.25, optimizer: str = "adadelta", lr: float = 1.0) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.nll_loss(model(batch[0]), batch[1])

    workload = _workload(Example(width, dropout), large_digits(32, 16, 1), optimizer, lr, 0, loss)
    assert workload.optimizer is not None
    _decay(workload.optimizer, 0.99)
    return workload


class Blitz(nn.Module):
    """The network of PyTorch's tutorial "a 60 minute blitz"."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 84), nn.Linear(84, 10)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.conv1(x)))
        x = torch.flatten(self.pool(self.act(self.conv2(x))), 1)
        return self.fc3(self.act(self.fc2(self.act(self.fc1(x)))))


@family("blitz-tutorial", elu={"act": nn.ELU}, adam={"optimizer": "adam", "lr": 2e-3}, other=OTHER)
def blitz(act: Act = nn.ReLU, optimizer: str = "momentum", lr: float = 0.015, turn: int = 0) -> Workload:
    return _workload(Blitz(act), large_digits(16), optimizer, lr, turn)


@family("keras-convnet", strides={"pool": False}, wide={"width": 24}, rmsprop={"optimizer": "rmsprop", "lr": 2e-3})
def keras(width: int = 16, pool: bool = True, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    """Pixels from 0 to 1, Glorot's initialization, a large batch, all as that library has it."""
    between: list[nn.Module] = [nn.MaxPool2d(2)] if pool else []
    step = 1 if pool else 2
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, step), nn.ReLU(), *between, nn.Conv2d(width, 2 * width, 3, step), nn.ReLU(), *between,
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(2 * width * (4 if pool else 9), 10),
    )  # fmt: skip
    batches = [(F.interpolate(x, size=16, mode="bilinear"), y) for x, y in digits(128, "unit", True)]
    return _workload(initialize(model, "glorot"), batches, optimizer, lr)


@family("alexnet", elu={"act": nn.ELU, "lr": 0.01}, adam={"optimizer": "adam", "lr": 1e-3}, other=OTHER)
def alexnet(act: Act = nn.ReLU, optimizer: str = "nesterov", lr: float = 0.02, turn: int = 0) -> Workload:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, 2, 2), act(), nn.LocalResponseNorm(5), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, 1, 1), act(), nn.LocalResponseNorm(5),
        nn.Conv2d(32, 48, 3, 1, 1), act(), nn.Conv2d(48, 32, 3, 1, 1), act(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.3), nn.Linear(512, 128), act(), nn.Dropout(0.3), nn.Linear(128, 64), act(), nn.Linear(64, 10),
    )  # fmt: skip
    initialize(model, "he")
    nn.init.normal_(model[-1].weight, std=0.01)  # type: ignore[arg-type]
    return _workload(model, large_digits(16), optimizer, lr, turn)


def _normed(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    return [conv, nn.ReLU(), nn.BatchNorm2d(outputs)]


@family("kaggle-digits", smooth={"smoothing": 0.1}, radam={"optimizer": "radam", "lr": 5e-3}, other=OTHER)
def notebook(smoothing: float = 0.0, optimizer: str = "adam", lr: float = 2e-3, turn: int = 0) -> Workload:
    """The norm comes after the activation, and a strided convolution in place of pooling, as in a known notebook."""
    model = nn.Sequential(
        *_normed(1, 16), *_normed(16, 16), *_normed(16, 16, 5, 2), nn.Dropout(0.4),
        *_normed(16, 32), *_normed(32, 32, 5, 2), nn.Dropout(0.4),
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(0.4), nn.Linear(64, 10),
    )  # fmt: skip

    def smoothed(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=smoothing)

    batches = digits(64, image=True)
    workload = _workload(model, batches, optimizer, lr, turn, smoothed if smoothing else classify)
    assert workload.optimizer is not None
    _decay(workload.optimizer, 0.98)
    return workload


def _perceptron(inputs: int, outputs: int, kernel: int, act: Act) -> list[nn.Module]:
    sizes = [(inputs, kernel), (outputs, 1), (outputs, 1)]
    return [part for n, k in sizes for part in (nn.Conv2d(n, outputs, k, padding=k // 2), act())]


@family("network-in-network", leaky={"act": nn.LeakyReLU}, nesterov=NESTEROV, other=OTHER)
def nin(act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3, turn: int = 0) -> Workload:
    """Convolutions of one pixel between larger ones; the mean of the last maps is the answer, without a head."""
    model = nn.Sequential(
        *_perceptron(1, 24, 3, act), nn.MaxPool2d(2), nn.Dropout(0.2), *_perceptron(24, 32, 3, act),
        nn.Conv2d(32, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return _workload(initialize(model, "he"), digits(image=True), optimizer, lr, turn)


@family("binary-convnet", weighed={"weight": 2.0}, wide={"width": 24}, adamax={"optimizer": "adamax", "lr": 4e-3})
def binary(width: int = 12, weight: float = 1.0, optimizer: str = "rmsprop", lr: float = 1e-3) -> Workload:
    """Two kinds of pictures, one output: is the digit a 0, 6, 8 or 9, those with a loop."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1], pos_weight=torch.tensor(weight))

    layers: list[nn.Module] = []
    for inputs, outputs in ((1, width), (width, 2 * width), (2 * width, 2 * width)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * width, 64), nn.ReLU(), nn.Linear(64, 1))
    loops = torch.tensor([1.0, 0, 0, 0, 0, 0, 1, 0, 1, 1])
    batches = [(x, loops[y][:, None]) for x, y in large_digits(32, 16, 1)]
    return _workload(initialize(model, "glorot"), batches, optimizer, lr, 0, loss)


def _named(noise: float = 0.3) -> Batches:
    """Noisy digits and what each pixel belongs to: the digit's class, or 10 for paper."""
    generator = torch.Generator().manual_seed(3)
    return [
        (x + noise * torch.randn(x.shape, generator=generator), torch.where(x[:, 0] > 0, y[:, None, None], 10))
        for x, y in large_digits(16, 16, 1)
    ]


def _block(inputs: int, outputs: int, act: Act = nn.ReLU, batch: bool = False) -> nn.Sequential:
    normed = nn.BatchNorm2d(outputs) if batch else nn.GroupNorm(4, outputs)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), normed, act())


class Unpooled(nn.Module):
    """Down by pooling, up by putting each value back where its maximum was."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        sizes = [1, width, 2 * width, 2 * width]
        self.down = nn.ModuleList(_block(a, b, act, batch=True) for a, b in itertools.pairwise(sizes))
        self.up = nn.ModuleList(_block(a, b, act, batch=True) for a, b in itertools.pairwise(sizes[:0:-1]))
        self.last = nn.Conv2d(width, 11, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        places = []
        for part in self.down:
            x, place = F.max_pool2d(part(x), 2, return_indices=True)
            places.append(place)
        for number, place in enumerate(places[::-1]):
            x = F.max_unpool2d(x, place, (2, 2))
            x = self.up[number](x) if number < len(self.up) else self.last(x)
        return x


@family("segnet", wide={"width": 24}, elu={"act": nn.ELU}, momentum={"optimizer": "momentum", "lr": 0.1})
def segnet(width: int = 12, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    return _workload(Unpooled(width, act), _named(), optimizer, lr)


class Gate(nn.Module):
    """What comes from below tells which places of the side path count."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.side, self.below, self.score = (nn.Conv2d(width, n, 1) for n in (width, width, 1))

    def forward(self, side: Tensor, below: Tensor) -> Tensor:
        return side * torch.sigmoid(self.score(F.relu(self.side(side) + self.below(below))))


class AttentionUNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second, self.third = (_block(n, width) for n in (1, width, width))
        self.gates = nn.ModuleList(Gate(width) for _ in range(2))
        self.join = nn.ModuleList(_block(2 * width, width) for _ in range(2))
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.first(x)
        two = self.second(F.max_pool2d(one, 2))
        x = self.third(F.max_pool2d(two, 2))
        for side, gate, join in zip((two, one), self.gates, self.join, strict=True):
            x = F.interpolate(x, scale_factor=2)
            x = join(torch.cat([gate(side, x), x], 1))
        return self.out(x)


@family("attention-unet", wide={"width": 32}, overlap={"share": 0.2}, adamw={"optimizer": "adamw"})
def attention_unet(width: int = 16, share: float = 0.5, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """Ink or paper, under a blur and noise; the loss joins pixels and overlap."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits, mask = model(batch[0]), batch[1]
        ink = logits.sigmoid()
        dice = 1 - (2 * (ink * mask).sum((1, 2, 3)) + 1) / (ink.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)
        return share * F.binary_cross_entropy_with_logits(logits, mask) + (1 - share) * dice.mean()

    batches = [(F.avg_pool2d(x, 3, 1, 1), (y < 10).float()[:, None]) for x, y in _named(0.5)]
    return _workload(AttentionUNet(width), batches, optimizer, lr, 0, loss)
