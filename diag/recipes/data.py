"""The data sets of the canon: all of them without a network connection."""

from __future__ import annotations

import random
from functools import lru_cache, partial

import torch

from diag.errors import MissingExtraError
from diag.recipes.adding import adding_batch, adding_stream
from diag.recipes.dataset import Batch, Dataset
from diag.recipes.digits import digits
from diag.recipes.kinds import data
from diag.recipes.local_data import cifar10_arrays, mnist_arrays
from diag.recipes.shapeset import CLASSES, shapeset_batch, shapeset_stream
from diag.recipes.spec import RecipeError

__all__ = ["adding", "cifar10", "digits", "gaussian", "mnist", "mnist1d", "shapeset"]


@data("mnist1d", source="Greydanus & Kobak 2020, The MNIST-1D dataset")
def mnist1d(seed: int, *, samples: int = 5000) -> Dataset:
    """MNIST-1D: ten classes of noisy, shifted, scaled and sheared signals of 40 points.

    Inputs [1, 40], standardized by one mean and deviation. The package mnist1d generates it, by its own fixed seed and
    with its own test part, a fifth; the trial's seed splits a fifth of the rest off for validation.
    Raises: MissingExtraError without mnist1d; RecipeError for too few samples.
    """
    if samples < 100:
        raise RecipeError(f"the data set 'mnist1d' takes samples from 100, got {samples}")
    (images, targets), test = _mnist1d_arrays(samples)
    return _with_valid_split(seed, 10, (images, targets), test, len(images) // 5)


@data("shapeset", source="Glorot & Bengio 2010, section 2.1 (Shapeset-3x2)")
def shapeset(seed: int, *, size: int = 32, held_out: int = 2000) -> Dataset:
    """Shapeset-3x2: endless generated images of one or two shapes, nine classes; fixed parts to judge by.

    Inputs [1, size, size]. held_out: samples in each of the two fixed parts.
    """
    generator = torch.Generator().manual_seed(seed)
    valid, test = (shapeset_batch(held_out, generator, size) for _ in range(2))
    stream = partial(shapeset_stream, size=size)
    return Dataset("classification", CLASSES, _nothing(valid), valid, test, stream=stream)


@data("adding", source="Hochreiter & Schmidhuber 1997, section 5.4; Le et al. 2015, section 4.1")
def adding(seed: int, *, length: int = 50, held_out: int = 1000) -> Dataset:
    """The adding problem: a sequence of numbers, two of them marked; the target is their sum. Always 1 gives 1/6.

    Inputs [length, 2], endless; a regression. held_out: samples in each of the two fixed parts.
    """
    generator = torch.Generator().manual_seed(seed)
    valid, test = (adding_batch(held_out, length, generator) for _ in range(2))
    stream = partial(adding_stream, length=length)
    return Dataset("regression", 1, _nothing(valid), valid, test, stream=stream)


@data("gaussian")
def gaussian(seed: int, *, features: int = 1024, classes: int = 10, samples: int = 2048) -> Dataset:
    """Standard normal inputs with random labels: for measurements at initialization, where nothing is to be learned.

    Inputs [features]. samples: in each of the three parts.
    """
    if min(features, classes, samples) < 1:
        raise RecipeError(f"the data set 'gaussian' takes numbers from 1, got {features}, {classes} and {samples}")
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3, samples, features, generator=generator)
    targets = torch.randint(classes, (3, samples), generator=generator)
    train, valid, test = zip(inputs, targets, strict=True)
    return Dataset("classification", classes, train, valid, test)


@data("mnist", source="LeCun et al. 1998")
def mnist(seed: int, *, folder: str = "") -> Dataset:
    """MNIST from the four IDX files in `folder`, or in $DIAG_DATA/mnist; 10,000 of its 60,000 for validation.

    Inputs [1, 28, 28], standardized by one mean and deviation. Raises: RecipeError naming what is not there, and where.
    """
    train, test = mnist_arrays(folder)
    return _with_valid_split(seed, 10, train, test, len(train[0]) // 6)


@data("cifar10", source="Krizhevsky 2009")
def cifar10(seed: int, *, folder: str = "") -> Dataset:
    """CIFAR-10 from the files of its binary version in `folder`, or in $DIAG_DATA/cifar10; a fifth for validation.

    Inputs [3, 32, 32], each channel standardized. Raises: RecipeError naming what is not there, and where.
    """
    train, test = cifar10_arrays(folder)
    return _with_valid_split(seed, 10, train, test, len(train[0]) // 5)


@lru_cache(maxsize=2)
def _mnist1d_arrays(samples: int) -> tuple[Batch, Batch]:
    """Generating takes a second, and is the same for every seed of a trial."""
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError as error:
        raise MissingExtraError("mnist1d", "suites", "the data set 'mnist1d'") from error
    import numpy as np

    arguments = get_dataset_args()
    arguments.num_samples = samples
    # The package seeds the global generators of numpy and of Python.
    states = np.random.get_state(), random.getstate()
    try:
        made = make_dataset(arguments)
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
    train, test = (
        (torch.tensor(made[f"x{part}"], dtype=torch.float32).unsqueeze(1), torch.tensor(made[f"y{part}"]).long())
        for part in ("", "_test")
    )
    return train, test


def _with_valid_split(seed: int, classes: int, train: Batch, test: Batch, held: int) -> Dataset:
    """`held` training samples, chosen by the seed, become the validation part; what is left standardizes all three."""
    order = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(seed))
    rest, valid = (train[0][part] for part in (order[held:], order[:held]))
    others = (0, *range(2, rest.ndim))
    mean, std = rest.mean(others, keepdim=True), rest.std(others, keepdim=True)
    return Dataset(
        "classification",
        classes,
        ((rest - mean) / std, train[1][order[held:]]),
        ((valid - mean) / std, train[1][order[:held]]),
        ((test[0] - mean) / std, test[1]),
    )


def _nothing(batch: Batch) -> Batch:
    return batch[0][:0], batch[1][:0]
