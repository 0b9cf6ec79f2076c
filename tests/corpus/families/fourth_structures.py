"""Families for graphs, sets and trees, fourth round, and five tiny networks of the transformers package."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import BATCHES, digits, waves
from tests.corpus.families.family import FAMILIES, Family, family
from tests.corpus.families.fourth_sequences import _sounds, clipped, rows_of
from tests.corpus.families.fresh_hub import _workload
from tests.corpus.families.third_hub import COMMON, _texts
from tests.corpus.families.third_sequence import OTHER, prepared
from tests.corpus.healthy_transformers import SMALL, _causal_loss
from tests.corpus.nets import classify, initialize, mlp

Act = type[nn.Module]
Tensors = tuple[Tensor, ...]


class Graphormer(nn.Module):
    """Attention among all nodes of a graph, biased by how far apart they are; nodes know only their degree."""

    def __init__(self, width: int, depth: int, heads: int = 4) -> None:
        super().__init__()
        self.degree, self.far = nn.Embedding(12, width), nn.Embedding(6, heads)
        self.graph = nn.Parameter(torch.randn(width))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 1)

    def forward(self, degree: Tensor, far: Tensor) -> Tensor:
        x = torch.cat([self.graph.expand(len(degree), 1, -1), self.degree(degree)], 1)
        bias = F.pad(self.far(far).permute(0, 3, 1, 2), (1, 0, 1, 0)).flatten(0, 1)
        return self.head(self.body(x, mask=bias)[:, 0])[:, 0]


def _networks(size: int, nodes: int = 12) -> list[Tensors]:
    """Random graphs: degrees, steps between nodes up to 5, and a standardized logarithm of their triangles."""
    draw = torch.Generator().manual_seed(51)
    dense = 0.1 + 0.4 * torch.rand(BATCHES * size, 1, 1, generator=draw)
    near = (torch.rand(BATCHES * size, nodes, nodes, generator=draw) < dense).float().triu(1)
    near = near + near.mT
    far, reached = torch.full(near.shape, 5), torch.eye(nodes).expand_as(near)
    for steps in range(5):
        far = torch.where((reached > 0) & (far == 5), steps, far)
        reached = reached @ (near + torch.eye(nodes))
    count = (near @ near @ near).diagonal(0, 1, 2).sum(-1).div(6).log1p()
    return rows_of(near.sum(-1).long(), far, (count - count.mean()) / count.std(), size=size)


@family("graphormer", deep={"depth": 3}, wide={"width": 64}, adam={"optimizer": "adam", "lr": 2e-3})
def graphormer(width: int = 32, depth: int = 2, optimizer: str = "decayed", lr: float = 2e-3) -> Workload:
    return prepared(Graphormer(width, depth), _networks(32), lambda m, b: F.l1_loss(m(b[0], b[1]), b[2]), lr, optimizer)


class Chebyshev(nn.Module):
    """A filter on a square grid's graph: a sum of polynomials of its Laplacian, each with weights of its own."""

    def __init__(self, side: int, inputs: int, outputs: int, order: int) -> None:
        super().__init__()
        row, column = torch.arange(side * side) // side, torch.arange(side * side) % side
        near = ((row[:, None] - row).abs() + (column[:, None] - column).abs() == 1).float()
        root = near.sum(-1).rsqrt()
        self.register_buffer("laplacian", -root[:, None] * near * root)
        self.order, self.linear = order, nn.Linear(inputs * order, outputs)

    def forward(self, x: Tensor) -> Tensor:
        terms = [x, self.laplacian @ x]
        for _ in range(self.order - 2):
            terms.append(2 * self.laplacian @ terms[-1] - terms[-2])
        return self.linear(torch.cat(terms, -1))


class ChebyshevNet(nn.Module):
    def __init__(self, width: int, order: int, act: Act) -> None:
        super().__init__()
        self.first, self.second = Chebyshev(8, 1, width, order), Chebyshev(4, width, 2 * width, order)
        self.act, self.drop = act(), nn.Dropout(0.3)
        self.dense, self.head = nn.Linear(8 * width, 48), nn.Linear(48, 10)
        initialize(self, "glorot")

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x[..., None])).unflatten(1, (4, 2, 4, 2)).amax((2, 4)).flatten(1, 2)
        x = self.act(self.second(x)).unflatten(1, (2, 2, 2, 2)).amax((2, 4)).flatten(1)
        return self.head(self.drop(self.act(self.dense(x))))


