"""Families for images, third round, second part: detection, landmarks, pictures made pixel by pixel, newer designs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import Batches, digits
from tests.corpus.families.family import family
from tests.corpus.families.third_vision import NESTEROV, OTHER, Act, _workload
from tests.corpus.nets import initialize


def _placed(side: int = 16) -> Batches:
    """Each digit somewhere on a larger sheet of paper; row and column of its middle (0 to 1), and its class."""
    generator = torch.Generator().manual_seed(4)
    out = []
    for x, y in digits(16, image=True):
        sheet = torch.full((len(x), 1, side, side), float(x.min()))
        corners = torch.randint(side - 7, (len(x), 2), generator=generator)
        for paper, digit, (row, column) in zip(sheet, x, corners.tolist(), strict=True):
            paper[:, row : row + 8, column : column + 8] = digit
        out.append((sheet, torch.cat([(corners + 4) / side, y[:, None]], 1)))
    return out


def _backbone(width: int, act: Act, halve: int = 2) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(halve + 1):
        conv = nn.Conv2d(width if number else 1, width, 3, 2 if number else 1, 1, bias=False)
        layers.append(nn.Sequential(conv, nn.BatchNorm2d(width), act()))
    return nn.Sequential(*layers, nn.Sequential(nn.Conv2d(width, width, 3, padding=1), act()))


def _cells(where: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The number of the cell that holds each middle, and the place in it."""
    scaled = where * side
    cell = scaled.long().clamp(max=side - 1)
    return cell[:, 0] * side + cell[:, 1], scaled - cell


@family("grid-detector", leaky={"act": nn.LeakyReLU}, nesterov=NESTEROV, wide={"width": 48})
def grid(width: int = 24, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    """Each cell of a grid tells whether a digit's middle lies in it, where, and which digit it is."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        told = model(batch[0]).flatten(2)
        cell, place = _cells(batch[1][:, :2], 4)
        there = F.one_hot(cell, 16).float()
        own = told[torch.arange(len(told)), :, cell]
        found = F.binary_cross_entropy_with_logits(told[:, 0], there)
        offset = F.mse_loss(own[:, 1:3].sigmoid(), place)
        return 2 * found + 5 * offset + F.cross_entropy(own[:, 3:], batch[1][:, 2].long())

    model = nn.Sequential(_backbone(width, act), nn.Conv2d(width, 13, 1))
    return _workload(model, _placed(), optimizer, lr, 0, loss)


class Heads(nn.Module):
    """A score for each class and an offset at each place, from two towers; digits are thought to be rare at first."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.body = _backbone(width, act)
        self.scores, self.boxes = (
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width), act(), nn.Conv2d(width, n, 1))
            for n in (10, 2)
        )
        nn.init.normal_(self.scores[-1].weight, std=0.01)  # type: ignore[arg-type]
        nn.init.constant_(self.scores[-1].bias, -4.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x)
        return self.scores(x).flatten(2), self.boxes(x).flatten(2)


