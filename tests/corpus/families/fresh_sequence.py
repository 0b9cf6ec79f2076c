"""Families for sequences, second round: retention, long filters, liquid cells, spikes, reservoirs, alignments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import CHARACTERS, characters, digits
from tests.corpus.families.family import SGD, family, trained
from tests.corpus.nets import Loss, classify, next_token

Act = type[nn.Module]


def _on_digits(model: nn.Module, lr: float, optimizer: str, turn: int = 0, loss: Loss = classify) -> Workload:
    batches = digits()
    return trained(model, batches[turn:] + batches[:turn], lr, loss, optimizer)


def _on_text(model: nn.Module, lr: float, optimizer: str, turn: int = 0) -> Workload:
    batches = characters()
    return trained(model, batches[turn:] + batches[:turn], lr, next_token, optimizer)


class Block(nn.Module):
    """A mixer over positions and a perceptron, each behind a norm and beside the stream."""

    def __init__(self, mix: nn.Module, width: int, act: Act) -> None:
        super().__init__()
        self.mix, self.before, self.between = mix, nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), act(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(self.before(x))
        return x + self.mlp(self.between(x))


def _language(mix: type[nn.Module], depth: int, width: int, act: Act = nn.GELU) -> nn.Sequential:
    blocks = (Block(mix(width), width, act) for _ in range(depth))
    return nn.Sequential(nn.Embedding(CHARACTERS, width), *blocks, nn.LayerNorm(width), nn.Linear(width, CHARACTERS))


class Biased(nn.Module):
    """Causal attention with a penalty that grows with distance."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.into, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        size, length, width = x.shape
        q, k, v = self.into(x).reshape(size, length, self.heads, -1).transpose(1, 2).chunk(3, -1)
        place = torch.arange(length)
        far = (place[:, None] - place[None]).float()
        slope = 2.0 ** -torch.arange(1, self.heads + 1)
        score = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 - slope[:, None, None] * far
        out = score.masked_fill(far < 0, -torch.inf).softmax(-1) @ v
        return self.out(out.transpose(1, 2).reshape(size, length, width))


@family("distance-biased", deep={"depth": 5}, relu={"act": nn.ReLU}, sgd={"optimizer": "sgd", "lr": 0.3})
def biased(depth: int = 3, act: Act = nn.GELU, optimizer: str = "adamw", lr: float = 2e-3) -> Workload:
    return _on_text(_language(Biased, depth, 48, act), lr, optimizer)