@family("chebyshev-graph", short={"order": 3}, elu={"act": nn.ELU}, momentum={"optimizer": "nesterov", "lr": 0.02})
def chebyshev(
    width: int = 16, order: int = 5, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3
) -> Workload:
    return prepared(ChebyshevNet(width, order, act), digits(), classify, lr, optimizer)


class DirectedBonds(nn.Module):
    """Messages live on directed bonds; a bond hears from those that arrive at its start, but not from its reverse."""

    def __init__(self, width: int, steps: int, act: Act) -> None:
        super().__init__()
        self.steps, self.act = steps, act()
        self.into, self.again = nn.Linear(8, width, bias=False), nn.Linear(width, width, bias=False)
        self.atom = nn.Linear(5 + width, width)
        self.head = nn.Sequential(nn.Linear(width, width), act(), nn.Linear(width, 1))

    def forward(self, atoms: Tensor, bonds: Tensor, kinds: Tensor, owner: Tensor, count: int) -> Tensor:
        start, end = bonds
        x, given = F.one_hot(atoms, 5).float(), F.one_hot(kinds, 3).float()
        first = self.into(torch.cat([x[start], given], -1))
        message = self.act(first)
        back = torch.arange(len(start)).reshape(2, -1).flip(0).flatten()
        empty = x.new_zeros(len(x), message.shape[-1])
        for _ in range(self.steps):
            heard = empty.index_add(0, end, message)[start] - message[back]
            message = self.act(first + self.again(heard))
        y = self.act(self.atom(torch.cat([x, empty.index_add(0, end, message)], -1)))
        return self.head(y.new_zeros(count, y.shape[-1]).index_add(0, owner, y) / 8)[:, 0]


def _molecules(size: int) -> list[tuple[Any, ...]]:
    """Trees of 6 to 11 atoms; atoms and bonds add to what is asked, which is about standardized."""
    draw = torch.Generator().manual_seed(52)
    atom, bond = torch.randn(5, generator=draw), torch.randn(5, 5, 3, generator=draw)
    out = []
    for _ in range(BATCHES):
        sizes = torch.randint(6, 12, (size,), generator=draw)
        owner = torch.arange(size).repeat_interleave(sizes)
        place = torch.arange(len(owner)) - (sizes.cumsum(0) - sizes)[owner]
        child = place.nonzero()[:, 0]
        parent = child - 1 - (torch.rand(len(child), generator=draw) * place[child].clamp(max=3)).long()
        atoms = torch.randint(5, owner.shape, generator=draw)
        kinds = torch.randint(3, child.shape, generator=draw)
        value = torch.zeros(size).index_add(0, owner, atom[atoms])
        value = value.index_add(0, owner[child], bond[atoms[parent], atoms[child], kinds])
        bonds = torch.stack([torch.cat([parent, child]), torch.cat([child, parent])])
        out.append((atoms, bonds, kinds.repeat(2), owner, size, value))
    every = torch.cat([one[-1] for one in out])
    return [(*one[:-1], (one[-1] - every.mean()) / every.std()) for one in out]


@family("directed-bonds", long={"steps": 4}, silu={"act": nn.SiLU}, wide={"width": 80, "lr": 4e-3})
def directed_bonds(width: int = 48, steps: int = 2, act: Act = nn.ReLU, lr: float = 6e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Any, ...]) -> Tensor:
        return F.smooth_l1_loss(model(*batch[:-1]), batch[-1])

    return prepared(DirectedBonds(width, steps, act), _molecules(64), loss, lr, "adam")


class Particles(nn.Module):
    """Moves particles along the lines between them, by weights that know only distances and charges."""

    def __init__(self, width: int, depth: int, act: Act) -> None:
        super().__init__()
        self.embed = nn.Linear(2, width)
        self.edges = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * width + 2, width), act(), nn.Linear(width, width), act()) for _ in range(depth)
        )
        self.moves = nn.ModuleList(mlp(2, act, inputs=width, width=width, outputs=1) for _ in range(depth))
        self.speeds = nn.ModuleList(mlp(2, act, inputs=width, width=width, outputs=1) for _ in range(depth))
        self.nodes = nn.ModuleList(mlp(2, act, inputs=2 * width, width=width, outputs=width) for _ in range(depth - 1))
        for one in self.moves:
            nn.init.xavier_uniform_(one[-1].weight, gain=0.1)  # type: ignore[index, arg-type]

    def forward(self, place: Tensor, speed: Tensor, charge: Tensor) -> Tensor:
        x = self.embed(torch.stack([speed.norm(dim=-1), charge], -1))
        pull = (charge[:, :, None] * charge[:, None])[..., None]
        for number, (edge, move, push) in enumerate(zip(self.edges, self.moves, self.speeds, strict=True)):
            apart = place[:, :, None] - place[:, None]
            ends = [x[:, :, None].expand(-1, -1, x.shape[1], -1), x[:, None].expand(-1, x.shape[1], -1, -1)]
            said = edge(torch.cat([*ends, apart.square().sum(-1, keepdim=True), pull], -1))
            place = place + (apart * move(said)).mean(2) + push(x) * speed
            if number < len(self.nodes):
                x = x + self.nodes[number](torch.cat([x, said.sum(2)], -1))
        return place


