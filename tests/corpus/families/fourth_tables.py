"""Families for tables and flat inputs, fourth round: notebooks' tables, codes, attention over rows, metrics, views."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import BATCHES, Batches, digits, large_digits
from tests.corpus.families.family import family
from tests.corpus.families.third_sequence import MORE, OTHER, grouped, prepared, scheduled
from tests.corpus.families.third_tables import tumours
from tests.corpus.nets import classify, initialize, mlp

Act = type[nn.Module]
Rows = tuple[Tensor, ...]


def _drawn(parts: Rows, size: int, seed: int) -> list[Any]:
    """Batches of rows of several tables, epoch after epoch."""
    generator, order = torch.Generator().manual_seed(seed), []
    while len(order) < BATCHES:
        order += list(torch.randperm(len(parts[0]), generator=generator).split(size))[: len(parts[0]) // size]
    return [tuple(part[rows] for part in parts) for rows in order[:BATCHES]]


@functools.cache
def _houses() -> tuple[Tensor, Tensor]:
    """Ten standardized measures, a one-hot quarter of the town, and the standardized logarithm of the price."""
    generator = torch.Generator().manual_seed(21)
    x = torch.randn(1500, 10, generator=generator)
    x[:, 1] = 0.7 * x[:, 0] + 0.7 * x[:, 1]
    town = torch.randint(8, (1500,), generator=generator)
    dear = torch.randn(8, generator=generator)[town]
    price = x[:, 0] + 0.6 * x[:, 2] + 0.5 * (x[:, 3] * x[:, 4]) + 0.7 * torch.sin(1.5 * x[:, 5]) + 0.8 * dear
    price += 0.5 * dear * x[:, 0] + 0.3 * torch.randn(1500, generator=generator)
    return torch.cat([x, F.one_hot(town, 8).float()], 1), ((price - price.mean()) / price.std())[:, None]


@family("house-prices", mixed={"mixed": True}, deep={"depth": 4}, momentum={"optimizer": "momentum", "lr": 0.02})
def houses(depth: int = 3, mixed: bool = False, optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    """Batch norm and dropout in each layer, Huber's loss. mixed: the forward pass in bfloat16."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            said = model(batch[0])
        return F.huber_loss(said.float(), batch[1])

    sizes, layers = [18, *(128 >> i for i in range(depth - 1))], []
    for n, k in itertools.pairwise(sizes):
        layers += [nn.Linear(n, k), nn.BatchNorm1d(k), nn.ReLU(), nn.Dropout(0.1)]
    return prepared(nn.Sequential(*layers, nn.Linear(sizes[-1], 1)), _drawn(_houses(), 64, 1), loss, lr, optimizer)


@functools.cache
def _passengers() -> tuple[Tensor, Tensor]:
    """Sex, one-hot class and port, age, relatives, fare; and who lived."""
    generator = torch.Generator().manual_seed(22)
    sex, deck, port, kin = (torch.randint(n, (900,), generator=generator) for n in (2, 3, 3, 5))
    age, noise = torch.rand(900, generator=generator), torch.randn(900, generator=generator)
    fare = 1.5 - 0.7 * deck + 0.4 * noise
    odds = 3.5 * sex - 1.6 * deck - 2.5 * (age - 0.3) - 0.5 * kin + 2.0 * (sex * (deck < 2)) + 0.5 * (port == 1)
    lived = torch.rand(900, generator=generator) < torch.sigmoid(1.5 * (odds - odds.median()))
    parts = [sex[:, None], F.one_hot(deck, 3), F.one_hot(port, 3), age[:, None], kin[:, None] / 4, fare[:, None]]
    return torch.cat([part.float() for part in parts], 1), lived.float()[:, None]


