"""Families for sequences, fourth round: assignments and notebooks on text, sound, sessions, events and dynamics."""

from __future__ import annotations

import datetime
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import BATCHES, CHARACTERS, digits
from tests.corpus.families.family import family
from tests.corpus.families.third_sequence import OTHER, VOCABULARY, passages, prepared, scheduled

Act = type[nn.Module]
Pair = tuple[Tensor, Tensor]
Cell = type[nn.LSTMCell] | type[nn.GRUCell]


def clipped(workload: Workload, limit: float) -> Workload:
    """The same, the norm of all gradients together cut before each step."""
    assert workload.optimizer is not None

    def act(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], limit)

    workload.optimizer.register_step_pre_hook(act)
    return workload


def rows_of(*parts: Tensor, size: int) -> list[tuple[Tensor, ...]]:
    """Tensors of equal length, cut into batches."""
    return list(zip(*(one.split(size) for one in parts), strict=True))


class SineCells(nn.Module):
    """Two cells, stepped by hand; every step says the next value."""

    def __init__(self, width: int, kind: Cell) -> None:
        super().__init__()
        self.first, self.second, self.linear = kind(1, width), kind(width, width), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = second = None
        said = []
        for now in x.split(1, 1):
            first = self.first(now, first)
            second = self.second(first[0] if isinstance(first, tuple) else first, second)
            said.append(self.linear(second[0] if isinstance(second, tuple) else second))
        return torch.cat(said, 1)


@family("sine-cells", gru={"kind": nn.GRUCell}, wide={"width": 51}, rmsprop={"optimizer": "rmsprop", "lr": 3e-3})
def sine_cells(width: int = 32, kind: Cell = nn.LSTMCell, optimizer: str = "adam", lr: float = 1e-2) -> Workload:
    draw = torch.Generator().manual_seed(41)
    period, phase, height = torch.rand(3, BATCHES * 32, 1, generator=draw).unbind()
    x = (0.5 + height) * torch.sin(torch.arange(17) * 2 * torch.pi / (6 + 10 * period) + 2 * torch.pi * phase)
    x = x + 0.03 * torch.randn(x.shape, generator=draw)
    criterion, model = nn.MSELoss(), SineCells(width, kind)
    return prepared(model, list(x.split(32)), lambda m, b: criterion(m(b[:, :-1]), b[:, 1:]), lr, optimizer)


class DateReader(nn.Module):
    """A bidirectional reader; before each output letter a small network weighs what was read."""

    def __init__(self, width: int, act: Act, gru: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, 24)
        self.read = (nn.GRU if gru else nn.LSTM)(24, width, batch_first=True, bidirectional=True)
        self.energies = nn.Sequential(nn.Linear(4 * width, 16), act(), nn.Linear(16, 1, bias=False))
        self.write, self.out = nn.LSTMCell(2 * width, 2 * width), nn.Linear(2 * width, 10)

    def forward(self, letters: Tensor) -> Tensor:
        seen, _ = self.read(self.embed(letters))
        state = (seen.new_zeros(len(seen), seen.shape[-1]),) * 2
        said = []
        for _ in range(8):
            weight = self.energies(torch.cat([state[0][:, None].expand_as(seen), seen], -1)).softmax(1)
            state = self.write((weight * seen).sum(1), state)
            said.append(self.out(state[0]))
        return torch.stack(said, -1)


def _dates(size: int) -> list[Pair]:
    """Days as people write them, 18 letters, and their eight digits, the year first."""
    draw = torch.Generator().manual_seed(42)
    forms = ("%d %b %Y", "%B %d, %Y", "%d/%m/%Y", "%Y.%m.%d", "%b %d %Y")
    read, written = [], []
    days = torch.randint(20_000, (BATCHES * size,), generator=draw)
    for day, form in zip(days.tolist(), torch.randint(5, days.shape, generator=draw).tolist(), strict=True):
        date = datetime.date(1970, 1, 1) + datetime.timedelta(days=day)
        read.append([ord(one) for one in date.strftime(forms[form]).lower().ljust(18)])
        written.append([int(one) for one in date.strftime("%Y%m%d")])
    return rows_of(torch.tensor(read), torch.tensor(written), size=size)  # type: ignore[return-value]


