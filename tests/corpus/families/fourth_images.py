"""Families for images, fourth round: masks, colours, holes, captchas and poses, mostly as notebooks do them."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import BATCHES, Batches, digits, large_digits
from tests.corpus.families.family import family
from tests.corpus.families.third_sequence import OTHER, grouped, prepared, scheduled
from tests.corpus.nets import classify, initialize

Act = type[nn.Module]


def _grid(side: int) -> tuple[Tensor, Tensor]:
    """The row and the column of each pixel."""
    rows, columns = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    return rows, columns


def cars(size: int = 10, side: int = 20) -> Batches:
    """A coloured box or ellipse before a shaded background, in noise; and its mask."""
    generator, (rows, columns), batches = torch.Generator().manual_seed(11), _grid(side), []
    for _ in range(BATCHES):
        drawn = torch.rand(size, 5, 1, 1, generator=generator)
        down, across = ((n - 6 - 8 * d) / (3 + 4 * s) for n, d, s in zip(
            (rows, columns), (drawn[:, 0], drawn[:, 1]), (drawn[:, 2], drawn[:, 3]), strict=True
        ))  # fmt: skip
        box = torch.maximum(down.abs(), across.abs()) < 1
        mask = torch.where(drawn[:, 4] < 0.5, box, down**2 + across**2 < 1).float()[:, None]
        paint, ground = torch.rand(2, size, 3, 1, 1, generator=generator)
        shade = (rows + columns) / (4 * side) * ground + 0.5 * ground
        x = mask * (0.3 + 0.7 * paint) + (1 - mask) * shade
        batches.append((2 * x + 0.15 * torch.randn(x.shape, generator=generator) - 1, mask))
    return batches


def conv_bn(c_in: int, c_out: int, act: Act, pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), act()]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)


def double_conv(c_in: int, c_out: int, act: Act) -> nn.Sequential:
    return nn.Sequential(conv_bn(c_in, c_out, act), conv_bn(c_out, c_out, act))


class UNet(nn.Module):
    """Twice down by pooling, twice up by transposed convolutions, with the fine maps beside."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.inc, self.down1, self.down2 = (
            double_conv(n, k, act) for n, k in ((3, width), (width, 2 * width), (2 * width, 4 * width))
        )
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.conv1 = double_conv(4 * width, 2 * width, act)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.conv2 = double_conv(2 * width, width, act)
        self.outc = nn.Conv2d(width, 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.conv1(torch.cat([x2, self.up1(x3)], dim=1))
        x = self.conv2(torch.cat([x1, self.up2(x)], dim=1))
        return self.outc(x)


@family("carvana-unet", wide={"width": 8}, leaky={"act": nn.LeakyReLU}, adam={"optimizer": "adam", "lr": 3e-3})
def unet(width: int = 6, act: Act = nn.ReLU, optimizer: str = "rmsprop", lr: float = 2e-3) -> Workload:
    """Cut an object out of its background; each pixel is a question of yes or no."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1])

    return prepared(UNet(width, act), cars(), loss, lr, optimizer)


class ConvAutoencoder(nn.Module):
    def __init__(self, code: int, act: Act) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), act(), nn.Conv2d(16, 32, 3, stride=2, padding=1), act(),
            nn.Conv2d(32, code, 4),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(code, 32, 4), act(),
            nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1), act(),
            nn.ConvTranspose2d(16, 1, 3, stride=2, padding=1, output_padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, img: Tensor) -> Tensor:
        return self.decoder(self.encoder(img))


@family("conv-autoencoder", code={"code": 32}, elu={"act": nn.ELU}, adamw={"optimizer": "decayed", "lr": 4e-3})
def autoencoder(code: int = 16, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """Pixels from 0 to 1 through a narrow code and back to a sigmoid."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[0])

    batches = [(F.interpolate(x, size=16, mode="bilinear"), y) for x, y in digits(32, "unit", True)]
    return prepared(initialize(ConvAutoencoder(code, act), "he"), batches, loss, lr, optimizer)


def furs(size: int = 24, side: int = 24) -> Batches:
    """Coloured pictures with stripes (0) or spots (1) of any width and direction, pixels from 0 to 1."""
    generator, (rows, columns), batches = torch.Generator().manual_seed(12), _grid(side), []
    for _ in range(BATCHES):
        kind = torch.randint(2, (size,), generator=generator)
        turn, phase, other, pace = 2 * math.pi * torch.rand(4, size, 1, 1, generator=generator)
        pace = 0.6 + pace / 9
        along = torch.sin(pace * (turn.cos() * rows + turn.sin() * columns) + phase)
        across = torch.sin(pace * (turn.cos() * columns - turn.sin() * rows) + other)
        coat = torch.where(kind[:, None, None] > 0, along * across * 1.5, along)[:, None]
        hue, dye = torch.rand(2, size, 3, 1, 1, generator=generator)
        x = 0.3 + 0.4 * hue + (0.1 + 0.2 * dye) * coat + 0.03 * torch.randn(size, 3, side, side, generator=generator)
        batches.append((x.clamp(0, 1), kind))
    return batches


class Net(nn.Module):
    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.conv3 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width) if norm else nn.Identity()
        self.fc1 = nn.Linear(2 * width * 3 * 3, 48)
        initialize(self, "he")
        self.fc2 = nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.max_pool2d(F.relu(self.conv3(x)), 2)
        x = x.view(x.size(0), -1)
        x = F.dropout(F.relu(self.fc1(x)), p=0.3, training=self.training)
        return F.log_softmax(self.fc2(x), dim=-1)


