"""Families for graphs and sets, third round: graphs of nearest neighbours among records and digits, sets of ink."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import digits
from tests.corpus.families.family import family
from tests.corpus.families.third_sequence import OTHER, prepared
from tests.corpus.families.third_tables import tumours
from tests.corpus.nets import classify, initialize, mlp

Act = type[nn.Module]


def neighbours(x: Tensor, count: int = 6, own: bool = False) -> Tensor:
    """The symmetric matrix of who is among whose nearest, of zeros and ones."""
    far = torch.cdist(x, x) + torch.eye(x.shape[-2]) * 1e6
    near = torch.zeros_like(far).scatter(-1, far.topk(count, -1, largest=False).indices, 1.0)
    near = torch.maximum(near, near.mT)
    return near + torch.eye(x.shape[-2]) if own else near


def _evened(near: Tensor) -> Tensor:
    """Divided by the roots of both ends' degrees."""
    root = near.sum(-1).rsqrt()
    return root[..., :, None] * near * root[..., None, :]


def _graphs(size: int = 64) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Digits as nodes: their pixels, the matrix of their neighbours, their classes."""
    return [(x, neighbours(x), y) for x, y in digits(size)]


def _nodes(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0], batch[1]), batch[2])


def ink(size: int = 24, points: int = 20) -> list[tuple[Tensor, Tensor]]:
    """The places of a digit's darkest pixels and how dark they are, (size, points, 3), and its class."""
    place = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 8)] * 2, indexing="ij"), -1).reshape(64, 2)
    out = []
    for x, y in digits(size, "unit"):
        dark, where = x.topk(points, -1)
        out.append((torch.cat([place[where], dark[..., None]], -1), y))
    return out


class Samples(nn.Module):
    """A node's own features beside those of its neighbours: their mean, or what is greatest after a layer."""

    def __init__(self, inputs: int, outputs: int, greatest: bool) -> None:
        super().__init__()
        self.pool = nn.Linear(inputs, inputs) if greatest else None
        self.own, self.near = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        if self.pool is None:
            around = near @ x / near.sum(-1, keepdim=True)
        else:
            around = (near[..., None] * F.relu(self.pool(x))[None]).amax(1)
        return self.own(x) + self.near(around)


class Sage(nn.Module):
    def __init__(self, width: int, depth: int, greatest: bool) -> None:
        super().__init__()
        sizes = [64, *[width] * (depth - 1), 10]
        self.layers = nn.ModuleList(Samples(sizes[i], sizes[i + 1], greatest) for i in range(depth))

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x, near)
            if number < len(self.layers) - 1:
                x = F.dropout(F.normalize(F.relu(x), dim=-1) * x.shape[-1] ** 0.5, 0.2, self.training)
        return x


@family(
    "graph-sage", greatest={"greatest": True, "width": 32}, deep={"depth": 3}, sgd={"optimizer": "nesterov", "lr": 0.03}
)
def sage(
    width: int = 48, depth: int = 2, greatest: bool = False, optimizer: str = "adam", lr: float = 4e-3
) -> Workload:
    return prepared(Sage(width, depth, greatest), list(_graphs()), _nodes, lr, optimizer)


class Propagates(nn.Module):
    """Predict each node alone, then let predictions spread, a share of them coming back home at each step."""

    def __init__(self, depth: int, steps: int, act: Act) -> None:
        super().__init__()
        self.body, self.steps = mlp(depth, act, width=56, dropout=0.3), steps

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        home = said = self.body(x)
        spread = _evened(near + torch.eye(len(near), dtype=near.dtype))
        for _ in range(self.steps):
            said = 0.8 * spread @ said + 0.2 * home
        return said


@family("personalized-propagation", deep={"depth": 4}, long={"steps": 10}, elu={"act": nn.ELU, "optimizer": "decayed"})
def propagates(
    depth: int = 3, steps: int = 5, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 6e-3
) -> Workload:
    return prepared(Propagates(depth, steps, act), list(_graphs(48)), _nodes, lr, optimizer)