@family("date-reader", gru={"gru": True}, relu={"act": nn.ReLU}, nadam={"optimizer": "nadam", "lr": 3e-3})
def date_reader(act: Act = nn.Tanh, gru: bool = False, optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    model = DateReader(24, act, gru)
    return clipped(prepared(model, _dates(24), lambda m, b: F.cross_entropy(m(b[0]), b[1]), lr, optimizer), 5.0)


class TriggerWord(nn.Module):
    """A strided convolution over a spectrogram, two recurrent layers with norms, a logit per step."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(16, width, 6, 2), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout))
        self.grus = nn.ModuleList(nn.GRU(width, width, batch_first=True) for _ in range(2))
        self.norms, self.drop = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(2)), nn.Dropout(dropout)
        self.dense = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for gru, norm in zip(self.grus, self.norms, strict=True):
            said, _ = gru(x.transpose(1, 2))
            x = norm(self.drop(said).transpose(1, 2))
        return self.dense(x.transpose(1, 2))[..., 0]


def _clips(size: int) -> list[Pair]:
    """Noisy spectra of 16 bands and 44 steps with rising and falling calls; ones for a while behind each rising one."""
    draw = torch.Generator().manual_seed(43)
    clips, marks = 0.7 * torch.randn(BATCHES * size, 16, 44, generator=draw), torch.zeros(BATCHES * size, 20)
    starts = torch.randint(12, (BATCHES * size, 2), generator=draw) + torch.tensor([0, 20])
    rising, step = torch.rand(starts.shape, generator=draw) < 0.5, torch.arange(8)
    for row, (places, ups) in enumerate(zip(starts.tolist(), rising.tolist(), strict=True)):
        for start, up in zip(places, ups, strict=True):
            band = 2 + step if up else 13 - step
            clips[row, band, start + step] += 1.2
            clips[row, band + 1, start + step] += 0.6
            if up:
                marks[row, (start + 4) // 2 : (start + 4) // 2 + 6] = 1.0
    return rows_of(clips, marks, size=size)  # type: ignore[return-value]


@family("trigger-word", wide={"width": 48}, plain={"dropout": 0.0}, adamw={"optimizer": "decayed", "lr": 6e-3})
def trigger_word(width: int = 32, dropout: float = 0.2, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    def loss(model: nn.Module, batch: Pair) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1])

    return prepared(TriggerWord(width, dropout), _clips(16), loss, lr, optimizer)


class Spectrogram(nn.Module):
    """The logarithm of a wave's power by time and frequency, as a picture of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(64))
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        found = torch.stft(x, 64, 16, window=self.window, return_complex=True)
        return self.norm(torch.log(found.abs().square() + 1e-2)[:, None])


def _sounds(size: int) -> list[Pair]:
    """Waves of 512 values: a sine, square or saw tone, chirps up and down, two tones, a fading tone, noise."""
    draw = torch.Generator().manual_seed(44)
    kind = torch.randint(8, (BATCHES * size,), generator=draw)
    time = torch.arange(512) / 512
    rate, other, phase = torch.rand(3, len(kind), 1, generator=draw).unbind()
    rate, noise = 20 + 60 * rate, torch.randn(len(kind), 512, generator=draw)
    turn = rate * time + phase
    sine = torch.sin(2 * torch.pi * turn)
    kinds = [
        sine, sine.sign(), 2 * (turn % 1) - 1, torch.sin(2 * torch.pi * (turn + 70 * time**2)),
        torch.sin(2 * torch.pi * (turn + 140 * time - 70 * time**2)),
        (sine + torch.sin(2 * torch.pi * (110 + 60 * other) * time)) / 2, sine * torch.exp(-6 * time), noise,
    ]  # fmt: skip
    waves = torch.stack(kinds)[kind, torch.arange(len(kind))] + 0.3 * torch.randn(len(kind), 512, generator=draw)
    return rows_of(waves, kind, size=size)  # type: ignore[return-value]


@family("tone-spectrogram", wide={"width": 12}, elu={"act": nn.ELU}, sgd={"optimizer": "nesterov", "lr": 0.05})
def tone_spectrogram(width: int = 8, act: Act = nn.ReLU, optimizer: str = "decayed", lr: float = 4e-3) -> Workload:
    layers: list[nn.Module] = [Spectrogram()]
    for before, after in ((1, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), act(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(4 * width, 8))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    workload = prepared(model, _sounds(16), lambda m, b: criterion(m(b[0]), b[1]), lr, optimizer)
    return scheduled(workload, lambda step: min((step + 1) / 20, 1.0))


class TopicTransformer(nn.Module):
    """PyTorch's encoder over a passage behind a token of its own, by whose output the passage is classified."""

    def __init__(self, first: bool, mean: bool, act: str) -> None:
        super().__init__()
        self.mean, self.embed = mean, nn.Embedding(VOCABULARY, 48, padding_idx=0)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 48)), nn.Parameter(0.02 * torch.randn(25, 48))
        layer = nn.TransformerEncoderLayer(48, 4, 96, 0.1, act, batch_first=True, norm_first=first)
        self.body = nn.TransformerEncoder(layer, 2, nn.LayerNorm(48) if first else None, enable_nested_tensor=False)
        self.head = nn.Linear(48, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(tokens), -1, -1), self.embed(tokens)], 1) + self.place
        pads = F.pad(tokens == 0, (1, 0))
        x = self.body(x, src_key_padding_mask=pads)
        if self.mean:
            seen = (~pads)[..., None].to(x.dtype)
            return self.head((x * seen).sum(1) / seen.sum(1))
        return self.head(x[:, 0])


