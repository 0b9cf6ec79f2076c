"""Families for images: mixers, dense and branched convolutions, gates, spatial transformers, maps to maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import digits
from tests.corpus.families.family import MOMENTUM, SGD, SLOW_SGD, family, trained


def _conv(inputs: int, outputs: int, size: int = 3, act: type[nn.Module] = nn.ReLU, **more: Any) -> nn.Sequential:
    more = {"padding": size // 2, **more}
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, bias=False, **more), nn.BatchNorm2d(outputs), act())


def _pooled(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Swapped(nn.Module):
    """Works on the second last dimension."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.transpose(-1, -2)).transpose(-1, -2)


class Patches(nn.Module):
    """2x2 patches as 16 tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x).flatten(2).transpose(1, 2)


class TokenMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def _mlp(size: int, act: type[nn.Module] = nn.GELU) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, 2 * size), act(), nn.Linear(2 * size, size))


@family("mlp-mixer", relu={"act": nn.ReLU}, sgd=SGD)
def mixer(act: type[nn.Module] = nn.GELU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    blocks: list[nn.Module] = []
    for _ in range(4):
        blocks.append(Residual(nn.Sequential(nn.LayerNorm(32), Swapped(_mlp(16, act)))))
        blocks.append(Residual(nn.Sequential(nn.LayerNorm(32), _mlp(32, act))))
    model = nn.Sequential(Patches(32), *blocks, nn.LayerNorm(32), TokenMean(), nn.Linear(32, 10))
    return trained(model, digits(image=True), lr, optimizer=optimizer)


class Affine(nn.Module):
    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(start * torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.shift


@family("resmlp", adamw={"optimizer": "adamw"}, deep={"depth": 8})
def resmlp(depth: int = 4, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    blocks: list[nn.Module] = []
    for _ in range(depth):
        blocks.append(Residual(nn.Sequential(Affine(32, 1.0), Swapped(nn.Linear(16, 16)), Affine(32, 0.1))))
        blocks.append(Residual(nn.Sequential(Affine(32, 1.0), _mlp(32), Affine(32, 0.1))))
    model = nn.Sequential(Patches(32), *blocks, Affine(32, 1.0), TokenMean(), nn.Linear(32, 10))
    return trained(model, digits(image=True), lr, optimizer=optimizer)


class SpatialGate(nn.Module):
    """Half of the channels gates the other, across tokens; starts as identity."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(width // 2), nn.Linear(tokens, tokens)
        nn.init.normal_(self.mix.weight, std=1e-3)
        nn.init.ones_(self.mix.bias)

    def forward(self, x: Tensor) -> Tensor:
        kept, gate = x.chunk(2, -1)
        return kept * self.mix(self.norm(gate).transpose(1, 2)).transpose(1, 2)


@family("gmlp", adamw={"optimizer": "adamw"})
def gmlp(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    blocks = [
        Residual(nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 96), nn.GELU(), SpatialGate(96, 16), nn.Linear(48, 32)))
        for _ in range(4)
    ]
    model = nn.Sequential(Patches(32), *blocks, nn.LayerNorm(32), TokenMean(), nn.Linear(32, 10))
    return trained(model, digits(image=True), lr, optimizer=optimizer)


