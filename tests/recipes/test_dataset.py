"""Batches: every epoch in an order of its own, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
import torch

from diag.recipes.dataset import Batch, Dataset
from diag.recipes.spec import RecipeError


def numbered(count: int, **others: object) -> Dataset:
    part = (torch.arange(count).float()[:, None, None].expand(count, 2, 3), torch.arange(count))
    return Dataset("classification", count, part, part, part, **others)  # type: ignore[arg-type]


def test_inputs_is_the_shape_of_a_sample() -> None:
    assert numbered(5).inputs == (2, 3)


def test_an_epoch_has_every_sample_once_and_no_part_of_a_batch() -> None:
    batches = numbered(10).batches(3, seed=0)
    epochs = [[next(batches)[1] for _ in range(3)] for _ in range(20)]
    for epoch in epochs:
        assert all(len(one) == 3 for one in epoch)
        assert len(set(torch.cat(epoch).tolist())) == 9
    left_out = [set(range(10)) - set(torch.cat(epoch).tolist()) for epoch in epochs]
    assert len(set(map(frozenset, left_out))) > 3, "which sample waits changes"
    assert len({tuple(torch.cat(epoch).tolist()) for epoch in epochs}) == 20


def test_inputs_go_with_their_targets() -> None:
    inputs, targets = next(numbered(10).batches(4, seed=1))
    assert torch.equal(inputs[:, 1, 2].long(), targets)


def test_the_same_seed_gives_the_same_batches() -> None:
    first, again, other = (
        torch.stack([one for _, one in islice(numbered(50).batches(5, seed), 30)]) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_batch_larger_than_the_data_is_all_of_it() -> None:
    _, targets = next(numbered(4).batches(64, seed=0))
    assert sorted(targets.tolist()) == [0, 1, 2, 3]


def test_a_stream_gives_its_own_batches() -> None:
    def stream(batch_size: int, seed: int) -> Iterator[Batch]:
        while True:
            yield torch.full((batch_size, 2), float(seed)), torch.zeros(batch_size)

    valid = (torch.zeros(2, 2), torch.zeros(2))
    dataset = Dataset("regression", 1, (valid[0][:0], valid[1][:0]), valid, valid, stream=stream)
    inputs, _ = next(dataset.batches(7, seed=9))
    assert inputs.shape == (7, 2) and inputs.eq(9).all()
    assert dataset.inputs == (2,)


def test_no_training_samples_and_no_stream_is_an_error() -> None:
    valid = (torch.zeros(2, 2), torch.zeros(2))
    with pytest.raises(RecipeError, match="has training samples or a stream"):
        Dataset("regression", 1, (valid[0][:0], valid[1][:0]), valid, valid)
