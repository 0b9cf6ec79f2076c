"""scikit-learn's handwritten digits, whole or by classes, with all labels or with few."""

from __future__ import annotations

import torch

from diag.errors import MissingExtraError
from diag.recipes.dataset import Batch, Dataset
from diag.recipes.kinds import data
from diag.recipes.spec import RecipeError


@data("digits", source="Alpaydin & Kaynak 1998; scikit-learn's load_digits")
def digits(seed: int, *, classes: str = "", labeled: int = 0, per_pixel: bool = True) -> Dataset:
    """1,797 handwritten digits, 8x8, split 60/20/20 by the seed, standardized on the training part.

    Inputs [1, 8, 8]; every part has about the same share of each class. classes: "0-4" keeps these and relabels them
    from 0. labeled: keep so many training labels, as evenly over the classes as their number allows; the other training
    images become `unlabeled`. per_pixel: each pixel by its own mean and standard deviation (of at least half a grey
    level of 16), as suits perceptrons; otherwise by those of all pixels together, as suits convolutions.
    elsewhere: the digits of the classes left out; if none are, the test inputs with their axes swapped and their sign
    turned, which keeps their norm.
    Raises: MissingExtraError without scikit-learn; RecipeError for classes or a number that cannot be.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "suites", "the data set 'digits'") from error
    raw = load_digits()
    images, targets = torch.tensor(raw.images, dtype=torch.float32).unsqueeze(1), torch.tensor(raw.target)
    kept = _class_range(classes)
    inside = (targets >= kept.start) & (targets < kept.stop)
    others, images, targets = images[~inside], images[inside], targets[inside] - kept.start
    order = _stratified(targets, torch.Generator().manual_seed(seed))
    fifth = len(order) // 5
    parts = (order[2 * fifth :], order[:fifth], order[fifth : 2 * fifth])
    learned = images[parts[0]]
    mean, std = (learned.mean(0), learned.std(0)) if per_pixel else (learned.mean(), learned.std())
    # A border pixel that is hardly ever lit would else be an outlier whenever it is.
    std = std.clamp(min=0.5)
    train, valid, test = (((images[part] - mean) / std, targets[part]) for part in parts)
    elsewhere = (others - mean) / std if len(others) else -test[0].transpose(2, 3).contiguous()
    few, unlabeled = _few_labels(train, labeled, len(kept)) if labeled else (train, None)
    return Dataset("classification", len(kept), few, valid, test, elsewhere=elsewhere, unlabeled=unlabeled)


def _class_range(classes: str) -> range:
    first, dash, last = classes.partition("-")
    if not classes:
        return range(10)
    if not (dash and first.isdecimal() and last.isdecimal() and 0 <= int(first) < int(last) <= 9):
        raise RecipeError(f"the data set 'digits' takes classes such as '0-4', two or more; got {classes!r}")
    return range(int(first), int(last) + 1)


def _stratified(targets: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random order in which every stretch has about the same share of every class."""
    place = torch.empty(len(targets))
    for label in targets.unique():
        mine = (targets == label).nonzero()[:, 0]
        ranks = torch.randperm(len(mine), generator=generator)
        place[mine] = (ranks + torch.rand(len(mine), generator=generator)) / len(mine)
    return place.argsort()


def _few_labels(train: Batch, labeled: int, classes: int) -> tuple[Batch, torch.Tensor]:
    inputs, targets = train
    if not classes <= labeled <= len(inputs):
        raise RecipeError(
            f"the data set 'digits' takes labeled from {classes} (one a class) to {len(inputs)}, got {labeled}"
        )
    ranks = torch.zeros(len(targets), dtype=torch.long)
    for label in range(classes):
        mine = targets == label
        ranks[mine] = torch.arange(int(mine.sum()))
    # In rounds, one of each class, so that the labels are as even as their number allows.
    order = torch.argsort(ranks * classes + targets, stable=True)
    kept, rest = order[:labeled], order[labeled:]
    return (inputs[kept], targets[kept]), inputs[rest]