def _bodies(size: int) -> list[Tensors]:
    """Five charges in space, their speeds, and where they are a second later."""
    draw = torch.Generator().manual_seed(53)
    place, speed = torch.randn(2, BATCHES * size, 5, 3, generator=draw).unbind()
    charge = torch.randint(2, (BATCHES * size, 5), generator=draw) * 2.0 - 1
    pull = (charge[:, :, None] * charge[:, None])[..., None]
    now, pace = place, speed
    for _ in range(20):
        apart = now[:, :, None] - now[:, None]
        force = (pull * apart / (apart.square().sum(-1, keepdim=True) + 0.5) ** 1.5).sum(2)
        pace = pace + 0.05 * force
        now = now + 0.05 * pace
    return rows_of(place, speed, charge, now, size=size)


@family("equivariant-particles", deep={"depth": 4}, relu={"act": nn.ReLU}, adamw={"optimizer": "decayed", "lr": 5e-3})
def particles(depth: int = 2, act: Act = nn.SiLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    return prepared(
        Particles(24, depth, act), _bodies(32), lambda m, b: F.mse_loss(m(*b[:3]), b[3]), lr, optimizer
    )  # fmt: skip


class Folding(nn.Module):
    """A code of a set of points, and a sheet that is folded twice by that code into the same set."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv1d(2, width, 1), nn.BatchNorm1d(width), act(), nn.Conv1d(width, 2 * width, 1),
            nn.BatchNorm1d(2 * width), act(), nn.Conv1d(2 * width, width, 1), nn.AdaptiveMaxPool1d(1), nn.Flatten(),
        )  # fmt: skip
        self.folds = nn.ModuleList(mlp(3, act, inputs=width + 2, width=width, outputs=2) for _ in range(2))
        side = torch.linspace(-1, 1, 6)
        self.register_buffer("sheet", torch.cartesian_prod(side, side))

    def forward(self, points: Tensor) -> Tensor:
        code = self.encode(points.mT)[:, None].expand(-1, len(self.sheet), -1)
        at = self.sheet.expand(len(points), -1, -1)
        for fold in self.folds:
            at = fold(torch.cat([code, at], -1))
        return at


def _outlines(size: int, points: int = 40) -> list[Tensor]:
    """Points on turned ellipses, crosses, rectangles and spirals."""
    draw = torch.Generator().manual_seed(54)
    count = BATCHES * size
    t = torch.rand(count, points, generator=draw)
    turn, flat = torch.rand(2, count, 1, generator=draw).unbind()
    angle, side = 2 * torch.pi * t, (4 * t).floor()
    along = 2 * (4 * t - side) - 1
    ends = torch.where(side < 2, 1.0, -1.0)
    straight = torch.where(side % 2 == 0, along, ends), torch.where(side % 2 == 0, ends, along)
    cross = torch.where(side < 2, 2 * (2 * t % 1) - 1, 0.0), torch.where(side < 2, 0.0, 2 * (2 * t % 1) - 1)
    kinds = [(angle.cos(), angle.sin()), straight, cross, (t * (2 * angle).cos(), t * (2 * angle).sin())]
    kind = torch.randint(4, (count,), generator=draw)
    x, y = (torch.stack([one[i] for one in kinds])[kind, torch.arange(count)] for i in range(2))
    y = (0.4 + 0.6 * flat) * y
    a = 2 * torch.pi * turn
    return list(torch.stack([a.cos() * x - a.sin() * y, a.sin() * x + a.cos() * y], -1).split(size))


@family("folding-points", wide={"width": 64}, leaky={"act": nn.LeakyReLU}, adamw={"optimizer": "adamw", "lr": 2e-3})
def folding(width: int = 40, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    """Each point's distance to the nearest of the other set, both ways."""

    def loss(model: nn.Module, points: Tensor) -> Tensor:
        far = (model(points)[:, :, None] - points[:, None]).square().sum(-1)
        return far.amin(1).mean() + far.amin(2).mean()

    return prepared(Folding(width, act), _outlines(24), loss, lr, optimizer)


class Trees(nn.Module):
    """Two children's memories become their parent's, each kept by a gate of its own; every node is judged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.leaf, self.inner = nn.Embedding(4, 2 * width), nn.Embedding(4, width)
        self.gates, self.head = nn.Linear(3 * width, 5 * width), nn.Linear(width, 4)
        with torch.no_grad():
            self.gates.bias[width : 3 * width] = 1.0

    def forward(self, leaves: Tensor, *inner: Tensor) -> Tensor:
        hidden, cell = self.leaf(leaves).tanh().chunk(2, -1)
        said = []
        for ops in inner:
            left, right = hidden[:, ::2], hidden[:, 1::2]
            gates = self.gates(torch.cat([left, right, self.inner(ops)], -1))
            put, first, second, show, new = gates.chunk(5, -1)
            cell = torch.sigmoid(first) * cell[:, ::2] + torch.sigmoid(second) * cell[:, 1::2]
            cell = cell + torch.sigmoid(put) * torch.tanh(new)
            hidden = torch.sigmoid(show) * torch.tanh(cell)
            said.append(self.head(hidden))
        return torch.cat(said, 1)


def _formulas(size: int, depth: int = 3) -> list[Tensors]:
    """Numbers from 0 to 3, what joins them (less, more, sum and difference modulo 4), and what each joint is."""
    draw = torch.Generator().manual_seed(55)
    now = torch.randint(4, (BATCHES * size, 2**depth), generator=draw)
    parts, values = [now], []
    for level in reversed(range(depth)):
        op = torch.randint(4, (BATCHES * size, 2**level), generator=draw)
        left, right = now[:, ::2], now[:, 1::2]
        joined = torch.stack([left.minimum(right), left.maximum(right), (left + right) % 4, (left - right) % 4])
        now = joined.gather(0, op[None])[0]
        parts.append(op)
        values.append(now)
    return rows_of(*parts, torch.cat(values, 1), size=size)


@family("tree-lstm", wide={"width": 64}, adagrad={"optimizer": "adagrad", "lr": 0.05}, other=OTHER)
def trees(width: int = 32, optimizer: str = "adam", lr: float = 8e-3, turn: int = 0) -> Workload:
    def loss(model: nn.Module, batch: Tensors) -> Tensor:
        return F.cross_entropy(model(*batch[:-1]).flatten(0, 1), batch[-1].flatten())

    return clipped(prepared(Trees(width), _formulas(32), loss, lr, optimizer, turn), 5.0)


def _controlled(size: int, length: int = 7) -> list[Tensors]:
    """A mass drawn to the middle by controllers of unequal strength: states, actions, rewards, what is yet to come."""
    draw = torch.Generator().manual_seed(57)
    state, strength = torch.randn(BATCHES * size, 2, generator=draw), torch.rand(BATCHES * size, 1, generator=draw)
    states, actions, rewards = [], [], []
    for _ in range(length):
        noise = 0.1 * torch.randn(state.shape[0], 1, generator=draw)
        action = torch.tanh(-2 * strength * state[:, :1] - strength * state[:, 1:] + noise)
        states.append(state)
        actions.append(action)
        rewards.append(-state.norm(dim=-1, keepdim=True) / length)
        speed = state[:, 1:] + 0.3 * action
        state = torch.cat([state[:, :1] + 0.3 * speed, speed], -1)
    reward = torch.stack(rewards, 1)
    ahead = reward.flip(1).cumsum(1).flip(1)
    return rows_of(torch.stack(states, 1), torch.stack(actions, 1), reward, ahead, size=size)


def _decisions(**more: Any) -> Workload:
    def loss(model: nn.Module, batch: Tensors) -> Tensor:
        states, actions, rewards, ahead = batch
        steps = torch.arange(states.shape[1]).expand(states.shape[:2])
        said = model(states=states, actions=actions, rewards=rewards, returns_to_go=ahead, timesteps=steps,
                     attention_mask=torch.ones_like(steps))  # fmt: skip
        later = F.mse_loss(said.state_preds[:, :-1], states[:, 1:]) + F.mse_loss(
            said.return_preds[:, :-1], ahead[:, 1:]
        )
        return F.mse_loss(said.action_preds, actions) + 0.1 * later

    return _workload("DecisionTransformerModel", _controlled(16), loss, state_dim=2, act_dim=1, max_ep_len=8,
                     bos_token_id=None, eos_token_id=None, **more)  # fmt: skip


def _spectra(**more: Any) -> Workload:
    """Eight kinds of sounds by their standardized spectrograms, time first."""
    window, batches = torch.hann_window(64), []
    for x, y in _sounds(12):
        power = torch.stft(x, 64, 16, window=window, return_complex=True).abs().square()
        batches.append(((torch.log(power[:, :32, :32] + 1e-2).mT + 0.5) / 2.5, y))

    def loss(model: nn.Module, batch: Tensors) -> Tensor:
        return model(input_values=batch[0], labels=batch[1]).loss

    return _workload("ASTForAudioClassification", batches, loss, num_labels=8, num_mel_bins=32, max_length=32, **more)


def _likely(**more: Any) -> Workload:
    """How likely the next eight values are, under a law of heavy tails."""
    batches = [x for x, _ in waves(16)]
    time = (torch.arange(40) / 20 - 1)[:, None]

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        past, when, seen = x[:, 8:32], time.expand(len(x), -1, -1), torch.ones(len(x), 24)
        return model(past_values=past, past_time_features=when[:, 8:32], past_observed_mask=seen,
                     future_values=x[:, 32:], future_time_features=when[:, 32:]).loss  # fmt: skip

    return _workload("TimeSeriesTransformerForPrediction", batches, loss, prediction_length=8, context_length=20,
                     lags_sequence=[1, 2, 4], num_time_features=1, **more)  # fmt: skip


def _proteins(**more: Any) -> Workload:
    """Chains of 20 kinds; each link's state, one of three, is what it and its four neighbours are inclined to."""
    draw = torch.Generator().manual_seed(58)
    chain = torch.randint(4, 24, (BATCHES * 16, 24), generator=draw)
    state = F.avg_pool1d(torch.randn(24, 3, generator=draw)[chain].mT, 5, 1, 2).argmax(1)

    def loss(model: nn.Module, batch: Tensors) -> Tensor:
        return model(input_ids=batch[0], labels=batch[1]).loss

    return _workload("EsmForTokenClassification", rows_of(chain, state, size=16), loss, vocab_size=24, num_labels=3,
                     **more)  # fmt: skip


def _code(**more: Any) -> Workload:
    return _workload("Starcoder2ForCausalLM", _texts(6), _causal_loss, vocab_size=COMMON, **more)


RATE: dict[str, Any] = {"optimizer": "adam", "lr": 3e-3}
THIN: dict[str, Any] = {**SMALL, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2}
PAIR: dict[str, Any] = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
                        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}  # fmt: skip
