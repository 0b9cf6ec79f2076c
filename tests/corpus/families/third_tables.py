"""Families for tables and flat inputs, third round: tutorials' tabular networks, recommenders, ranks, rare classes."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import BATCHES, digits, records
from tests.corpus.families.family import MOMENTUM, SGD, family
from tests.corpus.families.third_sequence import OTHER, grouped, prepared, scheduled
from tests.corpus.nets import classify, initialize, mlp

Act = type[nn.Module]


@functools.cache
def _tumours() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    return torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target, dtype=torch.float32)


def _drawn(parts: tuple[Tensor, ...], size: int, seed: int = 5) -> list[tuple[Tensor, ...]]:
    """Batches of rows of several tables."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(parts[0]), (BATCHES, size), generator=generator)
    return [tuple(part[row] for part in parts) for row in rows]


def _bins(x: Tensor, count: int = 8) -> Tensor:
    """Each column cut at its quantiles."""
    cuts = torch.quantile(x, torch.linspace(0, 1, count + 1)[1:-1], dim=0)
    return (x[:, :, None] > cuts.T).sum(-1)


def tumours(size: int = 32) -> list[tuple[Tensor, Tensor]]:
    """Standardized measures of tumours, and whether each is harmless, as a number."""
    x, y = _tumours()
    return _drawn(((x - x.mean(0)) / x.std(0), y), size)  # type: ignore[return-value]


def _yes_or_no(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(*batch[:-1]), batch[-1])