@family("cats-and-dogs", wide={"width": 16}, norm={"norm": True}, adamax={"optimizer": "adamax", "lr": 4e-3})
def pets(width: int = 12, norm: bool = False, optimizer: str = "adam", lr: float = 1.5e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.nll_loss(model(batch[0]), batch[1])

    batches = [((x - 0.5) / 0.25, y) for x, y in furs()]
    return prepared(Net(width, norm), batches, loss, lr, optimizer)


class ResNetNine(nn.Module):
    """Eight convolutions and a linear layer, two pairs of them beside a shortcut; the logits are scaled down."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        sizes = [width, 2 * width, 2 * width, 4 * width]
        self.prep = conv_bn(3, width, act)
        self.layers = nn.ModuleList(conv_bn(a, b, act, pool=True) for a, b in itertools.pairwise(sizes))
        self.res1 = nn.Sequential(*(conv_bn(2 * width, 2 * width, act) for _ in range(2)))
        self.res3 = nn.Sequential(*(conv_bn(4 * width, 4 * width, act) for _ in range(2)))
        self.linear = nn.Linear(4 * width, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[0](self.prep(x))
        x = self.layers[2](self.layers[1](x + self.res1(x)))
        x = x + self.res3(x)
        return self.linear(x.amax(dim=(2, 3))) * 0.125


@family("resnet-nine", celu={"act": nn.CELU}, wide={"width": 10}, adamw={"optimizer": "decayed", "lr": 8e-3})
def nine(width: int = 8, act: Act = nn.ReLU, optimizer: str = "nesterov", lr: float = 0.2) -> Workload:
    """The rate rises for 40 steps and then falls; labels are smoothed."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.05)

    generator = torch.Generator().manual_seed(16)
    batches = [(x + torch.randn(x.shape, generator=generator), y) for x, y in large_digits(20, 16)]
    workload = prepared(ResNetNine(width, act), batches, loss, lr, optimizer)
    return scheduled(grouped(workload), lambda step: min((step + 1) / 40, max((340 - step) / 300, 0.05)))


class Colorizer(nn.Module):
    """Local features, joined everywhere with global ones, since what it is decides on the colour."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.low = nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width), act(), nn.Conv2d(width, 2 * width, 3, 1, 1),
            nn.BatchNorm2d(2 * width), act(),
        )  # fmt: skip
        self.whole = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), act(), nn.Flatten(),
            nn.Linear(32 * width, 64), act(), nn.Linear(64, 2 * width), act(),
        )  # fmt: skip
        self.fusion = nn.Conv2d(4 * width, 2 * width, 1)
        self.up = nn.Sequential(
            act(), nn.Conv2d(2 * width, width, 3, 1, 1), act(), nn.Upsample(scale_factor=2),
        )  # fmt: skip
        initialize(self, "he")
        self.color = nn.Conv2d(width, 2, 3, 1, 1)

    def forward(self, gray: Tensor) -> Tensor:
        local = self.low(gray)
        whole = self.whole(local)[:, :, None, None].expand_as(local)
        return self.color(self.up(self.fusion(torch.cat([local, whole], 1)))).tanh()


@family("colorizer", wide={"width": 16}, elu={"act": nn.ELU}, other={**OTHER, "optimizer": "radam", "lr": 6e-3})
def colorizer(
    width: int = 12, act: Act = nn.LeakyReLU, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0
) -> Workload:
    """Two channels of colour from one of grey: each digit is dyed by its class, and paper stays grey."""
    batches = []
    for x, y in large_digits(24, 16, 1):
        ink, hue = ((x + 1) / 2.5).clamp(0, 1), y[:, None, None] * (math.pi / 5)
        batches.append((x, 0.9 * ink * torch.stack([hue.cos(), hue.sin()], 1)))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.smooth_l1_loss(model(batch[0]), batch[1], beta=0.1)

    return prepared(Colorizer(width, act), batches, loss, lr, optimizer, turn)


class PartialConv(nn.Module):
    """Sees valid pixels alone and rescales by how many there are; a place is valid once it saw one."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        seen = F.avg_pool2d(valid, 3, self.conv.stride, 1)
        seeing = (seen > 0).to(x.dtype)
        y = self.conv(x * valid) / seen.clamp_min(1e-3) * seeing
        return self.norm(y + self.bias), seeing


class Inpainter(nn.Module):
    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            PartialConv(n, k, s) for n, k, s in ((1, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 2))
        )
        self.up = nn.ModuleList(PartialConv(n, k, 1) for n, k in ((4 * width, 2 * width), (3 * width, width)))
        self.act, self.last = act(), nn.Conv2d(width + 1, 1, 3, padding=1)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        given, kept = x, []
        for part in self.down:
            x, valid = part(x, valid)
            x = self.act(x)
            kept.append((x, valid))
        for part, (side, seen) in zip(self.up, kept[-2::-1], strict=True):
            x, valid = F.interpolate(x, scale_factor=2), torch.maximum(F.interpolate(valid, scale_factor=2), seen)
            x, valid = part(torch.cat([x, side], 1), valid)
            x = self.act(x)
        return self.last(torch.cat([x, given], 1))


