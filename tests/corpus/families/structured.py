"""Families for graphs, sets and tables."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import Batches, digits, records
from tests.corpus.families.family import SGD, SLOW_SGD, family, trained
from tests.corpus.nets import mlp, regress


@functools.cache
def _grid() -> Tensor:
    """The normalized adjacency of the 64 pixels, each with its four neighbours and itself."""
    place = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij"), -1).reshape(64, 2)
    near = ((place[:, None] - place[None]).abs().sum(-1) <= 1).float()
    degree = near.sum(1).rsqrt()
    return degree[:, None] * near * degree[None]


class Convolved(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(_grid() @ self.linear(x))


class Attended(nn.Module):
    """Attention over neighbours alone."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.left, self.right = nn.Linear(inputs, outputs), nn.Linear(outputs, 1), nn.Linear(outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        score = F.leaky_relu(self.left(x) + self.right(x).transpose(1, 2), 0.2)
        score = score.masked_fill(_grid() == 0, -torch.inf)
        return F.elu(score.softmax(-1) @ x)


class Graph(nn.Module):
    """Pixels with their place as nodes; layers; the nodes' flat code decides."""

    def __init__(self, layer: type[nn.Module], depth: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer(1 if i == 0 else width, width) for i in range(depth))
        self.head = nn.Linear(64 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., None]
        for layer in self.layers:
            x = layer(x)
        return self.head(x.flatten(1))


