"""Real data in fresh batches: digits, one-dimensional digits, diabetes records, and the text of Python's own manual.

Every function returns a list of batches, drawn with a generator of its own so that models and data have separate seeds.
"""

from __future__ import annotations

import functools
import re
from pydoc_data.topics import topics

import numpy as np
import torch
from torch import Tensor

BATCHES = 100
"""Enough for the longest label check without a second pass over the list."""

Batches = list[tuple[Tensor, Tensor]]


def _draw(inputs: Tensor, targets: Tensor, size: int, batches: int, seed: int = 1) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    order: list[Tensor] = []
    while len(order) < batches:
        epoch = torch.randperm(len(inputs), generator=generator)
        order += [part for part in epoch.split(size) if len(part) == size]
    return [(inputs[rows], targets[rows]) for rows in order[:batches]]


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target)


def digits(size: int = 32, scale: str = "standard", image: bool = False, batches: int = BATCHES) -> Batches:
    """Handwritten digits, 64 features or (1, 8, 8) images, and their class.

    scale: "standard" (mean 0, std 1 over all pixels), "unit" (0 to 1), "raw" (0 to 255).
    """
    pixels, classes = _digits()
    if scale == "standard":
        pixels = (pixels - pixels.mean()) / pixels.std()
    elif scale == "unit":
        pixels = pixels / 16
    elif scale == "raw":
        pixels = pixels * (255 / 16)
    if image:
        pixels = pixels.reshape(-1, 1, 8, 8)
    return _draw(pixels, classes, size, batches)


def large_digits(size: int = 16, side: int = 32, channels: int = 3, batches: int = BATCHES) -> Batches:
    """The digits enlarged to (channels, side, side), for networks that halve the resolution often."""
    small = digits(size, image=True, batches=batches)
    return [
        (torch.nn.functional.interpolate(x, size=(side, side), mode="bilinear").repeat(1, channels, 1, 1), y)
        for x, y in small
    ]


@functools.cache
def _waves() -> tuple[Tensor, Tensor]:
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.num_samples = 1600
    state = np.random.get_state()
    made = make_dataset(arguments)
    np.random.set_state(state)
    return torch.tensor(made["x"], dtype=torch.float32), torch.tensor(made["y"])


def waves(size: int = 32, batches: int = BATCHES) -> Batches:
    """MNIST-1D: series of length 40, shape (size, 40), and their class."""
    return _draw(*_waves(), size, batches)


def records(size: int = 32, batches: int = BATCHES) -> Batches:
    """Diabetes records: 10 standardized features and a standardized progression, shape (size, 1)."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes()
    inputs = torch.tensor(found.data, dtype=torch.float32)
    targets = torch.tensor(found.target, dtype=torch.float32)[:, None]
    return _draw((inputs - inputs.mean(0)) / inputs.std(0), (targets - targets.mean()) / targets.std(), size, batches)


@functools.cache
def _characters() -> Tensor:
    text = "\n".join(topics[name] for name in sorted(topics))[:200_000]
    return torch.tensor([min(ord(one), 127) for one in text])


@functools.cache
def _words() -> tuple[Tensor, int]:
    text = "\n".join(topics[name] for name in sorted(topics))[:400_000]
    words = re.findall(r"\w+|[^\w\s]", text)
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return torch.tensor([numbers[word] for word in words]), len(numbers)


def _windows(tokens: Tensor, size: int, length: int, batches: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    starts = torch.randint(len(tokens) - length, (batches, size), generator=generator)
    return [torch.stack([tokens[start : start + length] for start in row.tolist()]) for row in starts]


CHARACTERS = 128
"""The size of the character vocabulary; some of it never occurs."""


def characters(size: int = 16, length: int = 33, batches: int = BATCHES) -> list[Tensor]:
    """Windows of English prose as character codes, shape (size, length)."""
    return _windows(_characters(), size, length, batches)


def words(size: int = 16, length: int = 25, batches: int = BATCHES) -> tuple[list[Tensor], int]:
    """Windows of English prose as word numbers, shape (size, length), and the size of the vocabulary (thousands)."""
    tokens, vocabulary = _words()
    return _windows(tokens, size, length, batches), vocabulary
