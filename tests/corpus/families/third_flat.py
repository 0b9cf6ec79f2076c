"""Families for tables and flat inputs, third round, second part: ensembles, evidence, gates, codes, processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import BATCHES, digits, waves
from tests.corpus.families.family import SGD, family
from tests.corpus.families.third_sequence import OTHER, VOCABULARY, passages, prepared
from tests.corpus.families.third_tables import tumours
from tests.corpus.nets import classify, mlp

Act = type[nn.Module]


class Shared(nn.Module):
    """One matrix for all members of an ensemble; each has its own signs before and scales behind it."""

    def __init__(self, members: int, inputs: int, outputs: int, first: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        signs = torch.randint(2, (members, inputs)) * 2.0 - 1
        self.before = nn.Parameter(signs if first else torch.ones(members, inputs))
        self.behind, self.bias = nn.Parameter(torch.ones(members, outputs)), nn.Parameter(torch.zeros(members, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x * self.before) * self.behind + self.bias


class Ensemble(nn.Module):
    def __init__(self, members: int, depth: int, act: Act) -> None:
        super().__init__()
        self.members, layers = members, []
        for number in range(depth):
            layers += [Shared(members, 48 if number else 64, 48, number == 0), act(), nn.Dropout(0.1)]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(48, 10) for _ in range(members))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x[:, None].expand(-1, self.members, -1))
        return torch.stack([head(y[:, i]) for i, head in enumerate(self.heads)], 1)


@family("batch-ensemble", many={"members": 12}, deep={"depth": 4}, silu={"act": nn.SiLU, "optimizer": "adamw"})
def ensemble(
    members: int = 6, depth: int = 2, act: Act = nn.ReLU, optimizer: str = "decayed", lr: float = 3e-3
) -> Workload:
    """Each member learns on its own; losses are averaged, not what is said."""

    def loss(model: Ensemble, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].repeat_interleave(model.members))

    return prepared(Ensemble(members, depth, act), digits(), loss, lr, optimizer)  # type: ignore[arg-type]


@family("evidential", tanh={"act": nn.Tanh}, wide={"width": 128}, sgd={"optimizer": "nesterov", "lr": 0.1})
def evidential(act: Act = nn.ReLU, width: int = 64, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    """Evidence for each class is the law of a distribution over probabilities; evidence for wrong ones costs."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        right = F.one_hot(batch[1], 10).to(batch[0].dtype)
        law = 1 + F.softplus(model(batch[0]))
        total = law.sum(-1, keepdim=True)
        mean = law / total
        wrong = (right - mean).square() + mean * (1 - mean) / (total + 1)
        return wrong.sum(-1).mean() + 0.01 * ((law - 1) * (1 - right)).sum(-1).mean()

    return prepared(mlp(4, act, "glorot", width=width), digits(), loss, lr, optimizer)