@family("gcn", sgd=SGD, deep={"depth": 4})
def gcn(depth: int = 2, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    return trained(Graph(Convolved, depth), digits(), lr, optimizer=optimizer)


@family("gat", adamw={"optimizer": "adamw"})
def gat(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    return trained(Graph(Attended, 2), digits(), lr, optimizer=optimizer)


class Messages(nn.Module):
    """Messages to neighbours, states updated by a shared GRU cell, four rounds."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem, self.message, self.cell = nn.Linear(3, width), nn.Linear(width, width), nn.GRUCell(width, width)
        self.head = nn.Linear(64 * width, 10)
        place = torch.linspace(-1, 1, 8)
        self.register_buffer("place", torch.cartesian_prod(place, place))

    def forward(self, x: Tensor) -> Tensor:
        state = torch.tanh(self.stem(torch.cat([x[..., None], self.place.expand(len(x), -1, -1)], -1)))  # type: ignore[operator]
        for _ in range(4):
            sent = _grid() @ F.relu(self.message(state))
            state = self.cell(sent.flatten(0, 1), state.flatten(0, 1)).reshape(state.shape)
        return self.head(state.flatten(1))


@family("message-passing", rmsprop={"optimizer": "rmsprop", "lr": 1e-3})
def messages(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    return trained(Messages(), digits(16), lr, optimizer=optimizer)


def _points(size: int = 32) -> Batches:
    """The 16 brightest pixels of a digit as points: row, column, brightness."""
    out = []
    for x, y in digits(size, "unit"):
        bright, place = x.topk(16, -1)
        out.append((torch.stack([place // 8 / 4 - 1, place % 8 / 4 - 1, bright], -1).float(), y))
    return out


class DeepSets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.each, self.all = mlp(3, nn.ReLU, "he", inputs=3, outputs=64), mlp(2, nn.ReLU, "he", inputs=64)

    def forward(self, x: Tensor) -> Tensor:
        return self.all(F.relu(self.each(x)).mean(1))


@family("deep-sets", momentum={"optimizer": "momentum", "lr": 0.05})
def deep_sets(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    return trained(DeepSets(), _points(), lr, optimizer=optimizer)


class PointNet(nn.Module):
    """A learned linear map of the points, shared layers with batch norm, a maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.align = nn.Linear(3, 9)
        nn.init.zeros_(self.align.weight)
        with torch.no_grad():
            self.align.bias.copy_(torch.eye(3).flatten())
        sizes = (3, 32, 48, 64)
        layers = [(nn.Conv1d(a, b, 1), nn.BatchNorm1d(b), nn.ReLU()) for a, b in itertools.pairwise(sizes)]
        self.layers = nn.Sequential(*(one for layer in layers for one in layer))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x @ self.align(x.mean(1)).reshape(-1, 3, 3)
        return self.head(self.layers(x.transpose(1, 2)).amax(-1))


@family("pointnet", sgd=SGD)
def pointnet(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    return trained(PointNet(), _points(), lr, optimizer=optimizer)


class Crossed(nn.Module):
    """A cross network beside a deep one."""

    def __init__(self, width: int = 10) -> None:
        super().__init__()
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.deep, self.head = mlp(3, inputs=width, outputs=32), nn.Linear(width + 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        start, crossed = x, x
        for cross in self.crosses:
            crossed = start * cross(crossed) + crossed
        return self.head(torch.cat([crossed, F.relu(self.deep(x))], -1))


@family("cross-network", sgd={"optimizer": "sgd", "lr": 0.02})
def crossed(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    return trained(Crossed(), records(), lr, regress, optimizer)


class Tokenized(nn.Module):
    """Each feature a token of its own, a class token, two encoder layers."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(10, width) / 5), nn.Parameter(torch.randn(10, width) / 5)
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 48, 0.1, batch_first=True, norm_first=True) for _ in range(2)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.start.expand(len(x), -1, -1), x[..., None] * self.scale + self.shift], 1)
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0])


@family("ft-transformer", adamw={"optimizer": "adamw"})
def tokenized(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    return trained(Tokenized(), records(), lr, regress, optimizer)


class Factors(nn.Module):
    """The rating of a user for an item: a product of embeddings, and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(200, 8), nn.Embedding(100, 8)
        self.user_bias, self.item_bias = nn.Embedding(200, 1), nn.Embedding(100, 1)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.3)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, pairs: Tensor) -> Tensor:
        user, item = pairs.unbind(-1)
        product = (self.users(user) * self.items(item)).sum(-1, keepdim=True)
        return product + self.user_bias(user) + self.item_bias(item)


def _ratings() -> Batches:
    generator = torch.Generator().manual_seed(4)
    users, items = torch.randn(200, 3, generator=generator), torch.randn(100, 3, generator=generator)
    likes = torch.randn(100, generator=generator)
    out = []
    for _ in range(100):
        pairs = torch.stack([torch.randint(200, (128,), generator=generator),
                             torch.randint(100, (128,), generator=generator)], -1)  # fmt: skip
        rating = (users[pairs[:, 0]] * items[pairs[:, 1]]).sum(-1) / 2 + likes[pairs[:, 1]]
        out.append((pairs, rating[:, None]))
    return out


@family("matrix-factorization", adagrad={"optimizer": "adagrad", "lr": 0.3})
def factors(optimizer: str = "adam", lr: float = 3e-2) -> Workload:
    return trained(Factors(), _ratings(), lr, regress, optimizer)


class Radial(nn.Module):
    """Gaussian bumps at learned places, twice."""

    def __init__(self, inputs: int, outputs: int, bumps: int) -> None:
        super().__init__()
        self.centers, self.width = nn.Parameter(torch.randn(bumps, inputs)), nn.Parameter(torch.zeros(bumps))
        self.linear = nn.Linear(bumps, outputs)

    def forward(self, x: Tensor) -> Tensor:
        distance = (x[:, None] - self.centers[None]).square().mean(-1)
        return self.linear(torch.exp(-distance * self.width.exp()))


@family("radial-basis", sgd={"optimizer": "sgd", "lr": 0.1})
def radial(optimizer: str = "adam", lr: float = 1e-2) -> Workload:
    return trained(nn.Sequential(Radial(10, 16, 32), Radial(16, 1, 32)), records(), lr, regress, optimizer)


class Additive(nn.Module):
    """A small network for each feature; their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(mlp(3, nn.Tanh, "glorot", width=16, inputs=1, outputs=1) for _ in range(10))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([part(column[:, None]) for part, column in zip(self.parts, x.unbind(1), strict=True)]).sum(0)


@family("additive-model", sgd={"optimizer": "sgd", "lr": 0.01})
def additive(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    return trained(Additive(), records(), lr, regress, optimizer)


class SoftTree(nn.Module):
    """Soft decisions of depth 4; leaves hold logits."""

    def __init__(self, depth: int = 4) -> None:
        super().__init__()
        self.depth = depth
        self.decide = nn.Linear(64, 2**depth - 1)
        self.leaves = nn.Parameter(0.1 * torch.randn(2**depth, 10))

    def forward(self, x: Tensor) -> Tensor:
        right = torch.sigmoid(self.decide(x))
        share = torch.ones(len(x), 1)
        for level in range(self.depth):
            node = right[:, 2**level - 1 : 2 ** (level + 1) - 1]
            share = torch.stack([share * (1 - node), share * node], -1).flatten(1)
        return share @ self.leaves


@family("soft-tree", sgd={"optimizer": "sgd", "lr": 1.0})
def soft_tree(optimizer: str = "adam", lr: float = 2e-2) -> Workload:
    return trained(SoftTree(), digits(), lr, optimizer=optimizer)


@family("quantile-regression", relu={"act": nn.ReLU})
def quantiles(act: type[nn.Module] = nn.SiLU, lr: float = 5e-3) -> Workload:
    levels = torch.tensor([0.1, 0.5, 0.9])

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        short = batch[1] - model(batch[0])
        return torch.maximum(levels * short, (levels - 1) * short).mean()

    return trained(mlp(3, act, "he", inputs=10, outputs=3), records(), lr, loss)


@family("mixture-density", sgd=SLOW_SGD)
def mixture(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """The negative log likelihood of three Gaussians."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        weight, mean, log_std = model(batch[0]).chunk(3, -1)
        log_std = log_std.clamp(-4, 4)
        score = weight.log_softmax(-1) - log_std - 0.5 * ((batch[1] - mean) * (-log_std).exp()) ** 2
        return -torch.logsumexp(score, -1).mean()

    return trained(mlp(3, nn.Tanh, "glorot", inputs=10, outputs=9), records(), lr, loss, optimizer)