@family("inpainting", wide={"width": 12}, gelu={"act": nn.GELU}, nadam={"optimizer": "nadam", "lr": 2e-3})
def inpainting(width: int = 8, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """A square is cut out of each digit; what was there counts six times as much as what is still seen."""
    generator, (rows, columns), batches = torch.Generator().manual_seed(13), _grid(16), []
    for x, _ in large_digits(16, 16, 1):
        top, left = torch.randint(2, 9, (2, len(x), 1, 1), generator=generator)
        hole = (rows >= top) & (rows < top + 5) & (columns >= left) & (columns < left + 5)
        valid = (~hole).float()[:, None]
        batches.append((x * valid, valid, x))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        broken, valid, whole = batch
        wrong = (model(broken, valid) - whole).abs()
        return (wrong * (valid + 6 * (1 - valid))).mean()

    return prepared(Inpainter(width, act), batches, loss, lr, optimizer)


def captchas(size: int = 32) -> Batches:
    """Three digits side by side, each moved a little, crossed by lines, in noise; and their classes."""
    generator, batches = torch.Generator().manual_seed(14), []
    for x, y in digits(3 * size, "unit", True):
        sheet = torch.zeros(size, 3, 10, 10)
        down, across = torch.randint(3, (2, 3 * size), generator=generator).tolist()
        for number, (picture, i, j) in enumerate(zip(x[:, 0], down, across, strict=True)):
            sheet[number // 3, number % 3, i : i + 8, j : j + 8] = picture
        x = sheet.permute(0, 2, 1, 3).reshape(size, 1, 10, 30)
        rise, start = torch.rand(2, size, 1, 1, generator=generator)
        line = start * 9 + (rise - 0.5) * torch.arange(30) / 2 - torch.arange(10.0)[:, None]
        x = torch.maximum(x, 0.6 * (line.abs() < 0.5).float()[:, None])
        batches.append(((x + 0.1 * torch.randn(x.shape, generator=generator) - 0.3) / 0.4, y.reshape(size, 3)))
    return batches


class CaptchaModel(nn.Module):
    """One trunk and a head for each letter."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), act(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), act(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), act(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * width * 14, 96), nn.BatchNorm1d(96), act(),
        )  # fmt: skip
        self.heads = nn.ModuleList([nn.Linear(96, 10) for _ in range(3)])

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.features(image)
        return [head(features) for head in self.heads]


@family("captcha-reader", wide={"width": 16}, silu={"act": nn.SiLU}, momentum={"optimizer": "momentum", "lr": 0.02})
def captcha(width: int = 12, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return sum(F.cross_entropy(said, batch[1][:, i]) for i, said in enumerate(model(batch[0])))  # type: ignore

    return prepared(CaptchaModel(width, act), captchas(), loss, lr, optimizer)


def figures(size: int = 12, side: int = 20) -> Batches:
    """Stick figures in noise: a line from each of three joints to a fourth; and a bump on each joint."""
    generator, (rows, columns), batches = torch.Generator().manual_seed(15), _grid(side), []
    rest, dot = torch.tensor([[4.0, 10], [13, 4], [13, 16], [9, 10]]), torch.stack([rows, columns], -1)
    for _ in range(BATCHES):
        joints = rest + 1.5 * torch.randn(size, 4, 2, generator=generator).clamp(-2, 2)
        ends, hub = joints[:, :3, None, None], joints[:, 3:, None, None]
        along = (((dot - hub) * (ends - hub)).sum(-1) / (ends - hub).square().sum(-1)).clamp(0, 1)[..., None]
        near = (dot - hub - along * (ends - hub)).square().sum(-1).amin(1, keepdim=True)
        x = (-near).exp() + 0.1 * torch.randn(size, 1, side, side, generator=generator)
        batches.append((x / 0.3, (-(dot - joints[:, :, None, None]).square().sum(-1) / 4.5).exp()))
    return batches


class TwoScales(nn.Module):
    """A fine and a coarse branch, each of which also gets what the other one found."""

    def __init__(self, width: int, stages: int, act: Act) -> None:
        super().__init__()
        self.stem = conv_bn(1, width, act)
        self.fine = nn.ModuleList(conv_bn(width, width, act) for _ in range(stages))
        self.coarse = nn.ModuleList(conv_bn(width, width, act) for _ in range(stages))
        self.lower = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in range(stages))
        self.raise_ = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(stages))
        self.final = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.stem(x)
        two = F.avg_pool2d(one, 2)
        for fine, coarse, lower, higher in zip(self.fine, self.coarse, self.lower, self.raise_, strict=True):
            a, b = fine(one), coarse(two)
            one, two = F.relu(a + F.interpolate(higher(b), scale_factor=2)), F.relu(b + lower(a))
        return self.final(one)


@family("stick-figures", deep={"stages": 3}, silu={"act": nn.SiLU}, adamw={"optimizer": "decayed", "lr": 4e-3})
def poses(stages: int = 2, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """A map for each joint, a bump where it is."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[1])

    return prepared(TwoScales(8, stages, act), figures(), loss, lr, optimizer)


class Involution(nn.Module):
    """Each place makes a kernel of its own out of what is there, one for each group of channels."""

    def __init__(self, width: int, groups: int, act: Act) -> None:
        super().__init__()
        self.groups, self.norm, self.act = groups, nn.BatchNorm2d(width), act()
        self.kernel = nn.Sequential(conv_bn(width, width // 2, act), nn.Conv2d(width // 2, 9 * groups, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        seen = F.unfold(x, 3, padding=1).view(n, self.groups, -1, 9, h, w)
        kernel = self.kernel(x).view(n, self.groups, 1, 9, h, w)
        return x + self.act(self.norm((seen * kernel).sum(3).view(n, c, h, w)))


@family("involution", deep={"depth": 3}, gelu={"act": nn.GELU}, momentum={"optimizer": "momentum", "lr": 0.02})
def involution(depth: int = 2, act: Act = nn.ReLU, optimizer: str = "adamw", lr: float = 3e-3) -> Workload:
    body = [Involution(16, 4, act) for _ in range(depth)]
    model = nn.Sequential(conv_bn(1, 16, act), *body, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 10))
    return prepared(model, digits(20, image=True), classify, lr, optimizer)