class Initial(nn.Module):
    """Many graph convolutions, each with a share of the first layer's output and a matrix close to the identity."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(64, width), nn.Linear(width, 10)
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        first = x = F.relu(self.stem(x))
        spread = _evened(near + torch.eye(len(near), dtype=near.dtype))
        for number, layer in enumerate(self.layers):
            mixed = 0.8 * spread @ x + 0.2 * first
            x = F.relu(torch.lerp(mixed, layer(mixed), 1 / (1 + number)))
        return self.head(x)


@family(
    "initial-residual-graph", deep={"depth": 16}, wide={"width": 96}, momentum={"optimizer": "momentum", "lr": 0.03}
)
def initial(depth: int = 8, width: int = 48, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    return prepared(Initial(depth, width), list(_graphs()), _nodes, lr, optimizer)


class Links(nn.Module):
    """Two graph convolutions to a mean and a deviation of each node's code; alike codes are linked."""

    def __init__(self, width: int, code: int, act: Act) -> None:
        super().__init__()
        self.first, self.act = nn.Linear(30, width), act()
        self.mean, self.spread = nn.Linear(width, code), nn.Linear(width, code)
        self.bias = nn.Parameter(torch.tensor(-1.0))
        initialize(self, "glorot")

    def forward(self, x: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spread = _evened(near + torch.eye(len(near), dtype=near.dtype))
        y = spread @ self.act(self.first(spread @ x))
        mean, log = self.mean(y), self.spread(y).clamp(max=4) - 1
        code = mean + log.exp() * torch.randn_like(mean) if self.training else mean
        return code @ code.T / 2 + self.bias, mean, log


@family("graph-autoencoder", tanh={"act": nn.Tanh}, wide={"width": 64, "code": 16}, adamax={"optimizer": "adamax"})
def links(width: int = 32, code: int = 8, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 1e-2) -> Workload:
    """Who is near whom among tumours."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        said, mean, log = model(*batch)
        rare = (1 - batch[1]).sum() / batch[1].sum()
        told = F.binary_cross_entropy_with_logits(said, batch[1], pos_weight=rare)
        return told + 0.02 * (mean.square() + (2 * log).exp() - 2 * log - 1).sum(-1).mean() / 2

    batches = [(x, neighbours(x)) for x, _ in tumours(48)]
    return prepared(Links(width, code, act), batches, loss, lr, optimizer)


class GatedGraph(nn.Module):
    """Messages from neighbours drive a gated recurrent cell in each node, over several steps."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.steps, self.stem, self.message = steps, nn.Linear(30, width), nn.Linear(width, width)
        self.cell = nn.GRUCell(width, width)
        self.gate, self.head = nn.Linear(2 * width, width), nn.Linear(width, 1)

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        first = state = torch.tanh(self.stem(x))
        for _ in range(self.steps):
            state = self.cell(near @ self.message(state) / near.sum(-1, keepdim=True), state)
        return self.head(torch.sigmoid(self.gate(torch.cat([state, first], -1))) * torch.tanh(state))[:, 0]


@family("gated-graph", wide={"width": 64}, steps={"steps": 6}, rmsprop={"optimizer": "rmsprop", "lr": 2e-3})
def gated_graph(width: int = 32, steps: int = 3, optimizer: str = "adam", lr: float = 6e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch[0], batch[1]), batch[2])

    batches = [(x, neighbours(x), y) for x, y in tumours(40)]
    return prepared(GatedGraph(width, steps), batches, loss, lr, optimizer)


