"""Families for images, second round: grouped, separable and scaled convolutions, pyramids, spectra, symmetries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import digits
from tests.corpus.families.family import MOMENTUM, SGD, family, trained
from tests.corpus.nets import Loss, classify

Act = type[nn.Module]
OTHER = {"turn": 37}


def _trained(
    model: nn.Module, lr: float, optimizer: str, turn: int, loss: Loss = classify, scale: str = "standard"
) -> Workload:
    """On digits as images. turn: how far the order of the batches is turned: another draw of the data."""
    batches = digits(scale=scale, image=True)
    return trained(model, batches[turn:] + batches[:turn], lr, loss, optimizer)


def _pooled(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


class Grouped(nn.Module):
    """Aggregated transforms: 1x1, grouped 3x3, 1x1, beside a shortcut."""

    def __init__(self, channels: int, act: Act) -> None:
        super().__init__()
        inner = channels // 2
        self.body = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), act(),
            nn.Conv2d(inner, inner, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(inner), act(),
            nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.body(x))


@family("resnext", deep={"depth": 5}, momentum=MOMENTUM, silu={"act": nn.SiLU})
def resnext(depth: int = 3, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0) -> Workload:
    stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), act())
    model = nn.Sequential(stem, *(Grouped(32, act) for _ in range(depth)), *_pooled(32))
    return _trained(model, lr, optimizer, turn)


class PreActivated(nn.Module):
    """Norm and activation come before each convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.down = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.same = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return self.short(x) + self.same(F.relu(self.second(self.down(x))))


@family("wide-resnet", wide={"width": 32}, sgd=SGD, other=OTHER)
def wide_resnet(width: int = 16, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0) -> Workload:
    blocks = nn.Sequential(
        PreActivated(width, width, 1), PreActivated(width, 2 * width, 2), PreActivated(2 * width, 2 * width, 1)
    )
    stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
    model = nn.Sequential(stem, blocks, nn.BatchNorm2d(2 * width), nn.ReLU(), *_pooled(2 * width))
    return _trained(model, lr, optimizer, turn)


class Fire(nn.Module):
    """Squeeze to few channels, expand by 1x1 and 3x3; no normalization."""

    def __init__(self, inputs: int, act: Act) -> None:
        super().__init__()
        self.squeeze, self.one = nn.Conv2d(inputs, 12, 1), nn.Conv2d(12, 16, 1)
        self.three, self.act = nn.Conv2d(12, 16, 3, padding=1), act()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.squeeze(x))
        return torch.cat([self.act(self.one(x)), self.act(self.three(x))], 1)


@family("squeezenet", leaky={"act": nn.LeakyReLU}, adamw={"optimizer": "adamw"}, other=OTHER)
def squeezenet(act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3, turn: int = 0) -> Workload:
    parts = [nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), act()), Fire(16, act), Fire(32, act), nn.MaxPool2d(2)]
    return _trained(nn.Sequential(*parts, Fire(32, act), nn.Flatten(), nn.Linear(512, 10)), lr, optimizer, turn)


class Ghost(nn.Module):
    """Half of the channels are computed, the others follow from them by a cheap depthwise convolution."""

    def __init__(self, inputs: int, outputs: int, act: Act) -> None:
        super().__init__()
        half = outputs // 2
        self.primary = nn.Sequential(nn.Conv2d(inputs, half, 1, bias=False), nn.BatchNorm2d(half), act())
        self.cheap = nn.Sequential(
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False), nn.BatchNorm2d(half), act()
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x)
        return torch.cat([x, self.cheap(x)], 1)


@family("ghostnet", wide={"width": 48}, momentum=MOMENTUM, gelu={"act": nn.GELU})
def ghostnet(width: int = 24, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0) -> Workload:
    parts = [Ghost(1, width, act), Ghost(width, width, act), nn.MaxPool2d(2), Ghost(width, width, act)]
    return _trained(nn.Sequential(*parts, nn.Flatten(), nn.Linear(16 * width, 10)), lr, optimizer, turn)


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False), nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.GroupNorm(4, outputs), nn.ReLU(),
    )  # fmt: skip


@family("xception", deep={"depth": 5}, rmsprop={"optimizer": "rmsprop", "lr": 1e-3}, other=OTHER)
def xception(depth: int = 3, optimizer: str = "adam", lr: float = 4e-3, turn: int = 0) -> Workload:
    stem = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.ReLU())
    body = [_separable(24, 24) for _ in range(depth)]
    return _trained(nn.Sequential(stem, *body, nn.MaxPool2d(2), *_pooled(24)), lr, optimizer, turn)


class Placed(nn.Module):
    """Adds each pixel's place as two channels."""

    def forward(self, x: Tensor) -> Tensor:
        line = torch.linspace(-1, 1, x.shape[-1])
        place = torch.stack(torch.meshgrid(line, line, indexing="ij")).expand(len(x), -1, -1, -1)
        return torch.cat([x, place], 1)


@family("coord-conv", tanh={"act": nn.Tanh}, sgd={"optimizer": "sgd", "lr": 0.3}, other=OTHER)
def coord_conv(act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0) -> Workload:
    parts = [
        nn.Sequential(Placed(), nn.Conv2d(3, 16, 3, padding=1), act()), nn.AvgPool2d(2),
        nn.Sequential(Placed(), nn.Conv2d(18, 24, 3, padding=1), act()), nn.Sequential(nn.Conv2d(24, 24, 3), act()),
    ]  # fmt: skip
    return _trained(nn.Sequential(*parts, nn.Flatten(), nn.Linear(96, 10)), lr, optimizer, turn)


