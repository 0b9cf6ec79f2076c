"""Healthy recurrent networks on text and series, with embeddings most rows of which are rare."""

from __future__ import annotations

from torch import Tensor, nn

from diag.train.workload import Workload
from tests.corpus.case import healthy
from tests.corpus.data import CHARACTERS, characters, digits, waves, words
from tests.corpus.nets import Clipped, adam, next_token


class Language(nn.Module):
    """Embedding, recurrent layers, head."""

    def __init__(self, kind: type[nn.RNNBase], vocabulary: int, width: int = 64, layers: int = 1) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.rnn = kind(width, width, layers, batch_first=True)  # type: ignore[arg-type]
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(tokens))[0])


class Rows(nn.Module):
    """Reads a digit row by row with a cell called in a loop."""

    def __init__(self, cell: type[nn.RNNCellBase], width: int = 48) -> None:
        super().__init__()
        self.cell = cell(8, width)  # type: ignore[call-arg]
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for row in x.reshape(-1, 8, 8).unbind(1):
            state = self.cell(row, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Series(nn.Module):
    """A bidirectional GRU over a series, averaged over time."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 24, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x[..., None])[0].mean(1))


def _language(kind: type[nn.RNNBase], layers: int = 1) -> Workload:
    return adam(Language(kind, CHARACTERS, layers=layers), characters(), 5e-3, next_token)


def _large_vocabulary() -> Workload:
    batches, vocabulary = words()
    return adam(Language(nn.LSTM, vocabulary, 32), batches, 5e-3, next_token)


def _clipped() -> Workload:
    model = Language(nn.LSTM, CHARACTERS)
    return Workload(model, characters(), next_token, Clipped(model.parameters(), 2.0, 1.0))


CASES = [
    healthy("rnn-lstm-characters", lambda: _language(nn.LSTM, 2), "most embedding rows are rare"),
    healthy("rnn-gru-characters", lambda: _language(nn.GRU)),
    healthy("rnn-tanh-characters", lambda: _language(nn.RNN)),
    healthy("rnn-lstm-large-vocabulary", _large_vocabulary, "thousands of words, most unseen in a batch"),
    healthy("rnn-lstm-clipped-sgd", _clipped, "gradient clipping inside the step"),
    healthy("rnn-cell-loop", lambda: adam(Rows(nn.RNNCell), digits(), 5e-3), "a module called 8 times"),
    healthy("rnn-lstm-cell-loop", lambda: adam(Rows(nn.LSTMCell), digits(), 1e-2), "a module called 8 times"),
    healthy("rnn-gru-bidirectional", lambda: adam(Series(), waves(), 1e-2)),
]