@family("titanic", tanh={"act": nn.Tanh}, deep={"depth": 4}, sgd={"optimizer": "nesterov", "lr": 0.05})
def titanic(act: Act = nn.ReLU, depth: int = 3, optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    """A small network with a sigmoid at its end and the loss of probabilities."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.binary_cross_entropy(model(batch[0]), batch[1])

    model = nn.Sequential(*mlp(depth, act, inputs=10, outputs=1, width=24), nn.Sigmoid())
    return prepared(initialize(model, "glorot"), _drawn(_passengers(), 32, 2), loss, lr, optimizer)


def spirals(arms: int = 3, points: int = 200) -> tuple[Tensor, Tensor]:
    """Points on arms of a spiral, and the arm."""
    generator = torch.Generator().manual_seed(23)
    radius, arm = torch.linspace(0.05, 1, points).repeat(arms), torch.arange(arms).repeat_interleave(points)
    angle = 4 * radius + arm * (2 * math.pi / arms) + 0.2 * torch.randn(arms * points, generator=generator)
    return 2 * torch.stack([radius * angle.sin(), radius * angle.cos()], 1), arm


@family("spirals", tanh={"act": nn.Tanh}, wide={"width": 128}, sgd={"optimizer": "sgd", "lr": 0.5})
def spiral(width: int = 64, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    """The exercise of a known course, all points in each step, with a small penalty on large weights."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        large = sum(p.square().sum() for p in model.parameters() if p.ndim > 1)
        return F.cross_entropy(model(batch[0]), batch[1]) + 1e-4 * large

    model = nn.Sequential(nn.Linear(2, width), act(), nn.Linear(width, width), act(), nn.Linear(width, 3))
    return prepared(model, _drawn(spirals(), 600, 3), loss, lr, optimizer)


class TiedAutoencoder(nn.Module):
    """The decoder's weights are the encoder's, transposed."""

    def __init__(self, sizes: tuple[int, ...], act: Act) -> None:
        super().__init__()
        self.W = nn.ParameterList(
            nn.init.xavier_uniform_(nn.Parameter(torch.empty(k, n))) for n, k in itertools.pairwise(sizes)
        )
        self.b = nn.ParameterList(nn.Parameter(torch.zeros(k)) for k in sizes[1:])
        self.b_prime = nn.ParameterList(nn.Parameter(torch.zeros(n)) for n in sizes[:-1])
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        for W, b in zip(self.W, self.b, strict=True):
            x = self.act(F.linear(x, W, b))
        for i in range(len(self.W) - 1, -1, -1):
            x = F.linear(x, self.W[i].t(), self.b_prime[i])
            x = self.act(x) if i else x
        return x


@family("tied-denoiser", deep={"sizes": (64, 48, 32, 16)}, tanh={"act": nn.Tanh}, sgd={"optimizer": "sgd", "lr": 0.02})
def tied(
    sizes: tuple[int, ...] = (64, 48, 24), act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3
) -> Workload:
    """Pixels at random are put out; the loss is summed over pixels and averaged over pictures."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0]
        said = model(x * torch.bernoulli(torch.full_like(x, 0.75)))
        return F.binary_cross_entropy_with_logits(said, x, reduction="none").sum(1).mean()

    return prepared(TiedAutoencoder(sizes, act), digits(32, "unit"), loss, lr, optimizer)


class VAE(nn.Module):
    def __init__(self, hidden: int, code: int, act: Act) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(64, hidden), nn.Linear(hidden, code), nn.Linear(hidden, code)
        self.fc3, self.fc4, self.act = nn.Linear(code, hidden), nn.Linear(hidden, 64), act()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h1 = self.act(self.fc1(x))
        mu, logvar = self.fc21(h1), self.fc22(h1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.fc4(self.act(self.fc3(z)))), mu, logvar


@family("vae-example", wide={"hidden": 160}, softplus={"act": nn.Softplus}, rmsprop={"optimizer": "rmsprop"})
def vae(hidden: int = 80, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    """PyTorch's example: probabilities of pixels and the divergence of the code, both summed over the batch."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0]
        recon_x, mu, logvar = model(x)
        bce = F.binary_cross_entropy(recon_x, x, reduction="sum")
        return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

    return prepared(VAE(hidden, 8, act), digits(64, "unit"), loss, lr, optimizer)


def sparsemax(x: Tensor) -> Tensor:
    """The nearest point of the simplex: many shares are exactly 0."""
    ranked, _ = x.sort(-1, descending=True)
    over = ranked.cumsum(-1) - 1
    rank = torch.arange(1, x.shape[-1] + 1)
    count = (ranked * rank > over).sum(-1, keepdim=True)
    return F.relu(x - over.gather(-1, count - 1) / count)


class Gated(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(inputs, 2 * outputs, bias=False), nn.BatchNorm1d(2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.bn(self.fc(x)))


class TabNet(nn.Module):
    """In each step a sparse mask tells which columns are looked at; what was seen before counts for less."""

    def __init__(self, columns: int, classes: int, width: int, steps: int) -> None:
        super().__init__()
        self.bn, self.shared, self.width = nn.BatchNorm1d(columns), Gated(columns, 2 * width), width
        self.own = nn.ModuleList(Gated(2 * width, 2 * width) for _ in range(steps + 1))
        self.attend = nn.ModuleList(
            nn.Sequential(nn.Linear(width, columns, bias=False), nn.BatchNorm1d(columns)) for _ in range(steps)
        )
        self.head = nn.Linear(width, classes, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.bn(x)
        prior, total, spread = torch.ones_like(x), x.new_zeros(len(x), self.width), x.new_zeros(())
        hidden = self._look(x, 0)
        for number, attend in enumerate(self.attend):
            mask = sparsemax(attend(hidden[:, self.width :]) * prior)
            prior = prior * (1.3 - mask)
            spread = spread - (mask * (mask + 1e-10).log()).sum(1).mean() / len(self.attend)
            hidden = self._look(x * mask, number + 1)
            total = total + F.relu(hidden[:, : self.width])
        return self.head(total), spread

    def _look(self, x: Tensor, number: int) -> Tensor:
        y = self.shared(x)
        return (y + self.own[number](y)) * math.sqrt(0.5)


@family("tabnet", steps={"steps": 4}, wide={"width": 24}, radam={"optimizer": "radam", "lr": 2e-2})
def tabnet(width: int = 16, steps: int = 3, optimizer: str = "adam", lr: float = 1e-2) -> Workload:
    """Of twelve columns one tells which others decide on the class."""
    generator = torch.Generator().manual_seed(24)
    x = torch.randn(3000, 12, generator=generator)
    score = torch.where(x[:, 0] > 0, x[:, 1] + x[:, 2], x[:, 3] - x[:, 4])
    y = (score > -0.6).long() + (score > 0.6).long()

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        said, spread = model(batch[0])
        return F.cross_entropy(said, batch[1]) + 1e-3 * spread

    return prepared(TabNet(12, 3, width, steps), _drawn((3 * x + 1, y), 128, 4), loss, lr, optimizer)


class Saint(nn.Module):
    """Attention among the columns of a row, then among the rows of the batch."""

    def __init__(self, columns: int, width: int, act: Any) -> None:
        super().__init__()
        self.scale, self.place = (nn.Parameter(torch.randn(columns + 1, width) * 0.5) for _ in range(2))

        def block(size: int, heads: int) -> nn.Module:
            return nn.TransformerEncoderLayer(size, heads, size, 0.1, act, batch_first=True, norm_first=True)

        self.within, self.among = block(width, 4), block(width * (columns + 1), 8)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 0), value=1.0)[..., None] * self.scale + self.place
        x = self.within(x)
        x = self.among(x.flatten(1)[None])[0].view_as(x)
        return self.head(x[:, 0])[:, 0]


@family("row-attention", wide={"width": 24}, relu={"act": F.relu}, warm={"warm": True, "lr": 2e-3})
def rows(width: int = 16, act: Any = F.gelu, warm: bool = False, lr: float = 1e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1])

    batches = [(x[:, :10], y) for x, y in tumours()]
    workload = grouped(prepared(Saint(10, width, act), batches, loss, lr, "decayed"))
    return scheduled(workload, lambda step: min((step + 1) / 30, 1.0)) if warm else workload


