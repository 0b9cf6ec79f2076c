"""What the ranks say: the whole once, what is missing, and what is only their own. Real processes, started once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import diag
from tests.compat.loops import batches, loss_of, network
from tests.distributed.launch import launch, launch_once
from tests.distributed.scenarios import SCENARIOS, STEPS, Pair, given

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """By rank, what each scenario gave."""
    ranks = launch_once(tmp_path_factory, "tests.distributed.scenarios", 2)
    assert all(set(one) == set(SCENARIOS) for one in ranks)
    return ranks


@pytest.fixture(scope="module")
def by_itself() -> list[float]:
    """The same training by one process: rms of the first layer's output, by step."""
    torch.manual_seed(7)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    with diag.watch(model, optimizer) as watch:
        for x, y in batches(STEPS):
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            optimizer.step()
    frame = watch.trace.frame
    return frame[(frame["site"] == "0") & (frame["kind"] == "activation")]["rms"].tolist()


def test_a_module_within_the_wrapper_is_known_to_be_shared(found: list[dict[str, Any]], by_itself: list[float]) -> None:
    whole, part = (one["inner"] for one in found)
    assert whole["count"] == [64] * STEPS
    assert whole["rms"] == pytest.approx(by_itself, rel=1e-5)
    assert part["count"] == [32] * STEPS
    assert whole["notes"] == [
        "the 2 ranks by themselves, each with its part of the batch: they are put together, and the loss is the mean"
        " of theirs"
    ]
    assert part["notes"] == ["this is rank 1's own part: rank 0 puts the parts together and reports"]


def test_ranks_that_share_no_model_speak_for_themselves(found: list[dict[str, Any]]) -> None:
    for rank, one in enumerate(found):
        assert one["alone"]["count"] == [32] * STEPS
        assert one["alone"]["notes"] == [
            f"this is rank {rank}'s own part: the model is not known to be shared with other ranks by data "
            "parallelism, by tensor parallelism, or by both with `fully_shard`"
        ]


def test_nobody_waits_for_a_rank_that_is_not_watched(found: list[dict[str, Any]]) -> None:
    one = found[0]["one_watches"]
    assert one["count"] == [32] * STEPS
    assert one["notes"] == [
        "rank 1 is missing: it was not watched, so its part of the batch or of the weights was not seen"
    ]
    assert one["seconds"] < 20


def test_a_unit_is_dead_where_every_rank_says_so(found: list[dict[str, Any]]) -> None:
    whole, part = (one["dead_units"] for one in found)
    assert whole == {"dead_units": [1] * 12, "dead": [0] * 9 + [1] * 3, "units": [4] * 12}
    assert part == {"dead_units": [2] * 12, "dead": [0] * 9 + [2] * 3, "units": [4] * 12}


def test_only_the_first_rank_reports(found: list[dict[str, Any]]) -> None:
    assert [one["sick"]["findings"] for one in found] == [["vanishing-gradient"], []]


def test_a_watch_that_is_entered_again_counts_nothing_twice(found: list[dict[str, Any]]) -> None:
    whole, part = (one["paused"] for one in found)
    assert (whole["steps"], whole["count"]) == (4, [64] * 4)
    assert (part["steps"], part["count"]) == (4, [32] * 4)


def test_a_loss_is_given_the_logits_that_the_wrapper_hands_on(found: list[dict[str, Any]]) -> None:
    torch.manual_seed(7)
    expected = given(Pair())
    for option, rows in found[0]["handed_on"].items():
        assert rows["count"] == expected["count"], option
        assert rows["mean"] == pytest.approx(expected["mean"], rel=1e-4, abs=1e-6), option
        assert rows["rms"] == pytest.approx(expected["rms"], rel=1e-5), option


@pytest.mark.parametrize(
    "who, world", [(1, 2), *(pytest.param(*one, marks=pytest.mark.nightly) for one in ((0, 2), (2, 4)))]
)
def test_a_rank_that_dies_leaves_a_readable_trace_of_the_others(
    who: int, world: int, tmp_path: Any, by_itself: list[float]
) -> None:
    ranks = launch("tests.distributed.scenarios", world, tmp_path, str(who))
    assert ranks[who] is None
    for rank, one in enumerate(ranks):
        if one is None:
            assert rank == who, (tmp_path / f"{rank}.txt").read_text()
            continue
        seen = one["dies"]
        assert seen["error"], "the training itself ends with the rank"
        assert seen["seconds"] < 60
        assert seen["steps"] >= 3
        own = 64 / world
        assert seen["count"][:3] == [own * (world - 1 if rank == 0 else 1)] * 3
        assert np.isfinite(seen["rms"]).all()
        notes = " ".join(seen["notes"])
        if rank == 0:
            assert f"rank {who} is missing: nothing came from it within 10 s" in notes
        elif who == 0:
            assert f"this is rank {rank}'s own part: rank 0 could not be reached" in notes
