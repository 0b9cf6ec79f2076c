"""The score of what losses compare: against all swaps and permutations of small batches, and in a trace."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diag
from diag.probe.compared import compared

N = 8
SWAPS = torch.tensor(list(itertools.product((1.0, -1.0), repeat=N)))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_of_triplets_it_is_standardized_over_all_swaps() -> None:
    anchor, positive, negative = (random(N, 4, seed=seed) for seed in range(3))
    score = compared("triplet_margin_loss", (anchor, positive, negative), {})
    farther = F.pairwise_distance(anchor, negative) - F.pairwise_distance(anchor, positive)
    sums = (SWAPS * farther).sum(1)
    assert score is not None
    assert float(score) == pytest.approx(float(farther.sum() / sums.std(correction=0)), rel=1e-5)
    assert abs(float(sums.mean())) < 1e-5
    distances = F.pairwise_distance(anchor, positive), F.pairwise_distance(anchor, negative)
    assert float(compared("triplet_margin_loss", distances, {})) == pytest.approx(float(score), rel=1e-5)  # type: ignore[arg-type]


def test_triplets_that_are_all_alike_tell_nothing() -> None:
    one = torch.ones(N, 4)
    assert float(compared("triplet_margin_loss", (one, one, one), {})) == 0.0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "given"),
    [
        ("cosine_embedding_loss", (random(64, 4), random(64, 4, seed=1))),
        ("margin_ranking_loss", (random(64), random(64, seed=1))),
        ("soft_margin_loss", (random(64),)),
        ("hinge_embedding_loss", (random(64).abs(),)),
    ],
)
def test_of_pairs_the_sign_of_the_score_is_that_of_what_the_loss_asks_for(op: str, given: tuple[Tensor, ...]) -> None:
    likeness = {
        "cosine_embedding_loss": lambda: F.cosine_similarity(*given),
        "margin_ranking_loss": lambda: given[0] - given[1],
        "soft_margin_loss": lambda: given[0],
        "hinge_embedding_loss": lambda: -given[0],
    }[op]()
    signs = torch.where(likeness > likeness.median(), 1.0, -1.0)
    fit, driven = (float(compared(op, (*given, one), {})) for one in (signs, -signs))  # type: ignore[arg-type]
    assert fit > 5
    assert driven == pytest.approx(-fit)
    loss = getattr(F, op)
    assert loss(*given, signs) < loss(*given, -signs)


def test_of_sequences_it_compares_the_likelihoods_of_each_other_s_labels() -> None:
    labels = torch.randint(1, 5, (16, 3), generator=torch.Generator().manual_seed(0))
    lengths = torch.full((16,), 9), torch.full((16,), 3)
    sure = torch.full((9, 16, 5), -4.0)
    for sample, row in enumerate(labels):
        for place, label in enumerate(row):
            sure[3 * place : 3 * place + 2, sample, label] = 4.0
            sure[3 * place + 2, sample, 0] = 4.0
    right = compared("ctc_loss", (sure.log_softmax(2), labels, *lengths), {})
    wrong = compared("ctc_loss", (sure.log_softmax(2), labels.roll(1, 0), *lengths), {})
    assert right is not None
    assert wrong is not None
    assert float(right) > 2.5
    assert float(wrong) < 1
    assert compared("ctc_loss", (sure.log_softmax(2), labels.reshape(-1), *lengths), {}) is None  # end to end in a row
    assert compared("ctc_loss", (sure.log_softmax(2)[:, :7], labels[:7], lengths[0][:7], lengths[1][:7]), {}) is None


def test_over_permutations_of_the_labels_its_mean_is_0_and_its_variance_1() -> None:
    given = random(7, N, 4).log_softmax(2)
    labels = torch.randint(1, 4, (N, 2), generator=torch.Generator().manual_seed(3))
    lengths = torch.full((N,), 7), torch.full((N,), 2)
    orders = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(seed)) for seed in range(600)])
    scores = [float(compared("ctc_loss", (given, labels[one], *lengths), {})) for one in orders]  # type: ignore[arg-type]
    assert np.mean(scores) == pytest.approx(0, abs=4 / math.sqrt(600))
    assert np.var(scores) == pytest.approx(1, abs=0.25)


def _trained(loss: Any, steps: int = 3) -> Any:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    with diag.watch(net, optimizer) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(net).backward()
            optimizer.step()
    return watch.trace


def written_out(net: nn.Module) -> Tensor:
    a, p, n = (net(random(16, 6, seed=seed)) for seed in range(3))
    return F.relu(F.pairwise_distance(a, p) - F.pairwise_distance(a, n) + 0.2).mean()


def of_squares(net: nn.Module) -> Tensor:
    a, p, n = (net(random(16, 6, seed=seed)) for seed in range(3))
    return (0.2 - (a - n).pow(2).sum(1) + (a - p).pow(2).sum(1)).clamp(min=0).mean()


def called(net: nn.Module) -> Tensor:
    a, p, n = (net(random(16, 6, seed=seed)) for seed in range(3))
    return F.triplet_margin_loss(a, p, n)


@pytest.mark.parametrize("loss", [written_out, of_squares, called])
def test_triplets_are_seen_however_they_are_written(loss: Any) -> None:
    trace = _trained(loss)
    rows = trace.frame[trace.frame["site"].str.endswith("triplet_margin_loss[pairing]")]
    assert len(rows) > 0
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    a, p, n = (net(random(16, 6, seed=seed)) for seed in range(3))
    power = 2 if loss is of_squares else 1
    farther = F.pairwise_distance(a, n, eps=0) ** power - F.pairwise_distance(a, p, eps=0) ** power
    assert rows["mean"].iloc[0] == pytest.approx((farther.sum() / farther.norm()).item(), rel=1e-3)


def hinge_of_logits(net: nn.Module) -> Tensor:
    out = net(random(16, 6))
    return F.relu(1 - out[:, 0] + out[:, 1]).mean()


def test_a_hinge_of_anything_else_is_no_triplet() -> None:
    assert not _trained(hinge_of_logits).frame["site"].str.contains("triplet").any()


def test_ctc_that_no_hook_sees_is_scored_with_what_its_node_keeps() -> None:
    labels = torch.randint(1, 4, (8, 2), generator=torch.Generator().manual_seed(1))

    def loss(net: nn.Module) -> Tensor:
        given = net(random(8, 7, 6)).log_softmax(2).transpose(0, 1)
        return F.ctc_loss(given, labels, torch.full((8,), 7), torch.full((8,), 2))

    frame = _trained(loss).frame
    assert frame["site"].str.endswith("ctc_loss[pairing]").any()
