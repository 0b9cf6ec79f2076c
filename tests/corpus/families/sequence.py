"""Families for sequences: causal convolutions, state spaces, encoder-decoders, taggers, modern decoders."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diag.train.workload import Workload
from tests.corpus.data import CHARACTERS, characters, digits, words
from tests.corpus.families.family import SGD, family, trained
from tests.corpus.nets import next_token


class Causal(nn.Module):
    """A dilated causal convolution with weight norm, twice, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, dilation: int, gated: bool) -> None:
        super().__init__()
        self.pad, self.gated = 2 * dilation, gated
        wide = 2 * outputs if gated else outputs
        conv = nn.Conv1d(inputs, wide, 3, dilation=dilation)
        self.conv = nn.utils.parametrizations.weight_norm(conv) if not gated else conv
        self.out = nn.Conv1d(outputs, outputs, 1)
        self.shortcut = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(F.pad(x, (self.pad, 0)))
        if self.gated:
            value, gate = y.chunk(2, 1)
            y = torch.tanh(value) * torch.sigmoid(gate)
        else:
            y = F.relu(y)
        return self.shortcut(x) + self.out(y)


class Convolved(nn.Module):
    def __init__(self, gated: bool, depth: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, 32)
        self.blocks = nn.ModuleList(Causal(32 if i == 0 else 48, 48, 2**i, gated) for i in range(depth))
        self.head = nn.Linear(48, CHARACTERS)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.transpose(1, 2))


@family("tcn", sgd={"optimizer": "momentum", "lr": 0.1})
def tcn(optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    return trained(Convolved(False, 4), characters(), lr, next_token, optimizer)


@family("wavenet", deep={"depth": 5})
def wavenet(depth: int = 3, optimizer: str = "adam", lr: float = 3e-3) -> Workload:
    return trained(Convolved(True, depth), characters(), lr, next_token, optimizer)


class Translator(nn.Module):
    """A GRU reads, another writes with dot-product attention to what was read."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, width)
        self.reader = nn.GRU(width, width, batch_first=True)
        self.writer = nn.GRU(width, width, batch_first=True)
        self.mix = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, CHARACTERS)

    def forward(self, tokens: Tensor) -> Tensor:
        read, state = self.reader(self.embed(tokens[:, :16]))
        wrote, _ = self.writer(self.embed(tokens[:, 16:-1]), state)
        seen = (wrote @ read.transpose(1, 2) / 48**0.5).softmax(-1) @ read
        return self.head(torch.tanh(self.mix(torch.cat([wrote, seen], -1))))


@family("seq2seq-attention", rmsprop={"optimizer": "rmsprop", "lr": 2e-3})
def translator(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(model(batch).flatten(0, 1), batch[:, 17:].flatten())

    return trained(Translator(), characters(), lr, loss, optimizer)


def _kinds(tokens: Tensor) -> Tensor:
    """0 blank, 1 letter of the first half of the alphabet, 2 of the second, 3 other."""
    lower = tokens | 32
    kind = torch.full_like(tokens, 3)
    kind[(lower >= 97) & (lower <= 109)] = 1
    kind[(lower >= 110) & (lower <= 122)] = 2
    kind[tokens <= 32] = 0
    return kind


class Tagger(nn.Module):
    """Both directions, dropout between: tags the character that follows."""

    def __init__(self, kind: type[nn.RNNBase], width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, width)
        self.rnn = kind(width, width, 2, batch_first=True, bidirectional=True, dropout=0.1)  # type: ignore[arg-type]
        self.head = nn.Linear(2 * width, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(tokens))[0])


@family("bilstm-tagger", gru={"kind": nn.GRU})
def tagger(kind: type[nn.RNNBase] = nn.LSTM, lr: float = 5e-3) -> Workload:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(model(batch).flatten(0, 1), _kinds(batch).flatten())

    return trained(Tagger(kind), characters(), lr, loss)


class TextCNN(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 32)
        self.convs = nn.ModuleList(nn.Conv1d(32, 24, size) for size in (2, 3, 4))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(72, vocabulary))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens).transpose(1, 2)
        return self.head(torch.cat([F.relu(conv(x)).amax(-1) for conv in self.convs], 1))


@family("text-cnn", adamw={"optimizer": "adamw"})
def text_cnn(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    batches, vocabulary = words(32, 9)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(model(batch[:, :-1]), batch[:, -1])

    return trained(TextCNN(vocabulary), batches, lr, loss, optimizer)


class LinearAttention(nn.Module):
    """Causal attention by a positive feature map and running sums."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, -1)).unbind(2)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        sums = torch.einsum("blhd,blhe->blhde", k, v).cumsum(1)
        mixed = torch.einsum("blhd,blhde->blhe", q, sums)
        scale = torch.einsum("blhd,blhd->blh", q, k.cumsum(1)).add(1e-6)
        return self.out((mixed / scale[..., None]).flatten(2))


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.scale


class Rotary(nn.Module):
    """Causal attention with rotated queries and keys."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        half = q.shape[-1] // 2
        angle = torch.arange(q.shape[-2])[:, None] * 100.0 ** (-torch.arange(half) / half)

        def turn(z: Tensor) -> Tensor:
            a, b = z.chunk(2, -1)
            return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)

        mixed = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, 2 * width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Decoder(nn.Module):
    def __init__(self, attention: type[nn.Module], depth: int, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, width)
        self.mixers = nn.ModuleList(attention(width) for _ in range(depth))
        self.mlps = nn.ModuleList(Gated(width) for _ in range(depth))
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(2 * depth + 1))
        self.head = nn.Linear(width, CHARACTERS, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for number, (mix, mlp) in enumerate(zip(self.mixers, self.mlps, strict=True)):
            x = x + mix(self.norms[2 * number](x))
            x = x + mlp(self.norms[2 * number + 1](x))
        return self.head(self.norms[-1](x))


@family("linear-attention", deep={"depth": 5})
def linear_attention(depth: int = 3, lr: float = 3e-3) -> Workload:
    return trained(Decoder(LinearAttention, depth), characters(), lr, next_token, "adamw")


@family("rotary-decoder", deep={"depth": 6}, sgd={"optimizer": "sgd", "lr": 0.5})
def rotary(depth: int = 3, optimizer: str = "adamw", lr: float = 3e-3) -> Workload:
    return trained(Decoder(Rotary, depth), characters(), lr, next_token, optimizer)


class StateSpace(nn.Module):
    """A diagonal linear recurrence, unrolled as a sum of powers, and a gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.linspace(1.0, 5.0, width))
        self.into, self.gate, self.out = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        rate, state, states = torch.sigmoid(self.decay), torch.zeros_like(x[:, 0]), []
        for step in self.into(x).unbind(1):
            state = rate * state + (1 - rate) * step
            states.append(state)
        return self.out(torch.stack(states, 1) * F.silu(self.gate(x)))


