"""Families for sequences, third round: tutorials' text and speech networks, forecasts, memories, newer attention."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from diag.train.workload import Workload
from tests.corpus.data import BATCHES, CHARACTERS, characters, waves, words
from tests.corpus.families.family import OPTIMIZERS, family
from tests.corpus.nets import Clipped, Loss, next_token

Act = type[nn.Module]
Kind = Callable[..., nn.RNNBase]
MORE: dict[str, Callable[..., torch.optim.Optimizer]] = {
    **OPTIMIZERS,
    "adadelta": torch.optim.Adadelta,
    "adamax": torch.optim.Adamax,
    "radam": torch.optim.RAdam,
    "asgd": torch.optim.ASGD,
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "decayed": partial(torch.optim.AdamW, weight_decay=0.05),
    "attention": partial(torch.optim.Adam, betas=(0.9, 0.98), eps=1e-9),
    "clipped": partial(Clipped, limit=0.25),
}
OTHER = {"turn": 31}
VOCABULARY = 1000


def prepared(
    model: nn.Module, batches: list[Any], loss: Loss, lr: float, optimizer: str = "adam", turn: int = 0
) -> Workload:
    """A workload with an optimizer of MORE; turn: how far the order of the batches is turned."""
    return Workload(model, batches[turn:] + batches[:turn], loss, MORE[optimizer](model.parameters(), lr=lr))


def scheduled(workload: Workload, factor: Callable[[int], float]) -> Workload:
    """The same, its learning rate times a factor of the step."""
    assert workload.optimizer is not None
    count, rates = iter(range(10**9)), [group["lr"] for group in workload.optimizer.param_groups]

    def act(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        now = factor(next(count))
        for group, rate in zip(optimizer.param_groups, rates, strict=False):
            group["lr"] = rate * now

    workload.optimizer.register_step_pre_hook(act)
    return workload


def grouped(workload: Workload) -> Workload:
    """The same, without weight decay for biases and gains: two groups of parameters."""
    assert workload.optimizer is not None
    [group] = workload.optimizer.param_groups
    flat = {"params": [one for one in group["params"] if one.ndim < 2], "weight_decay": 0.0}
    group["params"] = [one for one in group["params"] if one.ndim > 1]
    workload.optimizer.add_param_group({**group, **flat})
    return workload


@functools.cache
def _topics() -> list[Tensor]:
    longest = sorted(topics, key=lambda name: -len(topics[name]))[:10]
    split = [re.findall(r"\w+|[^\w\s]", topics[name].lower()) for name in longest]
    common = Counter(word for one in split for word in one).most_common(VOCABULARY - 2)
    numbers = {word: number + 2 for number, (word, _) in enumerate(common)}
    return [torch.tensor([numbers.get(word, 1) for word in one]) for one in split]


def passages(size: int = 32, length: int = 32, least: int = 12) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Passages of the ten longest topics of the manual: word numbers padded with 0, lengths, and the topic."""
    return list(_passages(size, length, least))


@functools.cache
def _passages(size: int, length: int, least: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    out = []
    for _ in range(BATCHES):
        tokens, chosen = torch.zeros(size, length, dtype=torch.long), torch.randint(10, (size,), generator=generator)
        lengths = torch.randint(least, length + 1, (size,), generator=generator)
        for row, (topic, count) in enumerate(zip(chosen.tolist(), lengths.tolist(), strict=True)):
            start = draw(0, len(_topics()[topic]) - count)
            tokens[row, :count] = _topics()[topic][start : start + count]
        out.append((tokens, lengths, chosen))
    return out


def _spelled(size: int) -> Iterator[list[list[int]]]:
    """Lists of words of five to ten letters, each letter a number from 1 to 26."""
    found = re.findall(r"\b[a-z]{5,10}\b", " ".join(topics[name] for name in sorted(topics)))
    generator = torch.Generator().manual_seed(4)
    for _ in range(BATCHES):
        rows = torch.randint(len(found), (size,), generator=generator).tolist()
        yield [[ord(letter) - 96 for letter in found[row]] for row in rows]


def _padded(rows: list[list[int]]) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


class Bag(nn.Module):
    """The mean of a passage's embeddings, and a small perceptron: the tutorial's news classifier."""

    def __init__(self, width: int, sparse: bool) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(VOCABULARY, width, sparse=sparse)
        self.body = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))

    def forward(self, flat: Tensor, offsets: Tensor) -> Tensor:
        return self.body(self.embedding(flat, offsets))


@family("embedding-bag", sparse={"sparse": True}, adagrad={"optimizer": "adagrad", "lr": 0.03}, wide={"width": 160})
def bag(width: int = 64, sparse: bool = False, optimizer: str = "sgd", lr: float = 1.0) -> Workload:
    batches = []
    for tokens, lengths, chosen in passages(64):
        batches.append((tokens[tokens > 0], F.pad(lengths.cumsum(0), (1, 0))[:-1], chosen))
    return prepared(Bag(width, sparse), batches, lambda m, b: F.cross_entropy(m(b[0], b[1]), b[2]), lr, optimizer)