RELU, DEEP = {"hidden_act": "relu"}, {"num_hidden_layers": 3}
GIVEN: dict[str, tuple[Callable[..., Workload], dict[str, Any], dict[str, dict[str, Any]]]] = {
    "decision-transformer": (_decisions, {"hidden_size": 48, "n_layer": 2, "n_head": 2}, {"rate": RATE,
                             "gelu": {"activation_function": "gelu"}}),
    "spectrogram-transformer": (_spectra, {**THIN, "patch_size": 8, "frequency_stride": 6, "time_stride": 6},
                                {"deep": DEEP, "relu": RELU, "rate": {"optimizer": "adam", "lr": 2e-3}}),
    "series-transformer": (_likely, PAIR, {"rate": RATE, "relu": {"activation_function": "relu"}}),
    "esm": (_proteins, {**THIN, "pad_token_id": 0, "position_embedding_type": "rotary", "lr": 2e-3},
            {"learned": {"position_embedding_type": "absolute"}, "adam": RATE}),
    "starcoder2": (_code, {**THIN, "num_key_value_heads": 2, "sliding_window": 8, "bos_token_id": None,
                   "eos_token_id": None}, {"rate": RATE, "deep": DEEP}),
}  # fmt: skip

for _name, (_build, _base, _variants) in GIVEN.items():
    _builds: dict[str, Callable[[], Workload]] = {"base": partial(_build, **_base)}
    _builds |= {one: partial(_build, **{**_base, **more}) for one, more in _variants.items()}
    FAMILIES[_name] = Family(_name, _builds, source=__name__)