@functools.cache
def _policies() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Region, standardized measures of driver and car, years insured, and the number of claims in them."""
    generator = torch.Generator().manual_seed(25)
    region, x = torch.randint(20, (3000,), generator=generator), torch.randn(3000, 6, generator=generator)
    years = 0.3 + 2.7 * torch.rand(3000, generator=generator)
    risk = 0.6 * torch.randn(20, generator=generator)[region] + 0.4 * (x[:, 0] ** 2 - 1) + 0.4 * x[:, 1]
    rate = (risk + 0.3 * x[:, 2] * (x[:, 3] > 0)).clamp(-3, 2.5).exp()
    return region, x, years, torch.poisson(rate * years, generator=generator)


class Frequency(nn.Module):
    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.region = nn.Embedding(20, 4)
        self.body = nn.Sequential(
            nn.Linear(10, width), act(), nn.Linear(width, width), act(), nn.Dropout(0.05), nn.Linear(width, 1)
        )

    def forward(self, region: Tensor, x: Tensor, years: Tensor) -> Tensor:
        return self.body(torch.cat([self.region(region), x], 1)).squeeze(1) + years.log()


@family("insurance-claims", celu={"act": nn.CELU}, wide={"width": 96}, sgd={"optimizer": "nesterov", "lr": 0.01})
def claims(act: Act = nn.ReLU, width: int = 48, optimizer: str = "nadam", lr: float = 5e-3) -> Workload:
    """How often claims are made, with the time insured as an offset."""

    def loss(model: nn.Module, batch: Rows) -> Tensor:
        return F.poisson_nll_loss(model(*batch[:3]), batch[3], log_input=True, full=True)

    return prepared(Frequency(width, act), _drawn(_policies(), 100, 5), loss, lr, optimizer)


class Centered(nn.Module):
    """A body, a head, and a centre for each class that its codes are drawn to."""

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        sizes = [1, width, width, 2 * width]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(sizes))
        self.prelus = nn.ModuleList(nn.PReLU() for _ in range(3))
        self.ip1 = nn.Linear(2 * width * 4, code)
        initialize(self, "he")
        self.ip2 = nn.Linear(code, 10, bias=False)
        self.centers = nn.Parameter(torch.randn(10, code))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for number, (conv, prelu) in enumerate(zip(self.convs, self.prelus, strict=True)):
            x = prelu(conv(x))
            x = F.max_pool2d(x, 2) if number else x
        code = self.ip1(x.flatten(1))
        return code, self.ip2(F.relu(code))


@family("center-loss", wide={"width": 24}, code={"code": 32}, adamw={"optimizer": "decayed", "lr": 2e-3})
def centers(width: int = 16, code: int = 12, optimizer: str = "nesterov", lr: float = 0.02) -> Workload:
    """The centres learn by a rate of their own."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        (code, said), y = model(batch[0]), batch[1]
        apart = (code - model.centers[y]).pow(2).sum(1).mean() / 2  # type: ignore[index, operator]
        return F.cross_entropy(said, y) + 0.01 * apart

    model = Centered(width, code)
    rest = [one for name, one in model.named_parameters() if name != "centers"]
    groups = [{"params": rest}, {"params": [model.centers], "lr": 3 * lr, "weight_decay": 0.0}]
    return Workload(model, digits(image=True), loss, MORE[optimizer](groups, lr=lr))


