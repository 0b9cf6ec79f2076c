"""Evaluation that does not fit the training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diag
from diag.rules.judge import judge
from tests.rules.traces import chain

GENERATOR = torch.Generator().manual_seed(3)
CENTERS = torch.randn(5, 12, generator=GENERATOR)
Y = torch.arange(400) % 5
X = CENTERS[Y] + 0.5 * torch.randn(400, 12, generator=GENERATOR)
TRAIN, TEST = slice(0, 200), slice(200, 400)


def found(
    evaluated: Tensor = X[TEST],
    labels: Tensor = Y,
    momentum: float = 0.1,
    epochs: int = 15,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    every: int = 1,
    knows_loss: bool = True,
    width: int = 64,
) -> list[tuple[str, str, str]]:
    """Severity, what of, and site of what evaluations after each epoch show."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, width), nn.BatchNorm1d(width, momentum=momentum), nn.ReLU(), nn.Linear(width, 5))
    optimizer, criterion = torch.optim.Adam(net.parameters(), 1e-2), nn.CrossEntropyLoss()

    def judged(out: Tensor) -> None:
        criterion(out, labels[TEST])

    with diag.watch(net, every=every) as watch:
        for _ in range(epochs):
            net.train()
            for rows in torch.randperm(200).split(50):
                optimizer.zero_grad()
                (loss or criterion)(net(X[TRAIN][rows]), labels[TRAIN][rows]).backward()
                optimizer.step()
            with torch.no_grad():
                out = net.eval()(evaluated)
                if knows_loss:
                    judged(out)
    findings = watch.diagnose().findings
    return [
        (one.severity, one.evidence["of"], one.site)
        for one in findings
        if one.rule == "evaluation-mismatch" or one.evidence.get("of") == "momentum"
    ]


def squared(out: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(out, F.one_hot(labels, 5).float())


@pytest.mark.parametrize("every", [1, 3])
def test_a_healthy_evaluation_says_nothing(every: int) -> None:
    assert found(every=every) == []
    assert found(every=every, epochs=2) == []


@pytest.mark.parametrize("factor", [255.0, 15.0, 1 / 15])
def test_inputs_of_another_size(factor: float) -> None:
    assert found(factor * X[TEST]) == [("error", "evaluated input", "Sequential:input")]
    assert found(factor * X[TEST], knows_loss=False) == [("error", "evaluated input", "Sequential:input")]


@pytest.mark.parametrize("factor", [1.0, 5.0, 0.2])
def test_inputs_of_about_the_same_size(factor: float) -> None:
    assert found(factor * X[TEST], knows_loss=False) == []


def test_where_no_classes_are_told_apart_they_may_be_meant() -> None:
    assert found(20 * X[TEST], loss=squared) == [("warning", "evaluated input", "Sequential:input")]


def test_running_statistics_that_lag_behind() -> None:
    shifted = 30 * X + 100
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(12, momentum=0.002), nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 5))
    optimizer, criterion = torch.optim.Adam(net.parameters(), 1e-2), nn.CrossEntropyLoss()
    with diag.watch(net) as watch:
        for _ in range(40):
            optimizer.zero_grad()
            criterion(net.train()(shifted[TRAIN]), Y[TRAIN]).backward()
            optimizer.step()
        with torch.no_grad():
            criterion(net.eval()(shifted[TEST]), Y[TEST])
    [error] = [one for one in watch.diagnose().findings if one.severity == "error"]
    assert (error.rule, error.site, error.evidence["of"]) == ("evaluation-mismatch", "0", "statistics")
    assert error.evidence["evaluated"] > 3 * error.evidence["trained"]


