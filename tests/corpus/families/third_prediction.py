"""Families told by what they predict, third round: noise, masked pixels, what comes next, rewards, ranks."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import Batches, digits, waves
from tests.corpus.families.family import family
from tests.corpus.families.third_learning import Pair, _workload
from tests.corpus.families.third_vision import Act
from tests.corpus.nets import initialize, mlp

OTHER = {"turn": 13}


class Denoiser(nn.Module):
    """A small U of residual blocks; time and class scale and shift the channels of each."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.label, self.time = nn.Embedding(11, 32), nn.Sequential(nn.Linear(16, 32), act(), nn.Linear(32, 32))
        self.into, self.out = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 1, 3, padding=1)
        self.parts = nn.ModuleList(
            nn.ModuleDict({
                "norm": nn.GroupNorm(4, width), "act": act(), "conv": nn.Conv2d(width, width, 3, padding=1),
                "film": nn.Linear(32, 2 * width), "last": nn.Conv2d(width, width, 3, padding=1),
            })
            for _ in range(3)
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        angle = t[:, None] * 2.0 ** torch.arange(8)
        given = self.time(torch.cat([angle.sin(), angle.cos()], -1)) + self.label(y)
        x = self.into(x)
        first, x = x, F.avg_pool2d(x, 2)
        for number, part in enumerate(self.parts):
            if number == 2:
                x = F.interpolate(x, scale_factor=2) + first
            scale, shift = part["film"](given)[:, :, None, None].chunk(2, 1)  # type: ignore[index]
            z = part["conv"](part["act"](part["norm"](x)))  # type: ignore[index]
            x = x + part["last"](part["act"](z * (1 + scale) + shift))  # type: ignore[index]
        return self.out(x)


@family("guided-diffusion", velocity={"velocity": True}, wide={"width": 32}, relu={"act": nn.ReLU})
def guided_diffusion(width: int = 16, act: Act = nn.SiLU, velocity: bool = False, lr: float = 3e-3) -> Workload:
    """The noise in a picture of a known class is told, and now and then without the class."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        x, y = batch
        y = y.masked_fill(torch.rand(len(y)) < 0.1, 10)
        t, noise = torch.rand(len(x)), torch.randn_like(x)
        keep, add = torch.cos(t * 1.57)[:, None, None, None], torch.sin(t * 1.57)[:, None, None, None]
        target = keep * noise - add * x if velocity else noise
        return F.mse_loss(model(keep * x + add * noise, t, y), target)

    return _workload(Denoiser(width, act), digits(image=True), loss, "adamw", lr)


class Revealer(nn.Module):
    """Tells the grey of the pixels that are masked, by a transformer over all pixels."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(6, width), nn.Parameter(0.1 * torch.randn(64, width))
        layers = [nn.TransformerEncoderLayer(width, 4, 2 * width, 0.1, batch_first=True) for _ in range(depth)]
        self.layers, self.head = nn.ModuleList(layers), nn.Linear(width, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


@family("absorbing-diffusion", deep={"depth": 3}, wide={"width": 48}, radam={"optimizer": "radam", "lr": 4e-3})
def absorbing(width: int = 32, depth: int = 2, optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    """Any share of the pixels is masked; what was masked is told, weighed by how little was."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        grey = (batch[0] * 4).round().long()
        share = 0.1 + 0.9 * torch.rand(len(grey), 1)
        hidden = torch.rand(grey.shape) < share
        error = F.cross_entropy(model(grey.masked_fill(hidden, 5)).transpose(1, 2), grey, reduction="none")
        return (error * hidden / share).mean()

    return _workload(Revealer(width, depth), digits(8, "unit"), loss, optimizer, lr)


class Stack(nn.Module):
    """Doubly residual: each block explains a part of the past, and adds a part of the forecast."""

    def __init__(self, depth: int, width: int, act: Act) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(28, width), act(), nn.Linear(width, width), act(), nn.Linear(width, 12), nn.Linear(12, 40)
            )
            for _ in range(depth)
        )

    def forward(self, past: Tensor) -> Tensor:
        forecast = torch.zeros(())
        for block in self.blocks:
            back, forward = block(past).split([28, 12], -1)
            past, forecast = past - back, forecast + forward
        return forecast


def _series() -> Batches:
    """The first 28 values of a wave, and the next twelve; both by the deviation of all waves."""
    given = waves(64)
    deviation = torch.cat([x for x, _ in given]).std()
    return [(x[:, :28] / deviation, x[:, 28:] / deviation) for x, _ in given]


@family("n-beats", deep={"depth": 4}, tanh={"act": nn.Tanh}, nesterov={"optimizer": "nesterov", "lr": 0.1})
def n_beats(depth: int = 2, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    def loss(model: nn.Module, batch: Pair) -> Tensor:
        return F.smooth_l1_loss(model(batch[0]), batch[1])

    return _workload(Stack(depth, 96, act), _series(), loss, optimizer, lr)


class Autoregressive(nn.Module):
    """A law of the next value from all before it."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(1, width, depth, batch_first=True, dropout=0.1 if depth > 1 else 0.0)
        self.mean, self.variance = nn.Linear(width, 1), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = self.rnn(x[..., None])
        return self.mean(y)[..., 0], F.softplus(self.variance(y))[..., 0] + 1e-3


@family("deep-ar", deep={"depth": 2}, student={"student": True}, adamax={"optimizer": "adamax", "lr": 0.02})
def deep_ar(depth: int = 1, student: bool = False, optimizer: str = "adam", lr: float = 8e-3) -> Workload:
    """student: with the likelihood of a law with heavy tails in place of the normal one."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        series = torch.cat(batch, 1)
        mean, variance = model(series[:, :-1])
        if student:
            return -torch.distributions.StudentT(4.0, mean, variance.sqrt()).log_prob(series[:, 1:]).mean()
        return F.gaussian_nll_loss(mean, series[:, 1:], variance)

    return _workload(Autoregressive(32, depth), _series(), loss, optimizer, lr)


class Predictive(nn.Module):
    """Rows are encoded, what was read so far is summed up, and the next rows' codes are predicted from it."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(8, width), act(), nn.Linear(width, width), act(), nn.Linear(width, 24))
        self.sum_up = nn.GRU(24, width, batch_first=True)
        self.predict = nn.ModuleList(nn.Linear(width, 24) for _ in range(2))

    def forward(self, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
        code = self.encode(rows)
        context, _ = self.sum_up(code)
        return code, [one(context) for one in self.predict]


@family("contrastive-predictive", wide={"width": 80}, elu={"act": nn.ELU}, nadam={"optimizer": "nadam", "lr": 2e-3})
def contrastive_predictive(width: int = 48, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """The right next row is to be told from the same row of the other pictures."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        code, told = model(batch[0].reshape(-1, 8, 8))
        total = torch.zeros(())
        for ahead, one in enumerate(told, 1):
            score = torch.einsum("ard,brd->rab", one[:, 2:-ahead], code[:, 2 + ahead :]) / 24**0.5
            rows, size, _ = score.shape
            total = total + F.cross_entropy(score.reshape(-1, size), torch.arange(size).repeat(rows))
        return total / 2

    return _workload(Predictive(width, act), digits(), loss, optimizer, lr)


class Dueling(nn.Module):
    """The value of a state and the advantage of each act, and a copy that follows slowly."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.online = nn.ModuleDict({
            "body": mlp(3, act, "he", outputs=width, width=width), "value": nn.Linear(width, 1),
            "advantage": nn.Linear(width, 10),
        })  # fmt: skip
        self.slow = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, x: Tensor, slow: bool = False) -> Tensor:
        parts = self.slow if slow else self.online
        y = F.relu(parts["body"](x))
        advantage = parts["advantage"](y)
        return parts["value"](y) + advantage - advantage.mean(-1, keepdim=True)

    @torch.no_grad()
    def follow(self, rate: float = 0.05) -> None:
        for slow, fast in zip(self.slow.parameters(), self.online.parameters(), strict=True):
            slow.lerp_(fast, rate)


def _replay() -> list[dict[str, Tensor]]:
    """What was done where, half of it right, and what came of it: a digit, an act, a reward, the next digit, an end."""
    generator = torch.Generator().manual_seed(6)
    out = []
    for x, y in digits(64):
        size = len(x) // 2
        acts = torch.randint(10, (size,), generator=generator)
        acts = torch.where(torch.rand(size, generator=generator) < 0.5, y[:size], acts)
        ends = torch.rand(size, generator=generator) < 0.2
        reward = (acts == y[:size]).float()
        out.append({"state": x[:size], "act": acts, "reward": reward, "next": x[size:], "end": ends.float()})
    return out


@family("dueling-q", wide={"width": 128}, silu={"act": nn.SiLU}, rmsprop={"optimizer": "rmsprop", "lr": 5e-4})
def dueling(width: int = 64, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 1e-3) -> Workload:
    """The act is chosen by one network and valued by the other; from a fixed replay."""

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        assert isinstance(model, Dueling)
        if model.training:
            model.follow()
        value = model(batch["state"]).gather(1, batch["act"][:, None])[:, 0]
        with torch.no_grad():
            best = model(batch["next"]).argmax(-1, keepdim=True)
            ahead = model(batch["next"], slow=True).gather(1, best)[:, 0]
        return F.huber_loss(value, batch["reward"] + 0.5 * (1 - batch["end"]) * ahead)

    return _workload(Dueling(width, act), _replay(), loss, optimizer, lr)


@family("margin-ranking", wide={"width": 24}, soft={"soft": True}, sgd={"optimizer": "nesterov", "lr": 0.02})
def ranking(width: int = 12, soft: bool = False, optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    """Of two pictures the greater digit is to have the greater score. soft: without a margin, by logarithms."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        score, half = model(batch[0])[:, 0], len(batch[0]) // 2
        sign = (batch[1][:half] - batch[1][half:]).sign()
        if soft:
            return F.softplus(-(score[:half] - score[half:]) * sign)[sign != 0].mean()
        return F.margin_ranking_loss(score[:half], score[half:], sign, margin=1.0)

    model = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * width, 48), nn.ReLU(), nn.Linear(48, 1),
    )  # fmt: skip
    return _workload(initialize(model, "he"), digits(64, image=True), loss, optimizer, lr)


class Tasks(nn.Module):
    """One body; a class, the amount of ink and the picture itself; how uncertain each task is is learned as well."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, width), act(), nn.Linear(width, width), act())
        head = partial(mlp, 2, act, inputs=width, width=48)
        self.heads = nn.ModuleDict({"class": head(outputs=10), "ink": head(outputs=1), "picture": head(outputs=64)})
        self.uncertainty = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.body(x)
        return {name: one(y) for name, one in self.heads.items()}


@family("weighed-tasks", wide={"width": 128}, tanh={"act": nn.Tanh}, adagrad={"optimizer": "adagrad", "lr": 0.02})
def tasks(width: int = 64, act: Act = nn.ReLU, optimizer: str = "adamw", lr: float = 3e-3) -> Workload:
    def loss(model: nn.Module, batch: Pair) -> Tensor:
        x, y = batch
        told = model(x + 0.1 * torch.randn_like(x))
        errors = torch.stack([
            F.cross_entropy(told["class"], y), F.l1_loss(told["ink"][:, 0], x.mean(-1) * 8),
            F.mse_loss(told["picture"], x),
        ])  # fmt: skip
        s = model.uncertainty
        return (errors * torch.exp(-s) + s / 2).sum()  # type: ignore[operator]

    return _workload(Tasks(width, act), digits(), loss, optimizer, lr)