class Retained(nn.Module):
    """Attention without softmax, with weights that decay over distance, normed per head, and a gate."""

    def __init__(self, width: int, heads: int = 3) -> None:
        super().__init__()
        self.heads, self.into, self.gate = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm, self.out = nn.GroupNorm(heads, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        size, length, width = x.shape
        q, k, v = self.into(x).reshape(size, length, self.heads, -1).transpose(1, 2).chunk(3, -1)
        place = torch.arange(length)
        far = (place[:, None] - place[None]).float()
        keep = 1 - 2.0 ** (-2 - torch.arange(self.heads).float())
        decay = torch.where(far >= 0, keep[:, None, None] ** far.clamp(min=0), 0.0)
        out = ((q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5 * decay) @ v
        out = self.norm(out.transpose(1, 2).reshape(size * length, width)).reshape(size, length, width)
        return self.out(F.silu(self.gate(x)) * out)


@family("retention", deep={"depth": 5}, wide={"width": 96}, other={"turn": 41})
def retention(depth: int = 3, width: int = 48, lr: float = 2e-3, turn: int = 0) -> Workload:
    return _on_text(_language(Retained, depth, width), lr, "adamw", turn)


class LongFilter(nn.Module):
    """A filter as long as the sequence, written by a small network of the position, applied by Fourier transform."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.write = nn.Sequential(nn.Linear(9, 24), nn.GELU(), nn.Linear(24, width))
        self.into, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        t = torch.linspace(0, 1, length)[:, None]
        angle = t * torch.arange(1, 5) * 6.28
        window = self.write(torch.cat([t, angle.sin(), angle.cos()], -1)) * torch.exp(-3 * t)
        value, gate = self.into(x).chunk(2, -1)
        waves = torch.fft.rfft(value, 2 * length, 1) * torch.fft.rfft(window, 2 * length, 0)
        return self.out(torch.fft.irfft(waves, 2 * length, 1)[:, :length] * gate)


@family("long-filter", deep={"depth": 4}, relu={"act": nn.ReLU}, other={"turn": 41})
def long_filter(depth: int = 2, act: Act = nn.GELU, lr: float = 3e-3, turn: int = 0) -> Workload:
    return _on_text(_language(LongFilter, depth, 48, act), lr, "adam", turn)


class Shifted(nn.Module):
    """Mixes each position with the one before it, channel by channel, and lets an average of the past pass a gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blend = nn.Parameter(torch.linspace(0.1, 0.9, width))
        self.key, self.value, self.gate, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.lerp(F.pad(x, (0, 0, 1, 0))[:, :-1], x, self.blend)
        weight = self.key(x).clamp(max=8).exp()
        mean = (weight * self.value(x)).cumsum(1) / weight.cumsum(1)
        return self.out(torch.sigmoid(self.gate(x)) * mean)


@family("token-shift", deep={"depth": 5}, relu={"act": nn.ReLU}, rmsprop={"optimizer": "rmsprop", "lr": 1e-3})
def token_shift(depth: int = 3, act: Act = nn.GELU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    return _on_text(_language(Shifted, depth, 48, act), lr, optimizer)


class Read(nn.Module):
    """Reads a digit row by row with cells one above the other; the last state decides."""

    def __init__(self, cells: list[nn.Module], width: int) -> None:
        super().__init__()
        self.cells, self.width, self.head = nn.ModuleList(cells), width, nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        states = [torch.zeros(len(x), self.width) for _ in self.cells]
        for row in x.reshape(-1, 8, 8).unbind(1):
            below = row
            for number, cell in enumerate(self.cells):
                states[number] = below = cell(below, states[number])
        return self.head(states[-1])


class Quasi(nn.Module):
    """Gates come from the input alone; only forgetting runs over time."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 2 * width)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        value, forget = self.linear(x).chunk(2, -1)
        forget = torch.sigmoid(forget)
        return forget * state + (1 - forget) * torch.tanh(value)


class Independent(nn.Module):
    """Each unit sees only its own past."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, width), nn.LayerNorm(width)
        self.keep = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return F.relu(self.norm(self.linear(x)) + self.keep * state)


class Liquid(nn.Module):
    """The state flows toward a target at a speed that both depend on input and state."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs + width, width), nn.SiLU())
        self.target, self.speed = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        y = self.body(torch.cat([x, state], -1))
        gate = torch.sigmoid(self.speed(y))
        return gate * state + (1 - gate) * torch.tanh(self.target(y))


def _cells(kind: type[nn.Module], depth: int, width: int) -> Read:
    return Read([kind(8 if i == 0 else width, width) for i in range(depth)], width)


@family("quasi-recurrent", deep={"depth": 4}, sgd={"optimizer": "sgd", "lr": 0.3}, wide={"width": 96})
def quasi(depth: int = 3, width: int = 48, optimizer: str = "adam", lr: float = 6e-3) -> Workload:
    return _on_digits(_cells(Quasi, depth, width), lr, optimizer)


@family("independent-recurrent", deep={"depth": 4}, sgd=SGD, other={"turn": 29})
def independent(depth: int = 3, optimizer: str = "adam", lr: float = 3e-3, turn: int = 0) -> Workload:
    return _on_digits(_cells(Independent, depth, 48), lr, optimizer, turn)


@family("liquid-cell", wide={"width": 80}, momentum={"optimizer": "momentum", "lr": 0.3}, other={"turn": 29})
def liquid(width: int = 40, optimizer: str = "adam", lr: float = 5e-3, turn: int = 0) -> Workload:
    return _on_digits(_cells(Liquid, 2, width), lr, optimizer, turn)


class Spike(torch.autograd.Function):
    """1 above the threshold; backward, the slope of a soft step."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, slope: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        (x,) = ctx.saved_tensors
        return slope / (1 + 3 * x.abs()) ** 2


class Spiking(nn.Module):
    """Leaky units that fire and reset, over six time steps."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64 if i == 0 else width, width) for i in range(depth))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        charge: list[Any] = [0.0] * len(self.layers)
        out = torch.zeros(())
        for _ in range(6):
            y = x
            for number, layer in enumerate(self.layers):
                charge[number] = 0.8 * charge[number] + layer(y)
                y = Spike.apply(charge[number] - 0.5)  # type: ignore[no-untyped-call]
                charge[number] = charge[number] - 0.5 * y
            out = out + self.head(y)
        return out / 6


@family("spiking", wide={"width": 128}, deep={"depth": 3}, sgd={"optimizer": "sgd", "lr": 0.2})
def spiking(width: int = 64, depth: int = 2, optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    return _on_digits(Spiking(width, depth), lr, optimizer)


class Reservoir(nn.Module):
    """A fixed random recurrent network; only what reads it is trained."""

    def __init__(self, size: int, act: Act) -> None:
        super().__init__()
        self.register_buffer("inward", torch.randn(8, size) * 0.5)
        recurrent = torch.randn(size, size) / size**0.5
        self.register_buffer("recurrent", 0.9 * recurrent)
        self.read = nn.Sequential(
            nn.Linear(size, 48), act(), nn.Linear(48, 48), act(), nn.Linear(48, 32), act(), nn.Linear(32, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(len(x), self.recurrent.shape[0])  # type: ignore[union-attr,misc]
        for row in x.reshape(-1, 8, 8).unbind(1):
            state = torch.tanh(row @ self.inward + state @ self.recurrent)  # type: ignore[operator]
        return self.read(state)


@family("reservoir", wide={"size": 200}, silu={"act": nn.SiLU}, momentum={"optimizer": "momentum", "lr": 0.05})
def reservoir(size: int = 96, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 4e-3) -> Workload:
    return _on_digits(Reservoir(size, act), lr, optimizer)


class Aligned(nn.Module):
    """Two digits side by side, column by column; an alignment-free loss finds where each of them stands."""

    def __init__(self, width: int, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(8, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 3, padding=1))
        self.rnn, self.head = kind(width, width, batch_first=True), nn.Linear(width, 11)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x)).transpose(1, 2)
        return self.head(self.rnn(y)[0]).log_softmax(-1)


@family("alignment-free", gru={"kind": nn.GRU}, wide={"width": 80}, adamw={"optimizer": "adamw"})
def aligned(width: int = 40, kind: type[nn.RNNBase] = nn.LSTM, optimizer: str = "adam", lr: float = 6e-3) -> Workload:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch[0].reshape(-1, 8, 8), batch[1]
        half = len(x) // 2
        said = model(torch.cat([x[:half], x[half:]], -1)).transpose(0, 1)
        lengths = torch.full((half,), said.shape[0])
        return F.ctc_loss(said, torch.stack([y[:half], y[half:]], 1), lengths, torch.full((half,), 2), blank=10)

    return _on_digits(Aligned(width, kind), lr, optimizer, loss=loss)


class Window(nn.Module):
    """The feed-forward language model: the last eight characters, embedded and joined."""

    def __init__(self, width: int, act: Act) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, 16)
        self.body = nn.Sequential(
            nn.Linear(128, width), act(), nn.Linear(width, width), act(), nn.Linear(width, CHARACTERS)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.pad(self.embed(tokens), (0, 0, 7, 0)).unfold(1, 8, 1).flatten(2)
        return self.body(x)


@family("window-language", tanh={"act": nn.Tanh}, wide={"width": 160}, sgd={"optimizer": "sgd", "lr": 0.5})
def window(width: int = 80, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    return _on_text(Window(width, act), lr, optimizer)


class Gates(nn.Module):
    """A causal convolution whose one half opens or shuts the other, beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.LayerNorm(width), nn.Conv1d(width, 2 * width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.glu(self.conv(F.pad(self.norm(x).transpose(1, 2), (3, 0))), 1).transpose(1, 2)


@family("gated-convolution", deep={"depth": 6}, wide={"width": 80}, adagrad={"optimizer": "adagrad", "lr": 0.02})
def gated(depth: int = 3, width: int = 40, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    parts = [nn.Embedding(CHARACTERS, width), *(Gates(width) for _ in range(depth)), nn.Linear(width, CHARACTERS)]
    return _on_text(nn.Sequential(*parts), lr, optimizer)