def test_labels_that_belong_to_other_inputs_are_learned_by_heart() -> None:
    shuffled = Y[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    [one] = found(labels=shuffled, epochs=60, width=256)
    assert one == ("error", "evaluated loss", "loss:cross_entropy")
    assert found(labels=shuffled, epochs=60, width=256, knows_loss=False) == []


def test_two_evaluations_are_too_few_to_speak_of_never() -> None:
    shuffled = Y[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    assert found(labels=shuffled, epochs=2) == []


class Dropping(nn.Module):
    """Drops by a function, which is told of the mode or is not."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.first, self.last = how, nn.Linear(12, 64), nn.Linear(64, 5)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        if self.how == "forgotten":
            x = F.dropout(x, 0.3)
        elif self.how == "told":
            x = F.dropout(x, 0.3, training=self.training)
        elif self.how == "meant":
            x = F.dropout(x, 0.3, training=True)
        elif self.how == "attention":
            x = F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], dropout_p=0.2)[:, 0]
        else:
            x = self.dropout(x)
        return self.last(x)


@pytest.mark.parametrize(
    ("how", "share"),
    [("forgotten", 0.3), ("attention", 0.2), ("told", None), ("meant", None), ("module", None), ("left on", None)],
)
def test_dropout_that_is_not_told_of_the_mode(how: str, share: float | None) -> None:
    torch.manual_seed(0)
    net = Dropping(how)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    with diag.watch(net) as watch:
        for _ in range(30):
            optimizer.zero_grad()
            F.cross_entropy(net.train()(X[TRAIN]), Y[TRAIN]).backward()
            optimizer.step()
        net.eval()
        if how == "left on":  # as for an ensemble of passes
            net.dropout.train()
        with torch.no_grad():
            net(X[TEST])
    findings = [one for one in watch.diagnose().findings if one.rule == "evaluation-mismatch"]
    assert [one.evidence["share"] for one in findings] == ([share] if share else [])
    assert [one.severity for one in findings] == ["error"] * len(findings)


@pytest.mark.parametrize(
    ("batch", "eval_mode", "norm", "severity"),
    [
        (1, "", True, "error"),
        (200, "", True, "warning"),
        (1, "", False, None),
        (1, "all", True, None),
        (200, "norm", True, None),  # all of it that evaluation mode would change
    ],
)
def test_a_test_in_training_mode(batch: int, eval_mode: str, norm: bool, severity: str | None) -> None:
    torch.manual_seed(0)
    middle: nn.Module = nn.BatchNorm2d(8) if norm else nn.Identity()
    net = nn.Sequential(nn.Conv2d(1, 8, 2), middle, nn.ReLU(), nn.Flatten(), nn.Linear(32, 5))
    images = X.view(400, 1, 4, 3)[:, :, :3]
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    with diag.watch(net) as watch:
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(net(images[TRAIN]), Y[TRAIN]).backward()
            optimizer.step()
        if eval_mode:
            (middle if eval_mode == "norm" else net).eval()
        with torch.no_grad():
            for rows in torch.arange(200, 400).split(batch):
                net(images[rows])
    findings = [one for one in watch.diagnose().findings if one.evidence.get("of") == "training mode"]
    assert [one.severity for one in findings] == ([severity] if severity else [])
    if findings:
        assert findings[0].evidence["samples"] == batch


def test_known_to_lag_behind_a_smaller_difference_is_enough() -> None:
    """And the loss may be computed outside of no_grad()."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(12, momentum=0.001), nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 5))
    optimizer, criterion = torch.optim.Adam(net.parameters(), 1e-2), nn.CrossEntropyLoss()
    x = 4 * X + 6
    with diag.watch(net) as watch:
        for _ in range(60):
            optimizer.zero_grad()
            criterion(net.train()(x[TRAIN]), Y[TRAIN]).backward()
            optimizer.step()
        with torch.no_grad():
            out = net.eval()(x[TEST])
        criterion(out, Y[TEST])
    [error] = [one for one in watch.diagnose().findings if one.severity == "error"]
    assert (error.evidence["of"], error.site) == ("statistics", "0")
    assert len(watch.trace.frame[watch.trace.frame["site"] == "loss:cross_entropy"]) == 60


def by_accuracy(
    trained: Tensor, wanted: Tensor, samples: int = 200, epochs: int = 40, loss: str = "cross_entropy"
) -> list[str]:
    """What of, where nothing but the accuracy of a model without modes is looked at, once."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 128), nn.ReLU(), nn.Linear(128, 5))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    with diag.watch(net) as watch:
        for _ in range(epochs):
            for rows in torch.randperm(200).split(50):
                optimizer.zero_grad()
                getattr(F, loss)(net(X[TRAIN][rows]), trained[rows]).backward()
                optimizer.step()
        with torch.no_grad():
            said = wanted[:samples]
            torch.eq(net(X[TEST][:samples]).argmax(1), said)
    return [one.evidence["of"] for one in watch.diagnose().findings if one.rule == "evaluation-mismatch"]


def test_accuracy_of_a_guess_beside_a_training_that_learns() -> None:
    shuffled = Y[TRAIN][torch.randperm(200, generator=GENERATOR)]
    assert by_accuracy(shuffled, Y[TEST]) == ["tested samples"]
    assert by_accuracy(Y[TRAIN], (Y[TEST] + 1) % 5) == ["tested samples"]  # classes numbered otherwise


def test_accuracy_that_tells_nothing() -> None:
    shuffled = Y[TRAIN][torch.randperm(200, generator=GENERATOR)]
    assert by_accuracy(Y[TRAIN], Y[TEST]) == []
    assert by_accuracy(shuffled, Y[TEST], samples=20) == []  # too few
    assert by_accuracy(shuffled, Y[TEST], epochs=1) == []  # nothing is learned yet
    rare = torch.where(torch.arange(200) % 20 == 0, 1, 0)
    assert by_accuracy(rare[torch.randperm(200, generator=GENERATOR)], rare, epochs=4) == []


@pytest.mark.parametrize(
    ("tested", "trained", "right", "steps", "errors"),
    [
        (1.7, 1.5, 90, 120, 1),
        (1.62, 1.5, 90, 120, 0),
        (1.7, 1.61, 90, 120, 0),
        (1.7, 1.5, 140, 120, 0),
        (1.7, 1.5, 90, 60, 0),
    ],
    ids=["worse than a guess", "as good", "nothing is learned", "some are told right", "it has just begun"],
)
def test_what_was_learned_is_of_no_use(tested: float, trained: float, right: int, steps: int, errors: int) -> None:
    net = chain(loss=trained, steps=steps).output("loss:cross_entropy", "loss", "cross_entropy", units=5, gradient=None)
    net.output("loss:cross_entropy[value]", "loss", "cross_entropy", units=1, samples=1, mean=trained, gradient=None)
    labels = {str(label): 100 for label in range(5)}
    test = {
        "line": 0,
        "step": steps - 1,
        "columns": 5,
        "samples": 500,
        "right": right,
        "labels": labels,
        "loss": tested,
    }
    net.coverage["answers"] = {"": [test]}
    kinds = [one.evidence.get("of") for one in judge(net.build(), {}) if one.rule == "evaluation-mismatch"]
    assert kinds == ["tested samples"] * errors


def test_a_cross_entropy_of_equal_logits_is_a_guess_and_no_sum() -> None:
    """It may lie above log(classes) by rounding."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
    nn.init.constant_(net[0].bias, -50.0)
    nn.init.constant_(net[2].bias, -3.0)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    with diag.watch(net) as watch:
        for rows in torch.randperm(200).split(40):
            optimizer.zero_grad()
            F.cross_entropy(net(X[TRAIN][rows]), Y[TRAIN][rows]).backward()
            optimizer.step()
        with torch.no_grad():
            (net(X[TEST]).argmax(1) == Y[TEST]).float().mean()
    assert not [one for one in watch.diagnose().findings if one.rule == "evaluation-mismatch"]


def test_what_has_become_nan_is_not_asked_for_answers() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(net.parameters(), 0.02)
    with diag.watch(net) as watch:
        for step in range(150):
            rows = torch.randint(0, 200, (64,))
            optimizer.zero_grad()
            F.mse_loss(net(X[rows]), X[rows, :1]).backward()
            optimizer.step()
            if step == 149:
                with torch.no_grad():
                    net[2].weight.fill_(float("nan"))
        with torch.no_grad():
            F.mse_loss(net(X[TEST]), X[TEST, :1])
    assert not [one for one in watch.diagnose().findings if one.rule == "evaluation-mismatch"]


class Factors(nn.Module):
    """std: of its embeddings, at first."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.rows, self.columns = nn.Embedding(60, 64), nn.Embedding(40, 64)
        for table in (self.rows, self.columns):
            nn.init.normal_(table.weight, std=std)

    def forward(self, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        return (self.rows(row) * self.columns(column)).sum(1)


def _tested(net: nn.Module, row: torch.Tensor, column: torch.Tensor, wanted: torch.Tensor) -> float:
    with torch.no_grad():
        return float(F.mse_loss(net(row, column), wanted))


@pytest.mark.parametrize(("std", "wide"), [(1.0, True), (0.1, False)])
def test_factors_that_begin_far_too_large_learn_each_sample_by_heart(std: float, wide: bool) -> None:
    torch.manual_seed(0)
    row, column = torch.randint(60, (800,)), torch.randint(40, (800,))
    wanted = (torch.randn(60, 4)[row] * torch.randn(40, 4)[column]).sum(1)
    net = Factors(std)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    with diag.watch(net) as watch:
        for _ in range(40):
            for batch in torch.randperm(600).split(100):
                optimizer.zero_grad()
                ((net(row[batch], column[batch]) - wanted[batch]) ** 2).mean().backward()
                optimizer.step()
        _tested(net, row[600:], column[600:], wanted[600:])
    told = [one for one in watch.diagnose().findings if one.evidence.get("of") == "tested pairs"]
    assert [one.severity for one in told] == (["error"] if wide else [])
    assert all("far too large from the start" in one.message and "0.02" in one.remedy for one in told)
