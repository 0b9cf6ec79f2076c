"""Endless samples: each fixed by its seed and number, however it is come by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diag.recipes.adding import adding_stream
from diag.recipes.dataset import Batch
from diag.recipes.endless import BLOCK, endless
from diag.recipes.shapeset import shapeset_stream
from diag.recipes.spec import RecipeError

Stream = Callable[..., Iterator[Batch]]


def numbers(random: np.random.Generator, count: int) -> Batch:
    values = torch.from_numpy(random.random((count, 2)))
    return values, values.sum(1)


def plain(batch_size: int, source: Any, skip: int = 0) -> Iterator[Batch]:
    return endless(numbers, batch_size, source, skip)


def small_images(batch_size: int, source: Any, skip: int = 0) -> Iterator[Batch]:
    return shapeset_stream(batch_size, source, 8, skip)


def short_sequences(batch_size: int, source: Any, skip: int = 0) -> Iterator[Batch]:
    return adding_stream(batch_size, source, 5, skip)


each_stream = pytest.mark.parametrize("stream", [plain, small_images, short_sequences])


def first_samples(stream: Stream, count: int, seed: int) -> Batch:
    return next(stream(count, seed))


def test_sample_by_sample_it_is_philox() -> None:
    """Philox itself, in steps of 2^128 numbers a block: the definition by which streams can be had elsewhere."""
    found = first_samples(plain, 2 * BLOCK, 7)[0].numpy()
    for k in range(2):
        expected = np.random.Generator(np.random.Philox(key=7).advance(k * 2**128)).random((BLOCK, 2))
        assert np.array_equal(found[k * BLOCK : (k + 1) * BLOCK], expected)


@each_stream
@settings(max_examples=15, deadline=None)
@given(batch_size=st.integers(1, 600), skip=st.integers(0, 4), seed=st.integers(0, 2**64 - 1))
def test_batches_are_consecutive_samples_of_the_seed(stream: Stream, batch_size: int, skip: int, seed: int) -> None:
    whole = first_samples(stream, (skip + 2) * batch_size, seed)
    for number, batch in enumerate(islice(stream(batch_size, seed, skip=skip), 2), skip):
        for found, one in zip(batch, whole, strict=True):
            assert torch.equal(found, one[number * batch_size : (number + 1) * batch_size])


@each_stream
def test_a_far_batch_is_had_at_once(stream: Stream) -> None:
    far = stream(100, 3, skip=10**15)
    first, second = next(far), next(far)
    assert torch.equal(next(stream(100, 3, skip=10**15 + 1))[0], second[0])
    assert not torch.equal(first[0], second[0])


@each_stream
def test_seeds_and_samples_differ(stream: Stream) -> None:
    inputs = [first_samples(stream, 3 * BLOCK, seed)[0] for seed in (0, 1, 2**63)]
    distinct = torch.cat(inputs).flatten(1).unique(dim=0)
    assert len(distinct) == 9 * BLOCK


@each_stream
def test_a_generator_gives_a_seed_each_time_and_the_global_ones_are_left_alone(stream: Stream) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    generator = torch.Generator().manual_seed(0)
    first, second = (next(stream(5, generator))[0] for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, next(stream(5, torch.Generator().manual_seed(0)))[0])
    assert torch.equal(torch.get_rng_state(), states[0]) and np.array_equal(np.random.get_state()[1], states[1])


@each_stream
def test_a_generator_is_drawn_from_before_the_first_batch(stream: Stream) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = stream(5, generator)
    torch.rand(1, generator=generator)
    assert torch.equal(next(batches)[0], next(stream(5, torch.Generator().manual_seed(0)))[0])


@each_stream
def test_what_is_done_to_a_batch_does_not_reach_the_next(stream: Stream) -> None:
    touched, expected = stream(7, 3), stream(7, 3)
    for _ in range(3):
        batch, other = next(touched), next(expected)
        assert all(map(torch.equal, batch, other))
        for one in batch:
            one.zero_()
    assert batch[0].untyped_storage().nbytes() == batch[0].numel() * batch[0].element_size(), "a block is not kept"


@each_stream
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "number of samples must be a whole number from 1, got 0"),
        ({"batch_size": -3}, "got -3"),
        ({"batch_size": 2.5}, "got 2.5"),
        ({"batch_size": True}, "got True"),
        ({"skip": -1}, "batches to skip must be a whole number from 0, got -1"),
        ({"source": -1}, "a seed must be a whole number from 0 to 18446744073709551615, got -1"),
        ({"source": 2**64}, "got 18446744073709551616"),
        ({"source": "7"}, "got '7'"),
        ({"source": None}, "got None"),
    ],
)
def test_what_cannot_be_is_an_error_at_once(stream: Stream, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        stream(**{"batch_size": 4, "source": 0, **arguments})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_numpy_integers_are_whole_numbers() -> None:
    batch = next(plain(np.int64(4), np.uint64(2**64 - 1), skip=np.int32(2)))
    assert torch.equal(batch[0], next(plain(4, 2**64 - 1, skip=2))[0])