class Edges(nn.Module):
    """For each point the greatest of what a layer makes of it and its nearest ones, found anew among features."""

    def __init__(self, inputs: int, outputs: int, count: int) -> None:
        super().__init__()
        self.count, self.linear = count, nn.Linear(2 * inputs, outputs, bias=False)
        self.norm, self.act = nn.BatchNorm1d(outputs), nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        size, points, width = x.shape
        far = (x[:, :, None] - x[:, None]).square().sum(-1)
        nearest = far.topk(self.count, -1, largest=False).indices.flatten(1)
        other = x.gather(1, nearest[..., None].expand(-1, -1, width)).reshape(size, points, self.count, width)
        own = x[:, :, None].expand_as(other)
        y = self.linear(torch.cat([other - own, own], -1)).flatten(0, 2)
        return self.act(self.norm(y)).reshape(size, points, self.count, -1).amax(2)


class Dynamic(nn.Module):
    def __init__(self, width: int, depth: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Edges(width if i else 3, width, count) for i in range(depth))
        self.join = nn.Sequential(nn.Linear(depth * width, 64), nn.LeakyReLU(0.2))
        self.head = nn.Sequential(nn.Linear(128, 32), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        y = self.join(torch.cat(found, -1))
        return self.head(torch.cat([y.amax(1), y.mean(1)], -1))


def _smooth(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.1)


@family("edge-convolution", deep={"depth": 3}, many={"count": 8}, sgd={"optimizer": "nesterov", "lr": 0.05})
def dynamic(depth: int = 2, count: int = 5, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    return prepared(Dynamic(24, depth, count), ink(), _smooth, lr, optimizer)


class Looks(nn.Module):
    """One set looks at another; a layer of its own follows; both beside the stream, then a norm."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.look = nn.MultiheadAttention(width, 4, batch_first=True)
        self.own = nn.Sequential(nn.Linear(width, width), act())
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = self.first(x + self.look(x, y, y, need_weights=False)[0])
        return self.second(x + self.own(x))


class SetAttention(nn.Module):
    """Points look at a few learned ones that have looked at them; learned seeds gather the set."""

    def __init__(self, width: int, depth: int, act: Act) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, width), nn.Linear(2 * width, 10)
        self.middle = nn.Parameter(torch.randn(depth, 6, width) * width**-0.5)
        self.seeds = nn.Parameter(torch.randn(2, width) * width**-0.5)
        self.there, self.back = (nn.ModuleList(Looks(width, act) for _ in range(depth)) for _ in range(2))
        self.gather = Looks(width, act)

    def forward(self, x: Tensor) -> Tensor:
        x, size = self.stem(x), len(x)
        for middle, there, back in zip(self.middle, self.there, self.back, strict=True):
            x = back(x, there(middle.expand(size, -1, -1), x))
        return self.head(self.gather(self.seeds.expand(size, -1, -1), x).flatten(1))


@family("set-attention", deep={"depth": 2}, wide={"width": 48}, gelu={"act": nn.GELU, "optimizer": "radam", "lr": 5e-3})
def set_attention(
    width: int = 32, depth: int = 1, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3
) -> Workload:
    return prepared(SetAttention(width, depth, act), ink(16), classify, lr, optimizer)


class Relations(nn.Module):
    """A network looks at every pair of rows and their places; what it says is summed, and a second one answers."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.rows = nn.Sequential(nn.Linear(9, 24), act())
        self.pairs = mlp(3, act, "he", inputs=48, outputs=width, width=width)
        self.answer = mlp(3, act, inputs=width, width=width, dropout=0.2)

    def forward(self, x: Tensor) -> Tensor:
        place = torch.linspace(-1, 1, 8, dtype=x.dtype)[:, None].expand(len(x), -1, -1)
        rows = self.rows(torch.cat([x.reshape(-1, 8, 8), place], -1))
        one, other = rows[:, :, None].expand(-1, -1, 8, -1), rows[:, None].expand(-1, 8, -1, -1)
        return self.answer(F.relu(self.pairs(torch.cat([one, other], -1))).sum((1, 2)) / 8)


@family("relation-network", wide={"width": 80}, leaky={"act": nn.LeakyReLU}, other=OTHER)
def relations(
    width: int = 48, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0
) -> Workload:
    return prepared(Relations(width, act), digits(16), classify, lr, optimizer, turn)
