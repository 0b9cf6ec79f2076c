"""Losses in a loop of the user's own that are functions or written out: what is seen is what a module would show."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy as imported

import diag
from diag.probe import loss_graph
from diag.rules.judge import judge

Loss = Callable[[Tensor, Tensor], Tensor]


def watched(
    loss: Loss, target: Tensor, *last: nn.Module, outputs: int = 4, steps: int = 3, hold: bool = True
) -> pd.DataFrame:
    """The rows beside a loss of a training watched; hold: whether the user keeps what the model has returned."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, outputs), *last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(len(target), 6)
    with diag.watch(model, optimizer) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            if hold:
                predicted = model(x)
                loss(predicted, target).backward()
            else:
                loss(model(x), target).backward()
            optimizer.step()
            watch.step()
    frame = watch.trace.frame
    frame = frame[frame["site"].str.startswith("loss:")]
    return frame.assign(shape=frame["site"].map(watch.trace.sites.set_index("site")["shape"]))


classes = torch.arange(32) % 4
numbers = torch.linspace(-1, 2, 128).view(32, 4)
CASES: dict[str, tuple[Loss, nn.Module, Tensor, tuple[nn.Module, ...]]] = {
    "mse_loss": (F.mse_loss, nn.MSELoss(), numbers, ()),
    "smooth_l1_loss": (F.smooth_l1_loss, nn.SmoothL1Loss(), numbers, ()),
    "huber_loss": (F.huber_loss, nn.HuberLoss(), numbers, ()),
    "nll_loss": (F.nll_loss, nn.NLLLoss(), classes, (nn.LogSoftmax(1),)),
    "binary_cross_entropy": (F.binary_cross_entropy, nn.BCELoss(), numbers.sigmoid(), (nn.Sigmoid(),)),
    "binary_cross_entropy_with_logits": (
        F.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss(), numbers.sigmoid(), (),
    ),
    "cross_entropy": (F.cross_entropy, nn.CrossEntropyLoss(), classes, ()),
}  # fmt: skip
COLUMNS = ["step", "site", "op", "shape", "count", "mean", "rms", "min", "max", "zero_fraction"]


@pytest.mark.parametrize("name", CASES)
def test_a_function_shows_what_its_module_shows(name: str) -> None:
    function, module, target, last = CASES[name]
    ours, theirs = (watched(one, target, *last)[COLUMNS].reset_index(drop=True) for one in (function, module))
    assert set(ours["op"]) >= {name}
    pd.testing.assert_frame_equal(ours.sort_values(["step", "site"], ignore_index=True),
                                  theirs.sort_values(["step", "site"], ignore_index=True), rtol=1e-6)  # fmt: skip


@pytest.mark.parametrize("hold", [True, False])
def test_logits_that_nobody_holds_are_known_but_for_a_number_per_sample(
    hold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_graph, "_SMALL", 0)  # or they would be held until the loss is known
    rows = watched(imported, classes, hold=hold)
    given = rows[rows["site"] == "loss:cross_entropy"]
    held = watched(nn.CrossEntropyLoss(), classes)
    other = held[held["site"] == "loss:cross_entropy"]
    assert (math.isclose(given["max"].iloc[0], other["max"].iloc[0], rel_tol=1e-6)) is hold
    assert given["max"].iloc[0] <= 0 or hold
    scores, wanted = (one[one["site"] == "loss:cross_entropy[pairing]"]["mean"] for one in (rows, held))
    assert len(scores) == len(wanted) > 0
    assert scores.tolist() == pytest.approx(wanted.tolist(), rel=1e-4)


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("squash", [nn.Softmax(1), nn.Sigmoid()])
def test_an_output_squashed_twice_is_found(squash: nn.Module, hold: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4), squash)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x = torch.randn(32, 6)
    with diag.watch(model, optimizer) as watch:
        for _ in range(12):
            optimizer.zero_grad()
            out = model(x)
            loss = F.cross_entropy(out, classes) if hold else F.cross_entropy(model(x), classes)
            del out
            loss.backward()
            optimizer.step()
    found = [one for one in judge(watch.trace) if one.severity == "error"]
    assert [(one.rule, one.site) for one in found] == [("loss-not-decreasing", "3")]
    assert "twice" in found[0].message