@family("dense-detector", silu={"act": nn.SiLU}, wide={"width": 48}, adamw={"optimizer": "adamw"})
def dense_detector(width: int = 24, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    """The focal loss over all places and classes, beside a smooth loss of the offset."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        scores, boxes = model(batch[0])
        cell, place = _cells(batch[1][:, :2], 4)
        target = torch.zeros_like(scores)
        rows = torch.arange(len(scores))
        target[rows, batch[1][:, 2].long(), cell] = 1
        error = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
        wrong = (scores.sigmoid() - target).abs()
        weight = 0.25 * target + 0.75 * (1 - target)
        focal = (weight * wrong**2 * error).sum() / len(scores)
        return focal + F.smooth_l1_loss(boxes[rows, :, cell], place, beta=0.1)

    return _workload(Heads(width, act), _placed(), optimizer, lr, 0, loss)


def _points() -> Batches:
    """Digits on a sheet, and the standardized left, right, upper and lower end of their ink."""
    out = []
    for sheet, _ in _placed(12):
        ink = (sheet[:, 0] > 0.5).float()
        line = torch.arange(12.0)
        ends = []
        for seen in (ink.amax(1), ink.amax(2)):
            ends += [(line + 99 * (1 - seen)).amin(1), (line - 99 * (1 - seen)).amax(1)]
        out.append((sheet, (torch.stack(ends, 1) - 5.5) / 2))
    return out


@family("landmarks", plain={"dropout": 0.0}, relu={"act": nn.ReLU}, adam={"optimizer": "adam", "lr": 2e-3})
def landmarks(act: Act = nn.ELU, dropout: float = 0.1, optimizer: str = "nesterov", lr: float = 0.02) -> Workload:
    """Key points of a picture by a plain convolution network, as in a known competition on faces."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.huber_loss(model(batch[0]), batch[1], delta=0.5)

    model = nn.Sequential(
        nn.Conv2d(1, 12, 3), act(), nn.MaxPool2d(2), nn.Dropout(dropout), nn.Conv2d(12, 24, 2), act(), nn.MaxPool2d(2),
        nn.Dropout(dropout), nn.Flatten(), nn.Linear(96, 96), act(), nn.Dropout(2 * dropout), nn.Linear(96, 48), act(),
        nn.Linear(48, 4),
    )  # fmt: skip
    return _workload(initialize(model, "glorot"), _points(), optimizer, lr, 0, loss)


class Causal(nn.Conv2d):
    """Sees only the pixels above and to the left; the first such layer not even the pixel itself."""

    def __init__(self, inputs: int, outputs: int, kernel: int, own: bool) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        mask = torch.zeros(kernel * kernel)
        mask[: kernel * kernel // 2 + own] = 1
        self.register_buffer("mask", mask.reshape(kernel, kernel))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)  # type: ignore[operator]


class PixelBlock(nn.Module):
    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        half = width // 2
        self.body = nn.Sequential(
            act(), nn.Conv2d(width, half, 1), act(), Causal(half, half, 3, True), act(), nn.Conv2d(half, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@family("pixel-cnn", deep={"depth": 5}, elu={"act": nn.ELU}, rmsprop={"optimizer": "rmsprop", "lr": 1e-3})
def pixel_cnn(depth: int = 3, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """Each pixel's grey, one of four, from the pixels before it."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), ((batch[0][:, 0] + 1) * 1.5).round().long())

    width = 32
    body = [PixelBlock(width, act) for _ in range(depth)]
    model = nn.Sequential(Causal(1, width, 5, False), *body, act(), nn.Conv2d(width, 4, 1))
    batches = [((x * 3).round() / 1.5 - 1, y) for x, y in digits(scale="unit", image=True)]
    return _workload(model, batches, optimizer, lr, 0, loss)


class Automaton(nn.Module):
    """Cells that change by what their neighbours hold, all by one rule; what they say in the end is averaged."""

    def __init__(self, width: int, steps: int, act: Act) -> None:
        super().__init__()
        self.width, self.steps = width, steps
        self.rule = nn.Sequential(nn.Conv2d(width, 32, 3, padding=1), act(), nn.Conv2d(32, width, 1))
        nn.init.zeros_(self.rule[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.rule[-1].bias)  # type: ignore[arg-type]
        self.read = nn.Conv2d(width, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        state = F.pad(x, (0, 0, 0, 0, 0, self.width - 1))
        for _ in range(self.steps):
            state = state + self.rule(state)
        return self.read(state).mean((2, 3))


@family("cellular-automaton", long={"steps": 6}, silu={"act": nn.SiLU}, wide={"width": 24})
def automaton(width: int = 16, steps: int = 4, act: Act = nn.ReLU, lr: float = 8e-3) -> Workload:
    return _workload(Automaton(width, steps, act), digits(16, image=True), "adam", lr)


class Branched(nn.Module):
    """A 3x3, a 1x1 and the identity, each with a norm of its own, are added: one convolution once trained."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.three = nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))
        self.one = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.same = nn.BatchNorm2d(inputs) if inputs == outputs and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.three(x) + self.one(x)
        return F.relu(out if self.same is None else out + self.same(x))


@family("repvgg", deep={"depth": 2}, nesterov={"optimizer": "nesterov", "lr": 0.05}, other=OTHER)
def repvgg(depth: int = 1, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0) -> Workload:
    blocks = [Branched(1, 16, 1), *(Branched(16, 16, 1) for _ in range(depth)), Branched(16, 32, 2)]
    blocks += [Branched(32, 32, 1) for _ in range(depth)]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    return _workload(model, digits(image=True), optimizer, lr, turn)


class Axial(nn.Module):
    """Attention along the rows, then along the columns, then a perceptron, each behind a norm."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.rows, self.columns = (nn.MultiheadAttention(width, 4, batch_first=True) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), act(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        for norm, attend in ((self.norms[0], self.rows), (self.norms[1], self.columns)):
            y = norm(x).flatten(0, 1)
            x = (x + attend(y, y, y, need_weights=False)[0].reshape(x.shape)).transpose(1, 2)
        return x + self.mlp(self.norms[2](x))


class AxialNet(nn.Module):
    def __init__(self, width: int, depth: int, act: Act) -> None:
        super().__init__()
        self.embed, self.places = nn.Conv2d(1, width, 3, 2, 1), nn.Parameter(0.5 * torch.randn(4, 4, width))
        self.blocks = nn.ModuleList(Axial(width, act) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean((1, 2)))


@family("axial-attention", deep={"depth": 3}, relu={"act": nn.ReLU}, adamw={"optimizer": "adamw", "lr": 6e-3})
def axial(depth: int = 2, act: Act = nn.GELU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    return _workload(AxialNet(24, depth, act), digits(image=True), optimizer, lr)


class Hard(nn.Module):
    """Expand, filter each channel, weigh the channels, project; all by activations made of straight lines."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.into = nn.Sequential(nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.Hardswish())
        self.each = nn.Sequential(
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.Hardswish()
        )
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inner, inner // 4, 1), nn.ReLU(), nn.Conv2d(inner // 4, inner, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip
        self.out = nn.Sequential(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.each(self.into(x))
        return x + self.out(y * self.weigh(y))


@family("mobilenet-v3", deep={"depth": 3}, rmsprop={"optimizer": "rmsprop", "lr": 2e-3}, other=OTHER)
def mobilenet_v3(depth: int = 2, optimizer: str = "adam", lr: float = 4e-3, turn: int = 0) -> Workload:
    stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
    blocks = [Hard(16, 32) for _ in range(depth)]
    head = [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 64), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(64, 10)]
    return _workload(nn.Sequential(stem, *blocks, *head), digits(16, image=True), optimizer, lr, turn)
