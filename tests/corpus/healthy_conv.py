"""Healthy convolution networks: plain, residual, U-shaped, ConvNeXt-like, on digits and on series."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.case import healthy
from tests.corpus.data import digits, large_digits, waves
from tests.corpus.nets import adam, classify, initialize, sgd


def _conv_bn(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _simple() -> Workload:
    layers = [*_conv_bn(1, 16), *_conv_bn(16, 32, 2), *_conv_bn(32, 32, 2)]
    return sgd(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)), digits(image=True), 0.1
    )


def _lenet() -> Workload:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10),
    )  # fmt: skip
    return adam(model, digits(image=True), 3e-3)


def _vgg() -> Workload:
    layers: list[nn.Module] = []
    channels = 3
    for wanted in (16, 16, 0, 32, 32, 0, 32, 32, 0):
        if wanted:
            layers += [nn.Conv2d(channels, wanted, 3, padding=1), nn.ReLU(inplace=True)]
            channels = wanted
        else:
            layers.append(nn.MaxPool2d(2))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))
    return adam(initialize(model, "he"), large_digits(16), 1e-3)


class Block(nn.Module):
    """A basic residual block; its last gamma may start at zero."""

    def __init__(self, inputs: int, outputs: int, stride: int, zero: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv_bn(inputs, outputs, stride), *_conv_bn(outputs, outputs)[:2])
        self.shortcut = nn.Sequential(*_conv_bn(inputs, outputs, stride)[:2]) if inputs != outputs else nn.Identity()
        self.act = nn.ReLU(inplace=True)
        if zero:
            last = self.body[-1]
            assert isinstance(last, nn.BatchNorm2d)
            nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x) + self.shortcut(x))


def _resnet(zero: bool) -> Workload:
    blocks = [Block(a, b, 1 + (a != b), zero) for a, b in ((16, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64))]
    model = nn.Sequential(*_conv_bn(1, 16), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return sgd(model, digits(image=True), 0.05, momentum=0.9, weight_decay=1e-4)


class UNet(nn.Module):
    """Two levels down and up with skips; predicts an image."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Sequential(*_conv_bn(1, 8)), nn.Sequential(*_conv_bn(8, 16))])
        self.bottom = nn.Sequential(*_conv_bn(16, 32))
        self.up = nn.ModuleList([nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)])
        self.merge = nn.ModuleList([nn.Sequential(*_conv_bn(32, 16)), nn.Sequential(*_conv_bn(16, 8))])
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))
        return self.head(x)


def _unet() -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        noisy = batch[0] + 0.3 * torch.randn_like(batch[0])
        return F.binary_cross_entropy_with_logits(model(noisy), (batch[0] > 0.5).float())

    return adam(UNet(), digits(16, "unit", image=True), 3e-3, loss)


class NeXtBlock(nn.Module):
    """Depthwise convolution, layer norm, inverted bottleneck, layer scale of 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, 4 * channels)
        self.narrow = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(1e-6 * torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.mix(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(F.gelu(self.widen(y)))
        return x + y.permute(0, 3, 1, 2)


def _convnext() -> Workload:
    body = [NeXtBlock(32) for _ in range(6)]
    model = nn.Sequential(
        nn.Conv2d(1, 32, 2, 2), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(32), nn.Linear(32, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    return Workload(model, digits(image=True), classify, optimizer)


class Inverted(nn.Module):
    """MobileNet-like: ReLU6, depthwise convolution, linear bottleneck."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True),
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _mobilenet() -> Workload:
    model = nn.Sequential(
        *_conv_bn(1, 16, 2), *(Inverted(16) for _ in range(4)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )
    return adam(model, digits(image=True), 5e-3)


def _group_norm() -> Workload:
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.SiLU(inplace=True)]
    return adam(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)), digits(image=True), 3e-3
    )


def _series() -> Workload:
    model = nn.Sequential(
        nn.Unflatten(1, (1, 40)), nn.Conv1d(1, 25, 5, 2, 1), nn.ReLU(), nn.Conv1d(25, 25, 3, 2, 1), nn.ReLU(),
        nn.Conv1d(25, 25, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(125, 10),
    )  # fmt: skip
    return adam(model, waves(64), 5e-3)


CASES = [
    healthy("cnn-bn", _simple, "in-place ReLU"),
    healthy("cnn-lenet-tanh", _lenet),
    healthy("cnn-vgg", _vgg),
    healthy("cnn-resnet", lambda: _resnet(False)),
    healthy(
        "cnn-resnet-zero-gamma", lambda: _resnet(True), "residual branches start at zero and get no gradient at first"
    ),
    healthy("cnn-unet", _unet),
    healthy("cnn-convnext", _convnext, "layer scale 1e-6: gradients in the branches near 1e-7"),
    healthy("cnn-mobilenet", _mobilenet),
    healthy("cnn-groupnorm-silu", _group_norm),
    healthy("cnn-series", _series, "MNIST-1D, torch's own init"),
]