@pytest.mark.parametrize("view", [lambda out: out.squeeze(1), lambda out: out.view(-1), lambda out: out.t().squeeze()])
def test_a_squash_behind_a_view_is_found(view: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer, criterion = torch.optim.Adam(model.parameters(), lr=1e-2), nn.BCEWithLogitsLoss()
    with diag.watch(model, optimizer) as watch:
        for _ in range(12):
            optimizer.zero_grad()
            criterion(view(torch.sigmoid(model(torch.randn(32, 6)))), torch.ones(32)).backward()
            optimizer.step()
    kinds = [one.evidence.get("of") for one in judge(watch.trace) if one.severity == "error"]
    assert kinds == ["squash"]


@pytest.mark.parametrize(
    "loss",
    [
        F.mse_loss,
        F.smooth_l1_loss,
        lambda p, y: ((p - y) ** 2).mean(),
        lambda p, y: (y - p).abs().mean(),
        lambda p, y: (p - y).square().sum() / 32,
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_column_against_a_row_is_found(loss: Loss) -> None:
    y = torch.linspace(-1, 1, 32)
    rows = watched(loss, y, outputs=1)
    shapes = dict(zip(rows["site"], rows["shape"], strict=True))
    (target,) = (site for site in shapes if site.endswith("[target]"))
    assert (shapes[target.removesuffix("[target]")], shapes[target]) == ("32x1", "32")
    got = rows[rows["site"] == target].iloc[0]
    assert (got["min"], got["max"]) == pytest.approx((-1, 1), abs=1e-5)


def test_the_sign_of_a_loss_that_is_turned_is_found() -> None:
    rows = watched(lambda p, y: -F.mse_loss(p, y), numbers)
    assert (rows[rows["site"] == "loss:mse_loss[value]"]["mean"] > 0).all()


def test_what_is_no_loss_of_a_watched_model_is_not_told() -> None:
    model, other = nn.Linear(4, 2), nn.Linear(4, 2)
    with diag.watch(model) as watch:
        for _ in range(2):
            model(torch.randn(8, 4)).sum().backward()
            F.mse_loss(other(torch.randn(8, 4)), torch.randn(8, 2)).backward()
            watch.step()
    assert not watch.trace.frame["site"].str.startswith("loss:").any()


def test_a_loss_in_the_model_is_told_once() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 4)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(self.layer(x), y)

    model = Own()
    with diag.watch(model) as watch:
        model(torch.randn(32, 6), classes).backward()
        watch.step()
    assert [one for one in watch.trace.frame["site"] if one.endswith(":cross_entropy")] == ["Own:cross_entropy"]


def test_several_losses_of_one_backward_pass_each_count() -> None:
    rows = watched(lambda p, y: F.mse_loss(p, y) + F.mse_loss(p[:16], y[16:]), numbers)
    assert set(rows[rows["site"] == "loss:mse_loss"]["call"]) == {0, 1}


def test_training_is_as_unwatched() -> None:
    def weights(watches: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))
        optimizer = torch.optim.Adam(model.parameters())
        x = torch.randn(32, 6)
        with diag.watch(model, optimizer) if watches else torch.enable_grad():
            for _ in range(4):
                optimizer.zero_grad()
                (F.cross_entropy(model(x), classes) + ((model(x) - numbers) ** 2).mean()).backward()
                optimizer.step()
        return [one.detach() for one in model.parameters()]

    assert all(map(torch.equal, weights(True), weights(False)))


def test_a_freed_graph_fails_as_it_would_unwatched() -> None:
    model = nn.Linear(6, 4)
    with diag.watch(model):
        loss = F.cross_entropy(model(torch.randn(32, 6)), classes)
        loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()


def test_a_pass_from_an_edge_of_the_graph_goes_on_as_unwatched() -> None:
    model = nn.Linear(6, 4)
    with diag.watch(model):
        output = model(torch.randn(8, 6))
        edge = torch.autograd.graph.get_gradient_edge(output)
        torch.autograd.backward([edge], [torch.ones(8, 4)])
    assert model.bias.grad is not None
    assert torch.equal(model.bias.grad, torch.full((4,), 8.0))


@pytest.mark.parametrize("dim", [1, -1])
@pytest.mark.parametrize(("squash", "sums"), [(F.softmax, math.log(4 * math.exp(0.25))), (F.log_softmax, 0.0)])
def test_what_a_divergence_is_given_is_read_off_the_graph(squash: Callable[..., Tensor], sums: float, dim: int) -> None:
    target = F.softmax(3 * numbers, 1)
    frame = watched(lambda out, q: F.kl_div(squash(out, dim=dim), q, reduction="batchmean"), target)
    rows = frame[frame["site"] == "loss:kl_div[log_sum]"]
    assert len(rows) == 2  # of three steps, since targets are looked at in every second one
    assert rows["mean"].to_numpy() == pytest.approx(sums, abs=0.02)


def test_what_only_looks_like_a_divergence_is_none() -> None:
    frame = watched(lambda out, t: (t - t * F.softmax(out, 1)).abs().sum(), numbers)
    assert not frame["site"].str.contains("kl_div").any()


@pytest.mark.parametrize("scaled", [lambda loss: loss / 4, lambda loss: -(2.0 * loss) / 8, lambda loss: loss * 65536.0])
def test_a_loss_that_a_number_multiplies_is_known_by_its_value(scaled: Callable[[Tensor], Tensor]) -> None:
    plain = watched(F.cross_entropy, classes, steps=1)
    frame = watched(lambda out, target: scaled(F.cross_entropy(out, target)), classes, steps=1)
    value = [one.loc[one["site"] == "loss:cross_entropy[value]", "mean"].item() for one in (plain, frame)]
    assert value[1] == pytest.approx(value[0], rel=1e-6)


@pytest.mark.parametrize("times", [lambda x: 0.1 * x.tanh(), lambda x: x.tanh() / 10])
def test_logits_that_are_a_number_times_what_is_kept(times: Callable[[Tensor], Tensor]) -> None:
    """Nobody holds them, but tanh keeps what it put out."""

    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return times(10 * x)

    rows = watched(F.cross_entropy, classes, Scaled(), hold=False)
    given = rows[rows["site"] == "loss:cross_entropy"]
    assert given["max"].between(0.05, 0.1).all()
    assert given["min"].between(-0.1, -0.05).all()


QUANTILES = torch.tensor([0.1, 0.3, 0.5, 0.9])
DIFFERENCES: dict[str, Loss] = {
    "cosh": lambda out, target: (out - target).cosh().log().mean(),
    "norm": lambda out, target: (target - out).norm(dim=1).mean(),
    "product": lambda out, target: ((d := out - target) * d).mean(),
    "pinball": lambda out, target: torch.maximum(0.9 * (d := target - out), (0.9 - 1) * d).mean(),
    "quantiles": lambda out, target: torch.max(
        (q := torch.tensor([0.1, 0.3, 0.5, 0.9])) * (d := target - out), (q - 1) * d
    ).sum(),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_targets_are_known_by_what_is_made_of_a_difference(name: str) -> None:
    rows = watched(DIFFERENCES[name], numbers)
    target = rows[rows["site"] == "loss:sub[target]"].iloc[0]
    assert (target["mean"], target["rms"]) == pytest.approx(
        (float(numbers.mean()), float(numbers.square().mean().sqrt())), rel=1e-5
    )
    assert list(rows.loc[rows["site"] == "loss:sub", "step"]) == [0, 2]


def test_an_extreme_of_other_things_is_no_pinball() -> None:
    others: list[Loss] = [
        lambda out, target: torch.maximum(0.9 * (d := target - out), 0.1 * d).mean(),
        lambda out, target: torch.maximum(0.9 * (target - out), -0.1 * (target + 1 - out)).mean(),
        lambda out, target: torch.maximum(out, target - out).mean(),
    ]
    assert all(len(watched(loss, numbers)) == 0 for loss in others)


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 3.0, 4.0])])
def test_a_cross_entropy_that_is_one_of_several_terms_has_a_value(weight: Tensor | None) -> None:
    seen: list[float] = []

    def loss(p: Tensor, y: Tensor) -> Tensor:
        entropy = F.cross_entropy(p, y, weight)
        seen.append(float(entropy.detach()))
        return entropy + 0.01 * p.square().mean()

    rows = watched(loss, classes)
    values = rows[rows["site"] == "loss:cross_entropy[value]"]["mean"]
    assert values.tolist() == pytest.approx(seen[: len(values)], rel=1e-6) and len(values)