@family("topic-transformer", first={"first": True}, relu={"act": "relu"}, mean={"mean": True, "optimizer": "decayed"})
def topic_transformer(
    first: bool = False, mean: bool = False, act: str = "gelu", optimizer: str = "adam", lr: float = 1.5e-3
) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[2])

    return clipped(prepared(TopicTransformer(first, mean, act), passages(20, 24), loss, lr, optimizer), 1.0)


class Pointers(nn.Module):
    """Reads numbers and points at them one by one; each choice's true number goes into the next step."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.encode, self.decode = nn.LSTM(1, width, batch_first=True), nn.LSTMCell(1, width)
        self.start, self.steps = nn.Parameter(torch.zeros(1)), steps
        self.keys, self.query = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor, order: Tensor) -> Tensor:
        seen, (last, cell) = self.encode(x[..., None])
        state, keys, said = (last[0], cell[0]), self.keys(seen), []
        now = self.start.expand(len(x), 1)
        for step in range(self.steps):
            state = self.decode(now, state)
            said.append(self.score(torch.tanh(keys + self.query(state[0])[:, None]))[..., 0])
            now = x.gather(1, order[:, step, None])
        return torch.stack(said, -1)


@family("pointer-network", wide={"width": 96}, longer={"length": 8}, rmsprop={"optimizer": "rmsprop", "lr": 2e-3})
def pointers(width: int = 64, length: int = 5, optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    """Numbers are to be sorted."""
    x = torch.rand(BATCHES * 64, length, generator=torch.Generator().manual_seed(45)) * 2 - 1
    batches = rows_of(x, x.argsort(1), size=64)
    workload = prepared(Pointers(width, length), batches, lambda m, b: F.cross_entropy(m(*b), b[1]), lr, optimizer)
    return clipped(workload, 2.0)


class Sessions(nn.Module):
    """A recurrent network over what was clicked; its output is compared with the same embeddings of all items."""

    def __init__(self, items: int, width: int) -> None:
        super().__init__()
        self.items, self.gru = nn.Embedding(items, width), nn.GRU(width, width, batch_first=True)
        nn.init.xavier_normal_(self.items.weight)
        self.drop, self.bias = nn.Dropout(0.1), nn.Parameter(torch.zeros(items))

    def forward(self, clicks: Tensor) -> Tensor:
        said, _ = self.gru(self.drop(self.items(clicks)))
        return said @ self.items.weight.T + self.bias


def _clicks(size: int, items: int) -> list[Tensor]:
    """Sessions of 12 clicks, most of them within one of ten genres, where few items are clicked most."""
    draw = torch.Generator().manual_seed(46)
    genre = torch.randint(10, (BATCHES * size, 1), generator=draw)
    within = torch.multinomial(1 / torch.arange(2.0, items // 10 + 2), BATCHES * size * 12, True, generator=draw)
    clicks = genre * (items // 10) + within.reshape(-1, 12)
    lost = torch.rand(clicks.shape, generator=draw) < 0.1
    anything = torch.randint(items, clicks.shape, generator=draw)
    return list(torch.where(lost, anything, clicks).split(size))


@family("session-items", softmax={"kind": "softmax"}, top={"kind": "top"}, adagrad={"optimizer": "adagrad", "lr": 0.05})
def sessions(kind: str = "rank", width: int = 48, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    """kind: the next item is to rank above those of other sessions, with or without a cost of their height, or all."""

    def loss(model: nn.Module, clicks: Tensor) -> Tensor:
        said, wanted = model(clicks[:, :-1]), clicks[:, 1:]
        if kind == "softmax":
            return F.cross_entropy(said.flatten(0, 1), wanted.flatten())
        good, bad = said.gather(2, wanted[..., None]), said[..., clicks[:, 0]]
        if kind == "top":
            return (torch.sigmoid(bad - good) + torch.sigmoid(bad.square())).mean()
        return -F.logsigmoid(good - bad).mean()

    return prepared(Sessions(200, width), _clicks(32, 200), loss, lr, optimizer)


class Events(nn.Module):
    """What happened and how long after the last; says how likely each kind is next, and how soon."""

    def __init__(self, kinds: int, width: int) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(kinds, 16), nn.GRU(17, width, batch_first=True)
        self.kind, self.rate = nn.Linear(width, kinds), nn.Linear(width, 1)

    def forward(self, kinds: Tensor, gaps: Tensor) -> Pair:
        said, _ = self.rnn(torch.cat([self.embed(kinds), gaps.log1p()[..., None]], -1))
        return self.kind(said), F.softplus(self.rate(said))[..., 0] + 1e-3


def _events(size: int, many: int) -> list[Pair]:
    """Events, each with likely successors and a pace that depend on the two before."""
    draw = torch.Generator().manual_seed(47)
    last, older = torch.randn(2, many, many, generator=draw).mul(1.5).unbind()
    pace = torch.randn(many, many, generator=draw).exp()
    kinds = list(torch.randint(many, (2, BATCHES * size), generator=draw))
    gaps = [torch.ones(BATCHES * size)] * 2
    for _ in range(18):
        gaps.append(-torch.log(1 - torch.rand(BATCHES * size, generator=draw)) / pace[kinds[-1], kinds[-2]])
        likely = (last[kinds[-1]] + older[kinds[-2]]).softmax(-1)
        kinds.append(torch.multinomial(likely, 1, generator=draw)[:, 0])
    return rows_of(torch.stack(kinds, 1), torch.stack(gaps, 1), size=size)  # type: ignore[return-value]


@family("event-times", wide={"width": 64}, rmsprop={"optimizer": "rmsprop", "lr": 2e-3}, other=OTHER)
def event_times(width: int = 32, optimizer: str = "adam", lr: float = 4e-3, turn: int = 0) -> Workload:
    """The likelihood of waiting times under a constant rate between events, and of the kinds."""

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        kinds, gaps = batch
        said, rate = model(kinds[:, :-1], gaps[:, :-1])
        waited = (rate * gaps[:, 1:] - rate.log()).mean()
        return waited + F.cross_entropy(said.flatten(0, 1), kinds[:, 1:].flatten())

    return clipped(prepared(Events(8, width), _events(32, 8), loss, lr, optimizer, turn), 5.0)


class Captcha(nn.Module):
    """Convolutions over a strip of digits, a recurrent network over its columns, log-probabilities with a blank."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), act(), nn.MaxPool2d((2, 2)),
            nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), act(), nn.MaxPool2d((2, 1)),
        )  # fmt: skip
        self.dense = nn.Linear(48, width)
        self.rnn, self.out = nn.GRU(width, width, bidirectional=True), nn.Linear(2 * width, 11)

    def forward(self, x: Tensor) -> Tensor:
        said, _ = self.rnn(F.relu(self.dense(self.conv(x).flatten(1, 2).permute(2, 0, 1))))
        return self.out(said).log_softmax(-1)


