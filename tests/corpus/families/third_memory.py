"""Families for sequences, third round, second part: memories, hierarchies, forecasts in stacks, newer attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import CHARACTERS, characters, waves, words
from tests.corpus.families.family import family
from tests.corpus.families.third_sequence import OTHER, VOCABULARY, Kind, grouped, halves, passages, prepared, scheduled
from tests.corpus.nets import classify, next_token

Act = type[nn.Module]


class Stack(nn.Module):
    """One block of a doubly residual forecast: what it explains of the past, and what it adds to the future."""

    def __init__(self, width: int, layers: int, last: bool) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for number in range(layers):
            parts += [nn.Linear(width if number else 32, width), nn.ReLU()]
        self.body = nn.Sequential(*parts)
        self.back = None if last else nn.Sequential(nn.Linear(width, 6), nn.Linear(6, 32, bias=False))
        self.fore = nn.Sequential(nn.Linear(width, 6), nn.Linear(6, 8, bias=False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(x)
        return x if self.back is None else x - self.back(y), self.fore(y)


class Stacks(nn.Module):
    def __init__(self, depth: int, width: int, layers: int) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(Stack(width, layers, i == depth - 1) for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        total = x.new_zeros(())
        for stack in self.stacks:
            x, more = stack(x)
            total = total + more
        return total


@family("stacked-forecast", deep={"depth": 5}, layers={"layers": 4}, adamax={"optimizer": "adamax", "lr": 6e-3})
def stacks(depth: int = 3, layers: int = 2, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    model = Stacks(depth, 64, layers)
    return prepared(model, halves(64), lambda m, b: F.smooth_l1_loss(m(b[0]), b[1]), lr, optimizer)


class Attentive(nn.Module):
    """A recurrent network both ways, and a mean of its outputs with learned weights."""

    def __init__(self, inputs: int, width: int, kind: Kind) -> None:
        super().__init__()
        self.rnn = kind(inputs, width, batch_first=True, bidirectional=True)
        self.score, self.query = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, 1, bias=False)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        said, _ = self.rnn(x)
        weight = self.query(torch.tanh(self.score(said))).masked_fill(hidden[..., None], -1e4).softmax(1)
        return (weight * said).sum(1)


class Hierarchy(nn.Module):
    """Words to sentences to a text, each by attention."""

    def __init__(self, width: int, kind: Kind) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 48, padding_idx=0)
        self.words, self.sentences = Attentive(48, width, kind), Attentive(2 * width, width, kind)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        size, length = tokens.shape
        parts = tokens.reshape(size * length // 8, 8)
        said = self.words(self.embed(parts), parts == 0).reshape(size, length // 8, -1)
        return self.head(self.sentences(said, tokens.reshape(size, -1, 8)[..., 0] == 0))


@family(
    "hierarchical-attention", lstm={"kind": nn.LSTM}, wide={"width": 64}, adadelta={"optimizer": "adadelta", "lr": 1.0}
)
def hierarchy(width: int = 32, kind: Kind = nn.GRU, optimizer: str = "adam", lr: float = 6e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[2])

    return prepared(Hierarchy(width, kind), passages(24), loss, lr, optimizer)


class Memories(nn.Module):
    """Several looks at the words before, each at another embedding of them; then the next word."""

    def __init__(self, vocabulary: int, hops: int, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(vocabulary, width) for _ in range(hops + 1))
        self.ages = nn.Embedding(32, width)
        self.between = nn.ModuleList(nn.Linear(width, width) for _ in range(hops))
        self.out = nn.Linear(width, vocabulary)
        for one in (*self.tables, self.ages):
            nn.init.normal_(one.weight, std=0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        asked = self.tables[0](tokens[:, -1])
        age = self.ages(torch.arange(tokens.shape[1] - 1))
        for number, between in enumerate(self.between):
            key, value = (self.tables[number + i](tokens[:, :-1]) + age for i in range(2))
            weight = (key * asked[:, None]).sum(-1).softmax(-1)
            asked = F.relu(between(asked)) + (weight[..., None] * value).sum(1)
        return self.out(asked)


@family("memory-network", hops={"hops": 4}, wide={"width": 64}, radam={"optimizer": "radam", "lr": 2e-2})
def memories(hops: int = 2, width: int = 32, optimizer: str = "adam", lr: float = 1e-2) -> Workload:
    batches, vocabulary = words(32, 13)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(model(batch[:, :-1]), batch[:, -1])

    return prepared(Memories(vocabulary, hops, width), batches, loss, lr, optimizer)


class Corrects(nn.Module):
    """A matrix of memory that is corrected at each step by what it got wrong, read by the query."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.into, self.rate = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, heads)
        self.after, self.out = nn.GroupNorm(heads, width), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        size, length, width = x.shape
        y = self.norm(x)
        q, k, v = F.silu(self.into(y)).reshape(size, length, self.heads, -1).chunk(3, -1)
        k, rate = F.normalize(k, dim=-1), torch.sigmoid(self.rate(y))[..., None]
        q, memory, said = F.normalize(q, dim=-1), x.new_zeros(size, self.heads, q.shape[-1], q.shape[-1]), []
        for t in range(length):
            key = k[:, t, :, :, None]
            memory = memory + (rate[:, t] * (v[:, t] - (memory @ key)[..., 0]))[..., None] * key.mT
            said.append((memory @ q[:, t, :, :, None])[..., 0])
        out = self.after(torch.stack(said, 1).reshape(size * length, width)).reshape(size, length, width)
        return x + self.out(out)