class Hourglass(nn.Module):
    """Down twice, up twice by transposed convolutions, with sums across; predicts the ink from a noisy picture."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1 if i == 0 else width, width, 3, 1 + (i > 0), 1), nn.GroupNorm(4, width), act())
            for i in range(3)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, 2) for _ in range(2))
        self.out = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for part in self.down:
            x = part(x)
            kept.append(x)
        for part, side in zip(self.up, kept[1::-1], strict=True):
            x = part(x) + side
        return self.out(x)


@family("hourglass", wide={"width": 32}, elu={"act": nn.ELU}, momentum={"optimizer": "momentum", "lr": 0.05})
def hourglass(width: int = 16, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0]
        return F.binary_cross_entropy_with_logits(model(x + 0.3 * torch.randn_like(x)), (x > 0.5).float())

    return _trained(Hourglass(width, act), lr, optimizer, 0, loss, "unit")


class Pyramid(nn.Module):
    """Features at three scales, joined from the top down; every scale votes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1 if i == 0 else width, width, 3, 1 + (i > 0), 1), nn.BatchNorm2d(width), nn.ReLU())
            for i in range(3)
        )
        self.side, self.head = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(3)), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for part in self.body:
            x = part(x)
            found.append(x)
        total, above = torch.zeros(()), None
        for one, side in zip(found[::-1], self.side, strict=True):
            own = side(one)
            above = own if above is None else own + F.interpolate(above, size=own.shape[-1])
            total = total + self.head(above.amax((2, 3)))
        return total / 3


@family("feature-pyramid", wide={"width": 48}, sgd={"optimizer": "sgd", "lr": 0.05}, other=OTHER)
def pyramid(width: int = 24, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0) -> Workload:
    return _trained(Pyramid(width), lr, optimizer, turn)


class Standardized(nn.Conv2d):
    """Weights are standardized and scaled by a learned gain: no normalization of activations."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(self.weight, (1, 2, 3), keepdim=True)
        weight = 1.7 * (self.weight - mean) / (deviation + 1e-4) / self.weight[0].numel() ** 0.5
        return F.conv2d(x, weight * self.gain, self.bias, self.stride, self.padding)


class Scaled(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(), Standardized(width, width, 3, padding=1), nn.ReLU(), Standardized(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.body(x)


@family("normalizer-free", deep={"depth": 5}, momentum={"optimizer": "momentum", "lr": 0.1}, other=OTHER)
def normalizer_free(depth: int = 3, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0) -> Workload:
    model = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), *(Scaled(24) for _ in range(depth)), nn.ReLU(), *_pooled(24))
    return _trained(model, lr, optimizer, turn)


class Turned(nn.Conv2d):
    """Each filter in four rotations; the greatest answer counts."""

    def forward(self, x: Tensor) -> Tensor:
        answers = [
            F.conv2d(x, torch.rot90(self.weight, k, (2, 3)), self.bias, padding=self.padding)  # type: ignore[arg-type]
            for k in range(4)
        ]
        return torch.stack(answers).amax(0)


@family("rotation-equivariant", wide={"width": 40}, sgd={"optimizer": "sgd", "lr": 0.05}, gelu={"act": nn.GELU})
def rotated(width: int = 20, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3, turn: int = 0) -> Workload:
    layers: list[nn.Module] = []
    for number in range(3):
        layers += [Turned(width if number else 1, width, 3, padding=1), nn.BatchNorm2d(width), act()]
    model = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * width, 10))
    return _trained(model, lr, optimizer, turn)


class Spectral(nn.Module):
    """Multiplies the lowest frequencies by learned numbers, beside a 1x1 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width, 4, 3, 2) / width)
        self.beside = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.fft.rfft2(x, norm="ortho")
        low = torch.einsum("bixy,ioxy->boxy", waves[:, :, :4, :3], torch.view_as_complex(self.weight))
        out = F.pad(low, (0, waves.shape[3] - 3, 0, waves.shape[2] - 4))
        return F.gelu(torch.fft.irfft2(out, s=x.shape[-2:], norm="ortho") + self.beside(x))


@family("fourier-operator", deep={"depth": 4}, adamw={"optimizer": "adamw"}, other=OTHER)
def fourier_operator(depth: int = 3, optimizer: str = "adam", lr: float = 4e-3, turn: int = 0) -> Workload:
    """Learns what a blur and a threshold do to a picture."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0]
        return F.mse_loss(model(x), torch.tanh(2 * F.avg_pool2d(x, 3, 1, 1)))

    model = nn.Sequential(nn.Conv2d(1, 16, 1), *(Spectral(16) for _ in range(depth)), nn.Conv2d(16, 1, 1))
    return _trained(model, lr, optimizer, turn, loss)


class Tokens(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class Weighed(nn.Module):
    """A mean over tokens with learned weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.weigh(x).softmax(1) * x).sum(1)


@family("compact-transformer", post={"pre": False}, deep={"depth": 4}, adamw={"optimizer": "adamw"})
def compact(pre: bool = True, depth: int = 2, optimizer: str = "adam", lr: float = 2e-3, turn: int = 0) -> Workload:
    stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), Tokens())
    layers = (nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=pre) for _ in range(depth))
    return _trained(nn.Sequential(stem, *layers, Weighed(32), nn.Linear(32, 10)), lr, optimizer, turn)