@family("captcha-ctc", wide={"width": 64}, leaky={"act": nn.LeakyReLU}, other=OTHER)
def captcha(width: int = 40, act: Act = nn.ReLU, lr: float = 5e-3, turn: int = 0) -> Workload:
    batches = [
        (x.reshape(16, 3, 8, 8).permute(0, 2, 1, 3).reshape(16, 1, 8, 24), y.reshape(16, 3)) for x, y in digits(48)
    ]

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        said = model(batch[0])
        size, lengths = len(batch[1]), torch.full((len(batch[1]),), 3)
        return F.ctc_loss(said, batch[1] + 1, torch.full((size,), len(said)), lengths)

    return clipped(prepared(Captcha(width, act), batches, loss, lr, "adam", turn), 5.0)


class Ensemble(nn.Module):
    """Five networks at once tell mean and spread of how a state changes, the spread between learned bounds."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        sizes = [4, *[width] * depth, 6]
        self.weights = nn.ParameterList(
            nn.init.trunc_normal_(torch.empty(5, a, b), std=a**-0.5) for a, b in pairwise(sizes)
        )
        self.biases = nn.ParameterList(torch.zeros(5, 1, size) for size in sizes[1:])
        self.high, self.low = nn.Parameter(torch.full((3,), 0.5)), nn.Parameter(torch.full((3,), -8.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, F.silu(x) if number else x, weight)
        mean, spread = x.chunk(2, -1)
        spread = self.high - F.softplus(self.high - spread)
        return mean, self.low + F.softplus(spread - self.low)


@family("pendulum-dynamics", deep={"depth": 4}, wide={"width": 96}, radam={"optimizer": "radam", "lr": 1e-2})
def pendulum(width: int = 48, depth: int = 2, optimizer: str = "decayed", lr: float = 3e-3) -> Workload:
    """Each member of the ensemble has transitions of its own."""
    draw = torch.Generator().manual_seed(56)
    angle, speed, push = (torch.rand(3, BATCHES * 64, 5, generator=draw) * 2 - 1).unbind()
    angle, speed, push = torch.pi * angle, 4 * speed, 2 * push
    faster = speed + 0.1 * (7.5 * angle.sin() + 3 * push) + 0.05 * torch.randn(speed.shape, generator=draw)
    later = angle + 0.1 * faster
    change = torch.stack([later.cos() - angle.cos(), later.sin() - angle.sin(), faster - speed], -1)
    state = torch.stack([angle.cos(), angle.sin(), speed / 2, push], -1)
    batches = [(x.transpose(0, 1), y.transpose(0, 1)) for x, y in rows_of(state, change / change.std((0, 1)), size=64)]

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        mean, spread = model(batch[0])
        likely = (mean - batch[1]).square() * torch.exp(-spread) + spread
        return likely.mean() + 0.01 * (model.high - model.low).mean()  # type: ignore[operator, union-attr]

    return prepared(Ensemble(width, depth), batches, loss, lr, optimizer)