class Expands(nn.Module):
    """A gated perceptron behind a norm, beside the stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(self.norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * value)


def _language(
    parts: Sequence[nn.Module], width: int, lr: float, optimizer: str, turn: int = 0, length: int = 33
) -> Workload:
    model = nn.Sequential(nn.Embedding(CHARACTERS, width), *parts, nn.LayerNorm(width), nn.Linear(width, CHARACTERS))
    return prepared(model, characters(8, length), next_token, lr, optimizer, turn)


@family("delta-rule", heads={"heads": 4}, wide={"width": 64}, decayed={"optimizer": "decayed", "turn": 31})
def delta_rule(heads: int = 2, width: int = 32, optimizer: str = "adam", lr: float = 4e-3, turn: int = 0) -> Workload:
    parts = [Corrects(width, heads), Expands(width), Corrects(width, heads), Expands(width)]
    return _language(parts, width, lr, optimizer, turn, 13)


class Differs(nn.Module):
    """The difference of two attentions cancels what both look at."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.heads, self.norm, self.start = heads, nn.RMSNorm(width), 0.8 - 0.6 * 0.74**depth
        self.into, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.after, self.blend = nn.RMSNorm(width // heads), nn.Parameter(torch.randn(4, width // heads // 2) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        size, length, width = x.shape
        q, k, v = self.into(self.norm(x)).reshape(size, length, self.heads, -1).transpose(1, 2).chunk(3, -1)
        ahead = torch.ones(length, length, dtype=torch.bool).triu(1)
        seen = []
        for one, other in zip(q.chunk(2, -1), k.chunk(2, -1), strict=True):
            score = one @ other.transpose(-1, -2) / one.shape[-1] ** 0.5
            seen.append(score.masked_fill(ahead, -torch.inf).softmax(-1))
        a, b, c, d = self.blend
        share = (a * b).sum().exp() - (c * d).sum().exp() + self.start
        said = (1 - self.start) * self.after((seen[0] - share * seen[1]) @ v)
        return x + self.out(said.transpose(1, 2).reshape(size, length, width))


@family("differential-attention", deep={"depth": 3}, heads={"heads": 4}, sgd={"optimizer": "nesterov", "lr": 0.05})
def differential(depth: int = 2, heads: int = 2, optimizer: str = "decayed", lr: float = 3e-3) -> Workload:
    parts: list[nn.Module] = []
    for number in range(depth):
        parts += [Differs(48, heads, number), Expands(48)]
    return _language(parts, 48, lr, optimizer)


class Relative(nn.Module):
    """Post-norm attention whose keys hold a learned vector for each distance, and a perceptron."""

    def __init__(self, width: int, heads: int, act: Act) -> None:
        super().__init__()
        self.heads, self.into, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.distances = nn.Embedding(32, width // heads)
        self.first, self.second, self.drop = nn.LayerNorm(width), nn.LayerNorm(width), nn.Dropout(0.1)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), act(), nn.Linear(3 * width, width))
        nn.init.normal_(self.distances.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        size, length, width = x.shape
        q, k, v = self.into(x).reshape(size, length, self.heads, -1).transpose(1, 2).chunk(3, -1)
        place = torch.arange(length)
        far = place[:, None] - place
        near = torch.einsum("bhid,ijd->bhij", q, self.distances(far.clamp(0, 31)))
        score = (q @ k.transpose(-1, -2) + near) / q.shape[-1] ** 0.5
        weight = self.drop(score.masked_fill(far < 0, -torch.inf).softmax(-1))
        x = self.first(x + self.drop(self.out((weight @ v).transpose(1, 2).reshape(size, length, width))))
        return self.second(x + self.drop(self.mlp(x)))


@family(
    "relative-positions",
    deep={"depth": 3},
    gelu={"act": nn.GELU},
    warm={"warm": True, "turn": 31},
    groups={"groups": True},
)
def relative(depth: int = 2, act: Act = nn.ReLU, warm: bool = False, groups: bool = False, turn: int = 0) -> Workload:
    parts = [Relative(48, 4, act) for _ in range(depth)]
    workload = _language(parts, 48, 2e-3, "decayed" if groups else "attention", turn)
    if groups:
        grouped(workload)
    return scheduled(workload, lambda step: min((step + 1) / 15, (15 / (step + 1)) ** 0.5)) if warm else workload


class Matrix(nn.Module):
    """A matrix memory with exponential gates, in its parallel form, inside a block that widens first."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.norm, self.up = heads, nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.conv = nn.Conv1d(2 * width, 2 * width, 4, groups=2 * width)
        self.query, self.key, self.value = (nn.Linear(2 * width, width) for _ in range(3))
        self.gates, self.after, self.down = (
            nn.Linear(width, 2 * heads),
            nn.GroupNorm(heads, width),
            nn.Linear(width, width),
        )
        with torch.no_grad():
            self.gates.bias[heads:] = torch.linspace(3, 6, heads)

    def forward(self, x: Tensor) -> Tensor:
        size, length, width = x.shape
        normed = self.norm(x)
        wide, gate = self.up(normed).split([2 * width, width], -1)
        mixed = F.silu(self.conv(F.pad(wide.transpose(1, 2), (3, 0))).transpose(1, 2))
        shape = (size, length, self.heads, width // self.heads)
        q, k = (one(mixed).reshape(shape).transpose(1, 2) for one in (self.query, self.key))
        v = self.value(wide).reshape(shape).transpose(1, 2)
        write, keep = self.gates(normed).transpose(1, 2).chunk(2, 1)
        kept = F.logsigmoid(keep).cumsum(-1)
        law = (kept[..., :, None] - kept[..., None, :] + write[..., None, :]).masked_fill(
            torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf
        )
        most = law.amax(-1, keepdim=True)
        weight = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 * (law - most).exp()
        said = weight @ v / torch.maximum(weight.sum(-1, keepdim=True).abs(), (-most).exp())
        out = self.after(said.transpose(1, 2).reshape(size * length, width)).reshape(size, length, width)
        return x + self.down(out * F.silu(gate))


@family("matrix-memory", deep={"depth": 3}, wide={"width": 64}, nadam={"optimizer": "nadam", "turn": 31})
def matrix(depth: int = 2, width: int = 40, optimizer: str = "adamw", lr: float = 3e-3, turn: int = 0) -> Workload:
    return _language([Matrix(width) for _ in range(depth)], width, lr, optimizer, turn)


class Sandwich(nn.Module):
    """Half a perceptron, attention, a gated depthwise convolution, half a perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.halves = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.look = nn.MultiheadAttention(width, 4, batch_first=True)
        self.conv = nn.Sequential(
            nn.Conv1d(width, 2 * width, 1), nn.GLU(1), nn.Conv1d(width, width, 7, padding=3, groups=width),
            nn.BatchNorm1d(width), nn.SiLU(), nn.Conv1d(width, width, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.halves[0](x) / 2
        y = self.norms[0](x)
        x = x + self.look(y, y, y, need_weights=False)[0]
        x = x + self.conv(self.norms[1](x).transpose(1, 2)).transpose(1, 2)
        return self.norms[2](x + self.halves[1](x) / 2)


class Frames(nn.Module):
    """A wave as frames of two values each, with what surrounds them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, width, 5, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv(x[:, None])).transpose(1, 2)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


@family("conformer", deep={"depth": 2}, wide={"width": 48}, other=OTHER)
def conformer(depth: int = 1, width: int = 32, lr: float = 4e-3, turn: int = 0) -> Workload:
    parts = [Frames(width), *(Sandwich(width) for _ in range(depth)), Mean(), nn.Linear(width, 10)]
    return prepared(nn.Sequential(*parts), waves(16), classify, lr, "decayed", turn)