class Categories(nn.Module):
    """An embedding per category, a batch norm for the numbers, then a perceptron: the tabular learner of courses."""

    def __init__(self, columns: int, numbers: int, width: int, act: Act) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(8, 4) for _ in range(columns))
        self.drop, self.norm = nn.Dropout(0.05), nn.BatchNorm1d(numbers)
        self.body = nn.Sequential(
            nn.Linear(4 * columns + numbers, width), act(), nn.BatchNorm1d(width), nn.Dropout(0.2),
            nn.Linear(width, width // 2), act(), nn.BatchNorm1d(width // 2), nn.Dropout(0.1), nn.Linear(width // 2, 1),
        )  # fmt: skip

    def forward(self, chosen: Tensor, numbers: Tensor) -> Tensor:
        embedded = torch.cat([one(chosen[:, i]) for i, one in enumerate(self.embeds)], -1)
        return self.body(torch.cat([self.drop(embedded), self.norm(numbers)], -1))[:, 0]


@family("category-embeddings", wide={"width": 160}, silu={"act": nn.SiLU}, warm={"warm": True}, named={"named": True})
def categories(width: int = 64, act: Act = nn.ReLU, warm: bool = False, named: bool = False) -> Workload:
    x, y = _tumours()
    batches = _drawn((_bins(x[:, :8]), (x[:, 8:] - x[:, 8:].mean(0)) / x[:, 8:].std(0), y), 64)
    model = Categories(8, 22, width, act)
    if named:
        given = [dict(zip(("chosen", "numbers", "label"), batch, strict=True)) for batch in batches]
        return prepared(model, given, lambda m, b: _yes_or_no(m, tuple(b.values())), 4e-3, "decayed")
    workload = prepared(model, batches, _yes_or_no, 4e-3, "decayed")
    return scheduled(workload, lambda step: min((step + 1) / 25, 1.0)) if warm else workload


class WideDeep(nn.Module):
    """A linear model of crossed categories beside a perceptron of their embeddings."""

    def __init__(self, columns: int, depth: int, act: Act) -> None:
        super().__init__()
        self.crosses, self.embed = nn.Embedding(columns * 64, 1), nn.Embedding(columns * 8, 6)
        self.deep = mlp(depth, act, inputs=6 * columns, outputs=1, width=48, dropout=0.1)
        nn.init.zeros_(self.crosses.weight)

    def forward(self, chosen: Tensor) -> Tensor:
        place = torch.arange(chosen.shape[1])
        wide = self.crosses(chosen + 8 * chosen.roll(1, 1) + 64 * place).sum((1, 2))
        return wide + self.deep(self.embed(chosen + 8 * place).flatten(1))[:, 0]


@family("wide-and-deep", deep={"depth": 5}, elu={"act": nn.ELU}, adagrad={"optimizer": "adagrad", "lr": 0.05})
def wide_deep(depth: int = 3, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    """Whether a diabetes progresses faster than most."""
    (x, y), *_ = records(442, 1)
    batches = _drawn((_bins(x), (y[:, 0] > y.median()).float()), 64)
    return prepared(WideDeep(10, depth, act), batches, _yes_or_no, lr, optimizer)


class Towers(nn.Module):
    """One network for what asks, one for what is found; how near their codes are."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.ask, self.find = (mlp(3, act, "he", inputs=32, outputs=24, width=width) for _ in range(2))
        self.heat = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        asked, found = (
            F.normalize(one(part), dim=-1) for one, part in zip((self.ask, self.find), x.chunk(2, -1), strict=True)
        )
        return asked @ found.T * self.heat.exp()


@family("two-towers", wide={"width": 128}, gelu={"act": nn.GELU}, radam={"optimizer": "radam", "lr": 5e-3})
def towers(width: int = 64, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """Which lower half belongs to which upper half of a digit."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        near, own = model(batch[0]), torch.arange(len(batch[0]))
        return (F.cross_entropy(near, own) + F.cross_entropy(near.T, own)) / 2

    return prepared(Towers(width, act), digits(64), loss, lr, optimizer)


class Collaborative(nn.Module):
    """Users and items: the product of embeddings, and a perceptron over others of them."""

    def __init__(self, users: int, items: int, width: int) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(users, 2 * width), nn.Embedding(items, 2 * width)
        self.body = nn.Sequential(
            nn.Linear(2 * width, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, width), nn.ReLU()
        )
        self.head = nn.Linear(2 * width, 1)
        for one in (self.user, self.item):
            nn.init.normal_(one.weight, std=0.1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        (one, other), (this, that) = self.user(user).chunk(2, -1), self.item(item).chunk(2, -1)
        return self.head(torch.cat([one * this, self.body(torch.cat([other, that], -1))], -1))[:, 0]


@family("neural-collaborative", wide={"width": 32}, nadam={"optimizer": "nadam"}, other=OTHER)
def collaborative(width: int = 16, optimizer: str = "adam", lr: float = 1e-2, turn: int = 0) -> Workload:
    """Which pixels two hundred pictures like to ink."""
    x = digits(200, "unit", batches=1)[0][0]
    user, item = torch.meshgrid(torch.arange(200), torch.arange(64), indexing="ij")
    batches = _drawn((user.flatten(), item.flatten(), (x.flatten() > 0.4).float()), 128)
    return prepared(Collaborative(200, 64, width), batches, _yes_or_no, lr, optimizer, turn)


@family(
    "anomaly-autoencoder",
    tanh={"act": nn.Tanh},
    deep={"widths": (30, 20, 12, 6)},
    adam={"optimizer": "adam", "lr": 3e-3},
)
def anomaly(
    act: Act = nn.ReLU, widths: tuple[int, ...] = (30, 16, 8), optimizer: str = "adamax", lr: float = 6e-3
) -> Workload:
    """Harmless tumours, each measure from 0 to 1, through a bottleneck to a sigmoid."""
    x, y = _tumours()
    x = x[y == 1]
    sizes, layers = widths + widths[-2::-1], []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), act()]
    model = initialize(nn.Sequential(*layers[:-1], nn.Sigmoid()), "glorot")
    batches = _drawn(((x - x.amin(0)) / (x.amax(0) - x.amin(0)),), 32)
    return prepared(model, batches, lambda m, b: F.l1_loss(m(b[0]), b[0]), lr, optimizer)


class Residual(nn.Module):
    """Batch norm, widen, drop, narrow, beside a shortcut."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm1d(width), nn.Linear(width, 2 * width), act(), nn.Dropout(0.15), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@family("tabular-resnet", deep={"depth": 6}, silu={"act": nn.SiLU}, momentum=MOMENTUM, groups={"groups": True})
def tabular(
    depth: int = 3, act: Act = nn.ReLU, groups: bool = False, optimizer: str = "decayed", lr: float = 2e-3
) -> Workload:
    parts = [nn.Linear(64, 48), *(Residual(48, act) for _ in range(depth)), nn.BatchNorm1d(48), act()]
    workload = prepared(nn.Sequential(*parts, nn.Linear(48, 10)), digits(48), classify, lr, optimizer)
    return grouped(workload) if groups else workload


@family("self-normalizing", deep={"depth": 12}, wide={"width": 96}, adadelta={"optimizer": "adadelta", "lr": 1.0})
def selu(depth: int = 7, width: int = 48, optimizer: str = "nesterov", lr: float = 5e-3) -> Workload:
    model = mlp(depth, nn.SELU, "lecun", width=width)
    parts = [*list(model)[:-1], nn.AlphaDropout(0.05), model[-1]]
    return prepared(nn.Sequential(*parts), digits(), classify, lr, optimizer)


@family("support-vectors", squared={"power": 2}, tanh={"act": nn.Tanh, "scheme": "glorot"}, sgd=SGD)
def margins(
    power: int = 1, act: Act = nn.ReLU, scheme: str = "he", optimizer: str = "nesterov", lr: float = 0.02
) -> Workload:
    """The right class is to lead by a margin."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        said, own = model(batch[0]), batch[1][:, None]
        short = F.relu(1 - said.gather(1, own) + said).scatter(1, own, 0.0)
        return (short**power).mean()

    return prepared(mlp(4, act, scheme, width=56), digits(), loss, lr, optimizer)


@family("rare-class", norm={"norm": nn.BatchNorm1d}, plain={"focus": 0.0}, sgd={"optimizer": "momentum", "lr": 0.1})
def rare(
    norm: type[nn.BatchNorm1d] | None = None, focus: float = 2.0, optimizer: str = "adam", lr: float = 3e-3
) -> Workload:
    """Is it an eight? The last bias starts at the odds; easy pictures count for little."""
    model = mlp(4, nn.ReLU, "he", outputs=1, norm=norm, dropout=0.1)
    nn.init.constant_(model[-1].bias, -2.2)  # type: ignore[arg-type]

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        bare = F.binary_cross_entropy_with_logits(model(batch[0])[:, 0], batch[1], reduction="none")
        return ((1 - torch.exp(-bare)) ** focus * bare).mean()

    return prepared(model, [(x, (y == 8).float()) for x, y in digits(64)], loss, lr, optimizer)


@family(
    "pairwise-ranking", hinge={"hinge": True}, gelu={"act": nn.GELU}, momentum={"optimizer": "momentum", "lr": 0.05}
)
def ranking(hinge: bool = False, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    """Which of two patients does worse."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        score, sign = model(batch[0])[:, 0], (batch[1] - batch[1].T).sign()
        if hinge:
            one, other = torch.triu_indices(len(score), len(score), 1)
            return F.margin_ranking_loss(score[one], score[other], sign[one, other], margin=0.5)
        return F.softplus(-sign * (score[:, None] - score))[sign != 0].mean()

    body = mlp(3, act, inputs=10, outputs=48, width=48, dropout=0.1)
    model = nn.Sequential(*body, act(), nn.Linear(48, 1, bias=False))
    return prepared(model, records(48), loss, lr, optimizer)


@family(
    "triplet-embedding", cosine={"cosine": True}, norm={"norm": nn.LayerNorm}, sgd={"optimizer": "nesterov", "lr": 0.02}
)
def triplets(
    cosine: bool = False, norm: type[nn.LayerNorm] | None = None, optimizer: str = "adam", lr: float = 2e-3
) -> Workload:
    """A digit is to be nearer to another of its class than to one of another class; or their cosines tell it."""
    generator, batches = torch.Generator().manual_seed(9), []
    for x, y in digits(48):
        same = (y[:, None] == y).float().fill_diagonal_(1e-6)
        like, unlike = (
            torch.multinomial(one, 1, generator=generator)[:, 0] for one in (same, (y[:, None] != y).float())
        )
        batches.append((x, x[like], x[unlike]))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        own, like, unlike = model(torch.cat(batch)).chunk(3)
        if not cosine:
            return F.triplet_margin_loss(own, like, unlike)
        sign = torch.ones(len(own))
        return F.cosine_embedding_loss(own, like, sign) + F.cosine_embedding_loss(own, unlike, -sign, 0.2)

    return prepared(mlp(4, nn.ReLU, "he", outputs=16, norm=norm), batches, loss, lr, optimizer)