class Rows(nn.Module):
    """Reads a digit row by row through residual blocks; the last row's code decides."""

    def __init__(self, block: type[nn.Module], depth: int, width: int = 48) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, width), nn.Linear(width, 10)
        self.blocks = nn.ModuleList(block(width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.reshape(-1, 8, 8))
        for block, norm in zip(self.blocks, self.norms, strict=True):
            x = x + block(norm(x))
        return self.head(x[:, -1])


@family("state-space", sgd=SGD)
def state_space(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    return trained(Rows(StateSpace, 3), digits(), lr, optimizer=optimizer)


class MinGRU(nn.Module):
    """A gated recurrence whose gates do not see the state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = torch.sigmoid(self.gate(x)), torch.tanh(self.value(x))
        state, states = torch.zeros_like(x[:, 0]), []
        for number in range(x.shape[1]):
            state = (1 - gate[:, number]) * state + gate[:, number] * value[:, number]
            states.append(state)
        return torch.stack(states, 1)


@family("min-gru", nadam={"optimizer": "nadam"})
def min_gru(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    return trained(Rows(MinGRU, 2), digits(), lr, optimizer=optimizer)


class NormedCell(nn.Module):
    """An LSTM cell by hand, with layer norm on its gates, over the rows of a digit."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        self.width = width
        self.weight_ih, self.weight_hh = nn.Linear(8, 4 * width), nn.Linear(width, 4 * width, bias=False)
        self.norm, self.cell_norm, self.head = nn.LayerNorm(4 * width), nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        state = cell = x.new_zeros(len(x), self.width)
        for row in x.reshape(-1, 8, 8).unbind(1):
            i, f, g, o = self.norm(self.weight_ih(row) + self.weight_hh(state)).chunk(4, -1)
            cell = torch.sigmoid(f + 1) * cell + torch.sigmoid(i) * torch.tanh(g)
            state = torch.sigmoid(o) * torch.tanh(self.cell_norm(cell))
        return self.head(state)


@family("layer-norm-lstm", sgd={"optimizer": "sgd", "lr": 0.3})
def normed_lstm(optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    return trained(NormedCell(), digits(), lr, optimizer=optimizer)


class Perceiver(nn.Module):
    """A few learned latents attend to all pixels, then to each other."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(16, width))
        self.places = nn.Parameter(torch.randn(64, width // 2))
        self.read = nn.MultiheadAttention(width, 4, batch_first=True)
        self.think = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 64, 0.0, batch_first=True, norm_first=True) for _ in range(2)
        )
        self.head = nn.Linear(16 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        pixel = x[..., None].expand(-1, -1, self.places.shape[1])
        data = torch.cat([pixel, self.places.expand(len(x), -1, -1)], -1)
        query = self.latents.expand(len(x), -1, -1)
        x = query + self.read(query, data, data)[0]
        for layer in self.think:
            x = layer(x)
        return self.head(x.flatten(1))


@family("perceiver", adamw={"optimizer": "adamw"})
def perceiver(optimizer: str = "adam", lr: float = 6e-3) -> Workload:
    return trained(Perceiver(), digits(), lr, optimizer=optimizer)