@family("convmixer", sgd=SGD)
def convmixer(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    def block() -> list[nn.Module]:
        return [Residual(_conv(24, 24, 3, nn.GELU, groups=24)), _conv(24, 24, 1, nn.GELU)]

    body = [one for _ in range(4) for one in block()]
    model = nn.Sequential(_conv(1, 24, 3, nn.GELU), *body, *_pooled(24))
    return trained(model, digits(image=True), lr, optimizer=optimizer)


class Dense(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, growth, 3, padding=1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


@family("densenet", momentum=MOMENTUM)
def densenet(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    layers: list[nn.Module] = [nn.Conv2d(1, 12, 3, padding=1)]
    layers += [Dense(12 + 8 * number, 8) for number in range(5)]
    model = nn.Sequential(*layers, nn.BatchNorm2d(52), nn.ReLU(), *_pooled(52))
    return trained(model, digits(image=True), lr, optimizer=optimizer)


class Branches(nn.Module):
    """Convolutions of three sizes side by side, and a pooled path."""

    def __init__(self, inputs: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, 8, size, padding=size // 2), act()) for size in (1, 3, 5)
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(inputs, 8, 1), act())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*(path(x) for path in self.paths), self.pool(x)], 1)


@family("inception", leaky={"act": nn.LeakyReLU}, rmsprop={"optimizer": "rmsprop", "lr": 1e-3})
def inception(act: type[nn.Module] = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    model = nn.Sequential(Branches(1, act), Branches(32, act), nn.MaxPool2d(2), Branches(32, act), *_pooled(32))
    return trained(model, digits(image=True), lr, optimizer=optimizer)


class Excited(nn.Module):
    """A convolution whose channels are weighted by a squeezed gate."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _conv(inputs, outputs)
        self.gate = nn.Sequential(
            nn.Linear(outputs, outputs // 4), nn.ReLU(), nn.Linear(outputs // 4, outputs), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.gate(x.mean((2, 3)))[..., None, None]


@family("squeeze-excite", sgd=SGD)
def squeeze(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    model = nn.Sequential(Excited(1, 16), Excited(16, 24), Excited(24, 32), *_pooled(32))
    return trained(model, digits(image=True), lr, optimizer=optimizer)


class Shuffle(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        size, channels, height, width = x.shape
        return x.reshape(size, 4, channels // 4, height, width).transpose(1, 2).reshape(x.shape)


@family("shufflenet", momentum=MOMENTUM)
def shufflenet(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    def unit() -> nn.Module:
        return Residual(
            nn.Sequential(_conv(32, 32, 1, groups=4), Shuffle(), _conv(32, 32, 3, nn.Identity, groups=32), nn.ReLU())
        )

    model = nn.Sequential(_conv(1, 32), unit(), unit(), unit(), *_pooled(32))
    return trained(model, digits(image=True), lr, optimizer=optimizer)


class Highway(nn.Module):
    """Carries most of its input on at first: the gate's bias is -2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))
        return gate * F.relu(self.value(x)) + (1 - gate) * x


@family("highway", sgd=SGD, deep={"depth": 20})
def highway(depth: int = 8, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    model = nn.Sequential(nn.Linear(64, 48), *(Highway(48) for _ in range(depth)), nn.Linear(48, 10))
    return trained(model, digits(), lr, optimizer=optimizer)


class Maxout(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pieces = nn.Linear(inputs, 3 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.pieces(x).unflatten(-1, (-1, 3)).amax(-1)


@family("maxout", sgd=SGD)
def maxout(optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    model = nn.Sequential(Maxout(64, 48), Maxout(48, 48), Maxout(48, 48), nn.Linear(48, 10))
    return trained(model, digits(), lr, optimizer=optimizer)


class Warp(nn.Module):
    """A spatial transformer: the map starts as identity, its last weight as zero."""

    def __init__(self) -> None:
        super().__init__()
        self.find = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 6))
        last = self.find[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        with torch.no_grad():
            last.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(self.find(x).reshape(-1, 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


@family("spatial-transformer", sgd=SLOW_SGD)
def warped(optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    body = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(Warp(), *body, nn.Flatten(), nn.Linear(512, 10))
    return trained(model, digits(image=True), lr, optimizer=optimizer)


def _denoise(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0] + 0.5 * torch.randn_like(batch[0])), batch[0])


@family("dncnn", tanh={"act": nn.Tanh})
def dncnn(act: type[nn.Module] = nn.ReLU, lr: float = 2e-3) -> Workload:
    inner = [_conv(16, 16, 3, act) for _ in range(4)]
    model = Residual(nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), act(), *inner, nn.Conv2d(16, 1, 3, padding=1)))
    return trained(model, digits(image=True), lr, _denoise)


@family("super-resolution", relu={"act": nn.ReLU})
def upscaled(act: Callable[[], nn.Module] = nn.Tanh, lr: float = 5e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(model(F.avg_pool2d(batch[0], 2)), batch[0])

    layers = [nn.Conv2d(1, 32, 3, padding=1), act(), nn.Conv2d(32, 16, 3, padding=1), act()]
    model = nn.Sequential(*layers, nn.Conv2d(16, 4, 3, padding=1), nn.PixelShuffle(2))
    return trained(model, digits(image=True, scale="unit"), lr, loss)


@family("dilated-segmentation", momentum={"optimizer": "momentum", "lr": 0.05})
def dilated(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0] + 0.2 * torch.randn_like(batch[0])), (batch[0][:, 0] > 0.3).long())

    layers = [_conv(1 if rate == 1 else 16, 16, 3, dilation=rate, padding=rate) for rate in (1, 2, 4)]
    model = nn.Sequential(*layers, nn.Conv2d(16, 2, 1))
    return trained(model, digits(image=True, scale="unit"), lr, loss, optimizer)


class Exits(nn.Module):
    """A head after every stage, all of them trained."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([_conv(1, 16), _conv(16, 16), _conv(16, 16), _conv(16, 16)])
        self.heads = nn.ModuleList(nn.Linear(16, 10) for _ in range(4))

    def forward(self, x: Tensor) -> list[Tensor]:
        out = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            x = stage(x)
            out.append(head(x.mean((2, 3))))
        return out


@family("multi-exit", momentum={"optimizer": "momentum", "lr": 0.05})
def exits(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return torch.stack([F.cross_entropy(logits, batch[1]) for logits in model(batch[0])]).mean()

    return trained(Exits(), digits(image=True), lr, loss, optimizer)


class Capsules(nn.Module):
    """Vectors whose length is the class's score; two rounds of routing by agreement."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1))
        self.routes = nn.Parameter(0.1 * torch.randn(64, 10, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.squash(self.stem(x).reshape(len(x), 64, 8))
        votes = torch.einsum("bni,ncij->bncj", parts, self.routes)
        agreed = torch.zeros(votes.shape[:3])
        for _ in range(2):
            out = self.squash((agreed.softmax(2)[..., None] * votes).sum(1))
            agreed = agreed + (votes * out[:, None]).sum(-1)
        return out.square().sum(-1).add(1e-8).sqrt()

    @staticmethod
    def squash(x: Tensor) -> Tensor:
        square = x.square().sum(-1, keepdim=True)
        return square / (1 + square) * x / (square + 1e-8).sqrt()


@family("capsules", adamw={"optimizer": "adamw"})
def capsules(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        length = model(batch[0])
        right = F.one_hot(batch[1], 10)
        margin = right * F.relu(0.9 - length) ** 2 + 0.5 * (1 - right) * F.relu(length - 0.1) ** 2
        return margin.sum(1).mean()

    return trained(Capsules(), digits(image=True), lr, loss, optimizer)