class Sentiment(nn.Module):
    """Embedding, packed recurrent layers, the last states, a head."""

    def __init__(self, kind: Kind, layers: int, both: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 48, padding_idx=0)
        self.rnn = kind(48, 48, layers, batch_first=True, bidirectional=both, dropout=0.2 if layers > 1 else 0.0)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(96 if both else 48, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        _, state = self.rnn(packed)
        last = state[0] if isinstance(state, tuple) else state
        last = torch.cat([last[-2], last[-1]], -1) if self.rnn.bidirectional else last[-1]
        return self.head(last)[:, 0]


@family("packed-sentiment", gru={"kind": nn.GRU}, stacked={"layers": 2}, both={"both": True, "optimizer": "adamax"})
def sentiment(
    kind: Kind = nn.LSTM, layers: int = 1, both: bool = False, optimizer: str = "adam", lr: float = 1e-2
) -> Workload:
    """Which half of the topics a passage is from."""
    batches = [(tokens, lengths, (chosen < 5).float()) for tokens, lengths, chosen in passages(32, 20)]

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch[0], batch[1]), batch[2])

    return prepared(Sentiment(kind, layers, both), batches, loss, lr, optimizer)


class Speller(nn.Module):
    """A plain recurrent network over letters as one-hot vectors; log-probabilities of the word's last letter."""

    def __init__(self, width: int, layers: int, act: str) -> None:
        super().__init__()
        self.rnn = nn.RNN(27, width, layers, nonlinearity=act, batch_first=True)
        self.head, self.out = nn.Linear(width, 27), nn.LogSoftmax(-1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        said, _ = self.rnn(x)
        return self.out(self.head(said[torch.arange(len(x)), lengths - 1]))


@family("letter-rnn", wide={"width": 128}, stacked={"layers": 2}, relu={"act": "relu", "optimizer": "adam", "lr": 3e-3})
def speller(
    width: int = 64, layers: int = 1, act: str = "tanh", optimizer: str = "nesterov", lr: float = 0.03
) -> Workload:
    batches = []
    for rows in _spelled(32):
        x = F.one_hot(_padded([row[:-1] for row in rows]), 27).float()
        batches.append((x, torch.tensor([len(row) - 1 for row in rows]), torch.tensor([row[-1] for row in rows])))
    return prepared(Speller(width, layers, act), batches, lambda m, b: F.nll_loss(m(b[0], b[1]), b[2]), lr, optimizer)


class WordLanguage(nn.Module):
    """The word-level language model of PyTorch's examples, its decoder tied to its encoder."""

    def __init__(self, kind: Kind, vocabulary: int, width: int, tied: bool) -> None:
        super().__init__()
        self.drop, self.encoder = nn.Dropout(0.2), nn.Embedding(vocabulary, width)
        self.rnn, self.decoder = kind(width, width, 2, dropout=0.2), nn.Linear(width, vocabulary)
        if tied:
            self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        said, _ = self.rnn(self.drop(self.encoder(tokens.T)))
        return self.decoder(self.drop(said)).transpose(0, 1)


@family("word-language", gru={"kind": nn.GRU}, apart={"tied": False}, adam={"optimizer": "adam", "lr": 3e-3})
def word_language(kind: Kind = nn.LSTM, tied: bool = True, optimizer: str = "clipped", lr: float = 10.0) -> Workload:
    batches, vocabulary = words(10, 15)
    return prepared(WordLanguage(kind, vocabulary, 48, tied), batches, next_token, lr, optimizer)


class Translator(nn.Module):
    """The tutorial's translation network about `nn.Transformer`, here from words to their reversal."""

    def __init__(self, depth: int, act: str) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(29, 32, padding_idx=0), nn.Embedding(12, 32)
        self.body = nn.Transformer(32, 4, depth, depth, 64, 0.1, act, batch_first=True)
        self.head = nn.Linear(32, 29)
        for one in self.parameters():
            if one.dim() > 1:
                nn.init.xavier_uniform_(one)

    def place_in(self, tokens: Tensor) -> Tensor:
        """Embeddings with those of their places."""
        return self.embed(tokens) * 32**0.5 + self.place(torch.arange(tokens.shape[1]))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        length = target.shape[1]
        ahead = torch.ones(length, length, dtype=torch.bool).triu(1)
        pads = {"src_key_padding_mask": source == 0, "memory_key_padding_mask": source == 0}
        pads["tgt_key_padding_mask"] = target == 0
        return self.head(self.body(self.place_in(source), self.place_in(target), tgt_mask=ahead, **pads))


@family("translation-transformer", deep={"depth": 2}, gelu={"act": "gelu"}, warm={"warm": True, "smooth": 0.1})
def translator(depth: int = 1, act: str = "relu", warm: bool = False, smooth: float = 0.0) -> Workload:
    batches = []
    for rows in _spelled(20):
        batches.append((_padded(rows), _padded([[27, *row[::-1], 28] for row in rows])))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        said = model(batch[0], batch[1][:, :-1])
        return F.cross_entropy(said.transpose(1, 2), batch[1][:, 1:], ignore_index=0, label_smoothing=smooth)

    workload = prepared(Translator(depth, act), batches, loss, 3e-3, "attention")
    return scheduled(workload, lambda step: min((step + 1) / 20, 1.0)) if warm else workload


@family("raw-audio", wide={"width": 48}, leaky={"act": nn.LeakyReLU}, steps={"decay": True, "lr": 1e-2})
def raw_audio(width: int = 24, act: Act = nn.ReLU, decay: bool = False, lr: float = 5e-3) -> Workload:
    """Strided convolutions on the raw wave, as in the speech-command tutorial."""
    layers: list[nn.Module] = []
    for number, (kernel, stride) in enumerate([(16, 2), (3, 1), (3, 1)]):
        inputs, outputs = (width if number else 1), width * (2 if number == 2 else 1)
        layers += [nn.Conv1d(inputs, outputs, kernel, stride), nn.BatchNorm1d(outputs), act(), nn.MaxPool1d(2)]
    layers += [nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(8 * width, 10), nn.LogSoftmax(-1)]
    batches = [(F.interpolate(x[:, None], size=120, mode="linear"), y) for x, y in waves(32)]
    workload = prepared(nn.Sequential(*layers), batches, lambda m, b: F.nll_loss(m(b[0]), b[1]), lr, "decayed")
    return scheduled(workload, lambda step: 0.5 ** (step // 30)) if decay else workload


class Forecast(nn.Module):
    """A recurrent network reads the past; its last output tells the future at once."""

    def __init__(self, kind: Kind, width: int) -> None:
        super().__init__()
        self.rnn, self.drop = kind(1, width, batch_first=True), nn.Dropout(0.1)
        self.dense, self.out = nn.Linear(width, width), nn.Linear(width, 8)

    def forward(self, x: Tensor) -> Tensor:
        said, _ = self.rnn(x[..., None])
        return self.out(F.relu(self.dense(self.drop(said[:, -1]))))


def halves(size: int = 32) -> list[tuple[Tensor, Tensor]]:
    """The first 32 values of standardized waves, and the eight that follow."""
    found = waves(size)
    scale = torch.stack([x for x, _ in found]).std()
    return [(x[:, :32] / scale, x[:, 32:] / scale) for x, _ in found]


@family("wave-forecast", gru={"kind": nn.GRU}, wide={"width": 80}, rmsprop={"optimizer": "rmsprop", "lr": 2e-3})
def forecast(kind: Kind = nn.LSTM, width: int = 40, optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    return prepared(Forecast(kind, width), halves(), lambda m, b: F.huber_loss(m(b[0]), b[1]), lr, optimizer)


class Segmenter(nn.Module):
    """Convolutions give each letter a score per tag; a chain of tags is scored as a whole."""

    def __init__(self, width: int, kernel: int, act: Act) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, 24)
        self.body = nn.Sequential(
            nn.Conv1d(24, width, kernel, padding="same"), act(),
            nn.Conv1d(width, width, kernel, padding="same"), act(), nn.Conv1d(width, 3, 1),
        )  # fmt: skip
        self.follow = nn.Parameter(torch.randn(3, 3) * 0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.body(self.embed(tokens).transpose(1, 2)).transpose(1, 2)

    def unlikelihood(self, scores: Tensor, tags: Tensor) -> Tensor:
        """The negative log-likelihood of the tags, for one letter."""
        total = scores[:, 0]
        for now in scores[:, 1:].unbind(1):
            total = torch.logsumexp(total[:, :, None] + self.follow, 1) + now
        own = scores.gather(2, tags[..., None]).sum((1, 2)) + self.follow[tags[:, :-1], tags[:, 1:]].sum(1)
        return (total.logsumexp(1) - own).mean() / tags.shape[1]


@functools.cache
def _unspaced() -> list[tuple[Tensor, Tensor]]:
    out = []
    for text in characters(16, 48):
        rows, tags = [], []
        for row in text.tolist():
            kept = [(code, row[i]) for i, code in enumerate(row[1:]) if code > 32][:28]
            kept += [(46, 46)] * (28 - len(kept))
            rows.append([code for code, _ in kept])
            tags.append([2 if not chr(code).isalnum() else int(chr(last).isalnum()) for code, last in kept])
        out.append((torch.tensor(rows), torch.tensor(tags)))
    return out


@family("crf-segmenter", tanh={"act": nn.Tanh}, long={"kernel": 7}, momentum={"optimizer": "momentum", "lr": 0.1})
def segmenter(kernel: int = 3, act: Act = nn.ReLU, optimizer: str = "adam", lr: float = 5e-3) -> Workload:
    """Where words begin in text without blanks."""

    def loss(model: Segmenter, batch: tuple[Tensor, Tensor]) -> Tensor:
        return model.unlikelihood(model(batch[0]), batch[1])

    return prepared(Segmenter(40, kernel, act), list(_unspaced()), loss, lr, optimizer)  # type: ignore[arg-type]
