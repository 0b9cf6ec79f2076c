"""The score of a batch's own pairs: against all permutations of small batches, and in a trace."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from diag.probe.pairing import pairing
from diag.probe.probe import Probe
from diag.train.loop import train
from diag.train.workload import Workload

N = 8
ALL = torch.tensor(list(itertools.permutations(range(N))))


def score(op: str, predicted: Tensor, target: Tensor, **named: object) -> float:
    found = pairing(op, (predicted.requires_grad_(), target), dict(named))
    assert found is not None
    return float(found)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def classes(*shape: int, count: int = 3, seed: int = 1) -> Tensor:
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(seed))


CASES: dict[str, tuple[str, Callable[..., Tensor], Tensor, Tensor]] = {
    "classes": ("cross_entropy", F.cross_entropy, random(N, 3), classes(N)),
    "log-probabilities": ("nll_loss", F.nll_loss, random(N, 3).log_softmax(1), classes(N)),
    "positions": ("cross_entropy", F.cross_entropy, random(N, 3, 2, 4), classes(N, 2, 4)),
    "class shares": ("cross_entropy", F.cross_entropy, random(N, 3), random(N, 3, seed=2).softmax(1)),
    "numbers": ("mse_loss", F.mse_loss, random(N), random(N, seed=3)),
    "images": ("mse_loss", F.mse_loss, random(N, 1, 4, 4), random(N, 1, 4, 4, seed=3)),
    "bits": (
        "binary_cross_entropy_with_logits",
        F.binary_cross_entropy_with_logits,
        random(N, 2),
        classes(N, 2, count=2).float(),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_loss_standardized_over_all_permutations_of_the_targets(name: str) -> None:
    op, loss, predicted, target = CASES[name]
    losses = torch.stack(
        [loss(predicted, target[order]) for order in ALL[:: 1 if name in ("classes", "numbers") else 7]]
    )
    spread = float(losses.double().std(correction=0))
    expected = (float(losses.double().mean()) - float(loss(predicted, target))) / spread
    every = name in ("classes", "numbers")
    assert score(op, predicted, target) == pytest.approx(
        expected, rel=1e-4 if every else 0.05, abs=0 if every else 0.05
    )


def test_what_was_learned_counts_up_and_what_was_learned_wrongly_down() -> None:
    target = torch.arange(N) % 4
    right = 3.0 * F.one_hot(target, 4).float()
    # D is 3 (1/2^[same class] - 1/4): its norm squared is 9 * N^2 * 3/16, its diagonal's sum 9/4 N.
    expected = 2.25 * N / math.sqrt(9 * N**2 * 3 / 16 / (N - 1))
    assert score("cross_entropy", right, target) == pytest.approx(expected)
    assert score("cross_entropy", -right, target) == pytest.approx(-expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(8, 40), st.integers(2, 6), st.floats(-50, 50))
def test_order_offset_and_scale_change_nothing_and_no_score_is_beyond_its_bound(
    seed: int, n: int, count: int, offset: float
) -> None:
    predicted, target = random(n, count, seed=seed), classes(n, count=count, seed=seed + 1)
    own = score("cross_entropy", predicted.clone(), target)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    moved = 2.5 * (predicted + offset * random(n, 1, seed=seed + 2))
    assert score("cross_entropy", predicted[order], target[order]) == pytest.approx(own, abs=1e-3)
    assert score("cross_entropy", moved, target) == pytest.approx(own, abs=2e-2)
    assert abs(own) <= math.sqrt(n * (n - 1)) * (1 + 1e-5)


def test_of_predictions_that_know_nothing_scores_are_standard_normal() -> None:
    torch.manual_seed(0)
    found = [score("cross_entropy", torch.randn(300, 5), torch.randint(5, (300,))) for _ in range(600)]
    assert np.mean(found) == pytest.approx(0, abs=3.5 / math.sqrt(600))
    assert np.var(found) == pytest.approx(1, abs=3.5 * math.sqrt(2 / 600))
    assert stats.kstest(found, "norm").pvalue > 0.01


@pytest.mark.parametrize(
    ("predicted", "target"),
    [
        (random(N, 3), torch.ones(N, dtype=torch.long)),
        (torch.ones(N, 3) * 1e4, classes(N)),
        (1e4 + torch.zeros(N, 1) + random(1, 3), classes(N)),
        (random(N, 3) / 0, classes(N)),
        (random(N, 3) * torch.nan, classes(N)),
    ],
    ids=["one class", "one prediction", "one row", "infinite", "NaN"],
)
def test_where_nothing_can_be_told_it_is_exactly_zero(predicted: Tensor, target: Tensor) -> None:
    assert score("cross_entropy", predicted, target) == 0.0


def test_a_loss_without_pairs_has_no_score() -> None:
    leaf = random(N, 3).requires_grad_()
    assert pairing("cross_entropy", (leaf, classes(N - 1)), {}) is None
    assert pairing("cross_entropy", (leaf[:7], classes(7)), {}) is None  # too few
    assert pairing("cross_entropy", (leaf.detach(), classes(N)), {}) is None  # nothing is trained by it
    assert pairing("mse_loss", (leaf, random(N, 1)), {}) is None
    assert pairing("mse_loss", (leaf, 0.0), {}) is None
    assert pairing("cross_entropy", (), {"input": leaf, "target": classes(N)}) is not None


def workload(dtype: torch.dtype = torch.float32) -> Workload:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 3)).to(dtype)
    batches = [(torch.randn(16, 4, dtype=dtype), torch.randint(3, (16,))) for _ in range(10)]
    loss = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])  # noqa: E731 -- one line, as users write it
    return Workload(model, batches, loss, torch.optim.SGD(model.parameters(), lr=0.05))


def watched(parameters: bool = True, every: int = 1, pairs: bool = True) -> tuple[Probe, Workload]:
    made = workload()
    probe = Probe([made.model], [made.optimizer] if made.optimizer else [], parameters=parameters, every=every)
    probe.forward.losses.pairs &= pairs
    probe.start()
    torch.manual_seed(1)
    train(made, probe, 10)
    probe.stop()
    return probe, made


@pytest.mark.parametrize(("every", "steps"), [(1, [0, 2, 4, 6, 8]), (2, [0, 4, 8]), (3, [0, 6])])
def test_every_second_measured_step_has_a_score_in_the_trace(every: int, steps: list[int]) -> None:
    trace = watched(every=every)[0].trace()
    rows = trace.frame[trace.frame["site"] == "loss:cross_entropy[pairing]"]
    assert list(rows["step"]) == steps
    assert trace.sites.set_index("site").loc["loss:cross_entropy[pairing]", "role"] == "pairing"
    made = workload()
    torch.manual_seed(1)
    x, y = next(iter(made.batches))
    assert rows["mean"].iloc[0] == pytest.approx(score("cross_entropy", made.model(x), y), rel=1e-5)
    assert (rows["count"] == 1).all()


def test_without_parameters_nothing_is_scored() -> None:
    assert not watched(parameters=False)[0].trace().frame["site"].str.contains("pairing").any()


def test_scores_change_no_bit_of_the_training() -> None:
    (_, one), state = watched(), torch.get_rng_state()
    (_, other), again = watched(pairs=False), torch.get_rng_state()
    assert torch.equal(state, again)
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))


@pytest.mark.parametrize("shape", [(40,), (12, 5)])
def test_what_is_to_be_ignored_does_not_count(shape: tuple[int, ...]) -> None:
    """Predictions that depend on nothing but whether something is asked there fit no target."""
    generator, scores = torch.Generator().manual_seed(0), []
    for _ in range(300):
        labels = torch.randint(3, shape, generator=generator)
        asked = torch.rand(shape, generator=generator) < 0.6
        predicted = torch.randn(len(shape) * (1,) + (3,), generator=generator) * (~asked).unsqueeze(-1)
        predicted = (predicted + 0.1 * torch.randn(*shape, 3, generator=generator)).movedim(-1, 1)
        scores.append(score("cross_entropy", predicted, labels.masked_fill(~asked, -100)))
    assert stats.kstest(scores, "norm").pvalue > 0.01
    own = score("cross_entropy", F.one_hot(labels, 3).float().movedim(-1, 1), labels.masked_fill(~asked, -100))
    assert own > 5


@pytest.mark.parametrize("named", [{"ignore_index": 2}, {}])
def test_another_index_may_be_ignored(named: dict[str, int]) -> None:
    predicted, labels = random(30, 3), classes(30)
    kept = labels != 2
    alone = score("cross_entropy", predicted[kept], labels[kept])
    assert (score("cross_entropy", predicted, labels, **named) == pytest.approx(alone, abs=1e-4)) == bool(named)
