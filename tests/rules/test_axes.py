"""Sequence modules that mix the samples of a batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import diag

N, TIME, FEATURES, CLASSES = 16, 9, 6, 3
X = torch.randn(N, TIME, FEATURES, generator=torch.Generator().manual_seed(0))
LABELS = X[:, -1, :CLASSES].argmax(1)


class Tagger(nn.Module):
    """A sequence module, what it is fed with, and what is kept of its output."""

    def __init__(self, sequence: nn.Module, before: Callable[..., torch.Tensor], after: Callable[..., torch.Tensor]):
        super().__init__()
        self.sequence, self.before, self.after = sequence, before, after
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        attends = isinstance(self.sequence, nn.MultiheadAttention)
        return self.head(self.after((self.sequence(x, x, x) if attends else self.sequence(x))[0]))


def _found(model: nn.Module, x: torch.Tensor, labels: torch.Tensor, steps: int = 8) -> list[diag.Finding]:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with diag.watch(model) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()
        diagnosis = watch.diagnose()
    every = [two for one in diagnosis.findings for two in (one, *one.consequences)]
    return [one for one in every if one.evidence.get("of") == "batch axis"]


def _last(h: torch.Tensor) -> torch.Tensor:
    return h[:, -1]


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


SEQUENCES = {
    "lstm": lambda first: nn.LSTM(FEATURES, FEATURES, batch_first=first),
    "gru": lambda first: nn.GRU(FEATURES, FEATURES, batch_first=first),
    "attention": lambda first: nn.MultiheadAttention(FEATURES, 2, batch_first=first),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_samples_taken_for_time_are_an_error(name: str) -> None:
    torch.manual_seed(0)
    (finding,) = _found(Tagger(SEQUENCES[name](False), _same, _last), X, LABELS)
    assert (finding.rule, finding.severity, finding.site) == ("loss-not-decreasing", "error", "sequence")
    assert f"a batch of {N} samples of {TIME} steps counts as {N} steps of {TIME} samples" in finding.message
    assert finding.evidence["shape"] == [N, TIME]


@pytest.mark.parametrize("name", SEQUENCES)
def test_both_right_ways_are_silent(name: str) -> None:
    torch.manual_seed(0)
    assert not _found(Tagger(SEQUENCES[name](True), _same, _last), X, LABELS)
    assert not _found(Tagger(SEQUENCES[name](False), lambda x: x.transpose(0, 1), lambda h: h[-1]), X, LABELS)


def test_one_long_sequence_and_a_label_per_step_are_silent() -> None:
    torch.manual_seed(0)
    model = Tagger(nn.LSTM(FEATURES, FEATURES), lambda x: x[:, :1], lambda h: h[:, 0])
    assert not _found(model, X, LABELS)


def test_a_loss_over_all_steps_is_silent() -> None:
    torch.manual_seed(0)
    model = Tagger(nn.LSTM(FEATURES, FEATURES), lambda x: x.transpose(0, 1), lambda h: h.flatten(0, 1))
    assert not _found(model, X, LABELS.repeat(TIME))


class Mixer(nn.Module):
    """Attention over positions that is written out, or a softmax over something else."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.take, self.head = how, nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, CLASSES)
        self.softmax = nn.Softmax(0 if how == "module" else -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "positions first":
            x = x.transpose(0, 1)
            return self.head((F.softmax(self.take(x), dim=0) * x).sum(0))
        scores = self.take(x) @ x.transpose(1, 2)
        if self.how == "pairs":
            samples = (x.mean(1) @ x.mean(1).t()).softmax(0)
            return self.head((samples @ x.mean(1)) + x[:, -1])
        weights = {
            "function": lambda: F.softmax(scores, dim=0),
            "negative": lambda: scores.softmax(-3),
            "logarithm": lambda: torch.log_softmax(scores, 0).exp(),
        }.get(self.how, lambda: self.softmax(scores))()
        return self.head((weights @ x)[:, -1])


@pytest.mark.parametrize(
    ("how", "site"),
    [
        ("function", "Mixer:softmax"),
        ("negative", "Mixer:softmax"),
        ("logarithm", "Mixer:log_softmax"),
        ("module", "softmax"),
        ("right", None),
        ("positions first", None),
        ("pairs", None),
    ],
)
def test_a_softmax_over_the_samples(how: str, site: str | None) -> None:
    torch.manual_seed(0)
    found = _found(Mixer(how), X, LABELS)
    assert [(one.severity, one.site) for one in found] == ([("error", site)] if site else [])
    if found:
        assert found[0].evidence["shape"] == [N, TIME, TIME] and "16 samples" in found[0].message


class Policy(nn.Module):
    """over: the dimension of its softmax."""

    def __init__(self, over: int) -> None:
        super().__init__()
        self.over, self.body, self.choice, self.worth = over, nn.Linear(4, 16), nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.body(x).tanh()
        return F.softmax(self.choice(h), dim=self.over), self.worth(h).squeeze(-1)


@pytest.mark.parametrize(("over", "samples", "count"), [(0, 32, 1), (-1, 32, 0), (0, 1, 0)])
def test_a_softmax_over_samples_of_which_each_is_judged_by_a_number(over: int, samples: int, count: int) -> None:
    torch.manual_seed(0)
    net, x = Policy(over), torch.randn(samples, 4)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with diag.watch(net) as watching:
        for _ in range(12):
            chances, worth = net(x)
            loss = F.mse_loss(worth, x[:, 0]) - chances[:, 0].log().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert len([one for one in watching.diagnose().findings if one.evidence.get("of") == "batch axis"]) == count


class Averaging(nn.Module):
    """over: the dimension of a mean between its layers; dead: units in place of that, whose ReLU is another layer's
    too."""

    def __init__(self, over: int | None, dead: bool = False) -> None:
        super().__init__()
        self.over = over
        self.first, self.below, self.above = nn.Linear(6, 6), nn.Linear(6, 8), nn.Linear(8, 3)
        if dead:
            nn.init.constant_(self.below.bias, -100.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.below(self.first(x).relu()).relu()
        return self.above(h if self.over is None else h.mean(self.over, keepdim=True).expand_as(h))


@pytest.mark.parametrize(("over", "dead", "count"), [(0, False, 1), (1, False, 0), (None, False, 0), (None, True, 0)])
def test_an_average_over_the_batch(over: int | None, dead: bool, count: int) -> None:
    torch.manual_seed(0)
    model = Averaging(over, dead)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with diag.watch(model) as watch:
        for _ in range(5):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(torch.randn(16, 6)), torch.randint(3, (16,))).backward()
            optimizer.step()
    every = [two for one in watch.diagnose().findings for two in (one, *one.consequences)]
    told = [one for one in every if one.evidence.get("of") == "averaged"]
    assert [(one.severity, one.site) for one in told] == [("error", "above")] * count


@pytest.mark.parametrize("by_module", [True, False])
@pytest.mark.parametrize(
    ("shape", "dim", "count"),
    [((12, 4), 0, 1), ((12, 4), 1, 0), ((12, 4), -1, 0), ((6, 4, 3), 2, 1), ((6, 4, 3), 1, 0)],
)
def test_a_log_softmax_over_something_else_than_classes(
    shape: tuple[int, ...], dim: int, count: int, by_module: bool
) -> None:
    torch.manual_seed(0)
    model = nn.Conv1d(2, 4, 1) if len(shape) == 3 else nn.Linear(2, 4)
    given = (shape[0], 2, *shape[2:])
    optimizer, criterion = torch.optim.SGD(model.parameters(), 0.1), nn.NLLLoss() if by_module else F.nll_loss
    with diag.watch(model) as watch:
        for _ in range(5):
            optimizer.zero_grad()
            criterion(
                F.log_softmax(model(torch.randn(given)), dim), torch.randint(4, (shape[0], *shape[2:]))
            ).backward()
            optimizer.step()
    errors = [one for one in watch.diagnose().findings if one.severity == "error"]
    assert [one.evidence["of"] for one in errors if one.rule == "loss-not-decreasing"] in (
        [["log-probabilities"], ["class axis"]] if count else [[]]
    )