class Momentum(nn.Module):
    """A query is to find its own key among keys kept from batches before; a slow copy makes the keys."""

    def __init__(self, width: int, act: Act, first: Tensor) -> None:
        super().__init__()
        self.query = mlp(4, act, "he", width=width, outputs=24, norm=nn.LayerNorm)
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.register_buffer("queue", F.normalize(self.key(first), dim=1))
        self.queue: Tensor

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        q = F.normalize(self.query(one), dim=1)
        with torch.no_grad():
            if self.training:
                for slow, fast in zip(self.key.parameters(), self.query.parameters(), strict=True):
                    slow.lerp_(fast, 0.05)
            k = F.normalize(self.key(other), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ self.queue.clone().T], 1)
        if self.training:
            self.queue = torch.cat([self.queue[len(k) :], k])
        return logits / 0.2


@family("momentum-contrast", gelu={"act": nn.GELU}, wide={"width": 128}, sgd={"optimizer": "nesterov", "lr": 0.05})
def contrast(act: Act = nn.ReLU, width: int = 64, optimizer: str = "adam", lr: float = 2e-3) -> Workload:
    """Views: pixels are put out at random, and there is noise."""

    def view(x: Tensor) -> Tensor:
        return (x + 0.3 * torch.randn_like(x)) * (torch.rand_like(x) > 0.2)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = model(view(batch[0]), view(batch[0]))
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))

    batches = digits(64)
    model = Momentum(width, act, view(torch.cat([x for x, _ in batches[-4:]])))
    return prepared(model, batches, loss, lr, optimizer)


def puzzles(orders: Tensor) -> Batches:
    """Noisy digits cut into four tiles in one of these orders, and which."""
    generator, batches = torch.Generator().manual_seed(26), []
    for x, _ in large_digits(32, 16, 1):
        tiles = x.unfold(2, 8, 8).unfold(3, 8, 8).flatten(1, 3) + 0.1 * torch.randn(32, 4, 8, 8, generator=generator)
        order = torch.randint(len(orders), (32,), generator=generator)
        batches.append((tiles[torch.arange(32)[:, None], orders[order]], order))
    return batches


class Jigsaw(nn.Module):
    """One small convolution network for all tiles; a perceptron that sees their codes tells their order."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.tile = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), act(), nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1),
            act(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * width, 32), act(),
        )  # fmt: skip
        initialize(self, "he")
        self.order = nn.Sequential(nn.Linear(128, 96), act(), nn.Linear(96, 24))

    def forward(self, tiles: Tensor) -> Tensor:
        return self.order(self.tile(tiles.flatten(0, 1)[:, None]).reshape(len(tiles), 128))


@family("jigsaw", wide={"width": 24}, leaky={"act": nn.LeakyReLU}, other={**OTHER, "optimizer": "nadam", "lr": 2e-3})
def jigsaw(width: int = 12, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0) -> Workload:
    orders = torch.tensor(list(itertools.permutations(range(4))))
    return prepared(Jigsaw(width, act), puzzles(orders), classify, lr, optimizer, turn)