class Tasks(nn.Module):
    """Experts that two tasks share, each by a gate of its own."""

    def __init__(self, experts: int, act: Act) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 40), act(), nn.Linear(40, 32), act()) for _ in range(experts)
        )
        self.gates = nn.ModuleList(nn.Linear(64, experts) for _ in range(2))
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 24), act(), nn.Linear(24, outputs)) for outputs in (10, 1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        said = torch.stack([one(x) for one in self.experts], 1)
        mixed = [(gate(x).softmax(-1)[..., None] * said).sum(1) for gate in self.gates]
        return tuple(tower(one) for tower, one in zip(self.towers, mixed, strict=True))


@family("multi-gate-experts", many={"experts": 6}, elu={"act": nn.ELU}, momentum={"optimizer": "momentum", "lr": 0.05})
def tasks(experts: int = 3, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    """The class of a digit, and whether its left or its right half has more ink."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        named, leaning = model(batch[0])
        left, right = batch[0].reshape(-1, 8, 2, 4).mean((1, 3)).T
        return F.cross_entropy(named, batch[1]) + F.mse_loss(leaning[:, 0], 2 * (left - right))

    return prepared(Tasks(experts, act), digits(), loss, lr, optimizer)


class Routed(nn.Module):
    """The two experts that a router prefers, beside a shortcut; how unevenly it chose is kept for the loss."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.norm, self.router = nn.LayerNorm(width), nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)) for _ in range(experts)
        )
        self.uneven = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        share = self.router(y).softmax(-1)
        best, chosen = share.topk(2)
        best = best / best.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            row, rank = (chosen == number).nonzero(as_tuple=True)
            out = out.index_add(0, row, best[row, rank, None] * expert(y[row]))
        used = F.one_hot(chosen[:, 0], len(self.experts)).to(x.dtype).mean(0)
        self.uneven = len(self.experts) * (used * share.mean(0)).sum()
        return x + out


class Routes(nn.Module):
    def __init__(self, depth: int, experts: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(64, 40), nn.Sequential(nn.LayerNorm(40), nn.Linear(40, 10))
        self.blocks = nn.ModuleList(Routed(40, experts) for _ in range(depth))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        uneven = torch.stack([one.uneven for one in self.blocks])  # type: ignore[misc]
        return self.head(x), uneven.sum()


@family("sparse-experts", deep={"depth": 3}, many={"experts": 8}, momentum={"optimizer": "momentum", "lr": 0.05})
def routes(depth: int = 2, experts: int = 4, optimizer: str = "adamw", lr: float = 3e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        said, uneven = model(batch[0])
        return F.cross_entropy(said, batch[1]) + 0.02 * uneven

    return prepared(Routes(depth, experts), digits(64), loss, lr, optimizer)


class Shapes(nn.Module):
    """A learned code per shape; a network of code and place, which sees both again half-way, tells the ink there."""

    def __init__(self, shapes: int, width: int, act: Act) -> None:
        super().__init__()
        self.codes = nn.Embedding(shapes, 12)
        self.first = nn.Sequential(nn.Linear(14, width), act(), nn.Linear(width, width), act())
        self.second = nn.Sequential(nn.Linear(width + 14, width), act(), nn.Linear(width, 1), nn.Tanh())
        nn.init.normal_(self.codes.weight, std=0.5)

    def forward(self, shape: Tensor, place: Tensor) -> Tensor:
        given = torch.cat([self.codes(shape), place], -1)
        return self.second(torch.cat([self.first(given), given], -1))[:, 0]


@family("shape-codes", wide={"width": 128}, silu={"act": nn.SiLU}, radam={"optimizer": "radam", "lr": 1e-2})
def shapes(width: int = 64, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    x = digits(32, "unit", image=True, batches=1)[0][0]
    generator = torch.Generator().manual_seed(6)
    batches = []
    for _ in range(BATCHES):
        shape = torch.randint(32, (128,), generator=generator)
        row, column = torch.randint(8, (2, 128), generator=generator)
        batches.append((shape, torch.stack([row, column], -1) / 3.5 - 1, 1.6 * x[shape, 0, row, column] - 0.8))

    def loss(model: Shapes, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        kept = model.codes(batch[0]).square().mean()
        return F.l1_loss(model(batch[0], batch[1]), batch[2]) + 1e-3 * kept

    return prepared(Shapes(32, width, act), batches, loss, lr, optimizer)  # type: ignore[arg-type]


class Process(nn.Module):
    """Pairs of time and value are encoded and averaged; a decoder tells mean and deviation at other times."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.encode = mlp(3, act, "glorot", inputs=2, outputs=width, width=width)
        self.decode = mlp(4, act, "glorot", inputs=width + 1, outputs=2, width=width)

    def forward(self, seen: Tensor, value: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encode(torch.stack([seen, value], -1)).mean(1, keepdim=True)
        mean, spread = self.decode(torch.cat([code.expand(-1, asked.shape[1], -1), asked[..., None]], -1)).unbind(-1)
        return mean, 0.1 + 0.9 * F.softplus(spread)


@family("neural-process", wide={"width": 96}, tanh={"act": nn.Tanh}, other=OTHER)
def process(width: int = 48, act: Act = nn.ReLU, lr: float = 3e-3, turn: int = 0) -> Workload:
    generator = torch.Generator().manual_seed(7)
    batches = []
    for x, _ in waves(24):
        order = torch.randperm(40, generator=generator)
        time = (order / 19.5 - 1).expand(len(x), -1)
        batches.append((time[:, :16], x[:, order[:16]], time, x[:, order]))

    def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        mean, spread = model(*batch[:3])
        return F.gaussian_nll_loss(mean, batch[3], spread.square())

    return prepared(Process(width, act), batches, loss, lr, "adam", turn)


class Periodic(nn.Module):
    """Each number as sines and cosines of learned frequencies, and a layer of its own."""

    def __init__(self, columns: int, waves: int, width: int) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.randn(columns, waves) * 0.3)
        self.weight = nn.Parameter(torch.randn(columns, 2 * waves, width) / (2 * waves) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(columns, width))

    def forward(self, x: Tensor) -> Tensor:
        angle = 2 * torch.pi * self.rates * x[..., None]
        found = torch.cat([angle.cos(), angle.sin()], -1)
        return F.relu((found[..., None, :] @ self.weight)[..., 0, :] + self.bias).flatten(1)


@family("periodic-numbers", wide={"width": 96}, gelu={"act": nn.GELU}, sgd=SGD)
def periodic(width: int = 48, act: Act = nn.ReLU, optimizer: str = "decayed", lr: float = 3e-3) -> Workload:
    body = mlp(3, act, inputs=180, outputs=1, width=width, dropout=0.1)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch[0])[:, 0], batch[1])

    return prepared(nn.Sequential(Periodic(30, 8, 6), *body), tumours(), loss, lr, optimizer)


class Triples(nn.Module):
    """How likely a word stands some steps behind another: a network over two embeddings and one of the distance."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.entities, self.relations = nn.Embedding(VOCABULARY, width), nn.Embedding(4, width)
        self.body = nn.Sequential(
            nn.Linear(3 * width, 64), act(), nn.Linear(64, 32), act(), nn.Linear(32, 1, bias=False)
        )
        for one in (self.entities, self.relations):
            nn.init.normal_(one.weight, std=0.3)

    def forward(self, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
        return self.body(torch.cat([self.entities(head), self.relations(relation), self.entities(tail)], -1))[..., 0]


@family("entity-triples", wide={"width": 48}, tanh={"act": nn.Tanh}, adagrad={"optimizer": "adagrad", "lr": 0.05})
def triples(width: int = 24, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 1e-2) -> Workload:
    """What occurs is to score higher, by a margin, than the same with another word at random."""
    generator = torch.Generator().manual_seed(8)
    batches = []
    for tokens, _, _ in passages(128, 5, 5):
        relation = torch.randint(4, (128,), generator=generator)
        tail = tokens[torch.arange(128), relation + 1]
        wrong = torch.randint(2, VOCABULARY, (128,), generator=generator)
        batches.append((tokens[:, 0], relation, tail, wrong))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        head, relation, tail, wrong = batch
        return F.relu(1 - model(head, relation, tail) + model(head, relation, wrong)).mean()

    return prepared(Triples(width, act), batches, loss, lr, optimizer)


class Tuned(nn.Module):
    """A backbone trained before on another task, and a new head. held: the backbone stays as it is, its norms too."""

    def __init__(self, backbone: nn.Module, held: bool) -> None:
        super().__init__()
        self.backbone, self.held = backbone.requires_grad_(not held), held
        self.head = nn.Sequential(
            nn.Linear(40, 40), nn.ReLU(), nn.Dropout(0.2), nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 10)
        )

    def train(self, mode: bool = True) -> Tuned:
        super().train(mode)
        if self.held:
            self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def _pretrained(width: int, steps: int = 60) -> nn.Module:
    """The encoder of a denoising autoencoder."""
    backbone = nn.Sequential(
        nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 40), nn.BatchNorm1d(40), nn.ReLU()
    )
    model = nn.Sequential(*backbone, nn.Linear(40, 64))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for x, _ in digits(64, batches=steps):
        optimizer.zero_grad()
        F.mse_loss(model(x + 0.3 * torch.randn_like(x)), x).backward()
        optimizer.step()
    return backbone


@family("fine-tuning", wide={"width": 96}, thawed={"held": False}, momentum={"optimizer": "momentum", "lr": 0.05})
def tuned(width: int = 56, held: bool = True, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    """A trained head on a frozen backbone; thawed, the backbone has a tenth of the head's rate."""
    model = Tuned(_pretrained(width), held)
    workload = prepared(model.head, digits(), classify, lr, optimizer)
    workload.model = model
    if not held:
        assert workload.optimizer is not None
        workload.optimizer.add_param_group({"params": list(model.backbone.parameters()), "lr": lr / 10})
    return workload


class Kernels(nn.Module):
    """Random convolutions of several dilations that are never trained: their greatest values and how often positive."""

    def __init__(self, count: int) -> None:
        super().__init__()
        kernels = [nn.Conv1d(1, count, 7, padding=3 * pace, dilation=pace) for pace in (1, 2, 4)]
        self.fixed = nn.ModuleList(kernels).requires_grad_(False)
        for one in kernels:
            nn.init.normal_(one.weight)
            one.weight -= one.weight.mean(-1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        said = torch.cat([one(x[:, None]) for one in self.fixed], 1)
        return torch.cat([said.amax(-1), 4 * (said > 0).to(x.dtype).mean(-1)], -1)


@family("random-kernels", many={"count": 64}, tanh={"act": nn.Tanh}, sgd={"optimizer": "nesterov", "lr": 0.02})
def kernels(count: int = 32, act: Act = nn.ReLU, optimizer: str = "decayed", lr: float = 4e-3) -> Workload:
    body = mlp(3, act, inputs=6 * count, width=64, norm=nn.BatchNorm1d)
    model = nn.Sequential(Kernels(count), nn.BatchNorm1d(6 * count), *body)
    free = nn.ParameterList(one for one in model.parameters() if one.requires_grad)
    workload = prepared(free, waves(), classify, lr, optimizer)
    workload.model = model
    return workload
