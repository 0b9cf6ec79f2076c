"""The digits: their parts, standardization, labels, and what is from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from diag.recipes.dataset import Dataset
from diag.recipes.digits import digits
from diag.recipes.spec import RecipeError

RAW = load_digits()


def matched(dataset: Dataset, classes: range = range(10)) -> list[np.ndarray]:
    """For each part, the places of its images among scikit-learn's, sought by their grey levels and labels."""
    images = RAW.images[np.isin(RAW.target, classes)]
    labels = RAW.target[np.isin(RAW.target, classes)] - classes.start
    found = []
    every = torch.cat([dataset.train[0], dataset.valid[0], dataset.test[0]])[:, 0].double().numpy()
    # Standardization is one linear map per pixel, increasing: the extremes of each pixel over all parts give it.
    low, high = every.min(0), every.max(0)
    flat = images.max(0) == images.min(0)
    scale = np.where(flat, 1.0, (images.max(0) - images.min(0)) / np.where(flat, 1.0, high - low))
    known = {(image.tobytes(), label): place for place, (image, label) in enumerate(zip(images, labels, strict=True))}
    for inputs, targets in (dataset.train, dataset.valid, dataset.test):
        back = np.round((inputs[:, 0].double().numpy() - low) * scale + images.min(0))
        found.append(
            np.array([known[(image.tobytes(), label)] for image, label in zip(back, targets.numpy(), strict=True)])
        )
    return found


@pytest.mark.parametrize("per_pixel", [True, False])
def test_three_parts_hold_every_image_once(per_pixel: bool) -> None:
    parts = matched(digits(0, per_pixel=per_pixel))
    assert [len(one) for one in parts] == [1079, 359, 359]
    # No two of scikit-learn's images are the same, so that none stands for two.
    assert sorted(np.concatenate(parts).tolist()) == list(range(1797))


def test_every_part_has_its_share_of_every_class() -> None:
    dataset = digits(3)
    for _, targets in (dataset.train, dataset.valid, dataset.test):
        shares = np.bincount(targets, minlength=10) / len(targets)
        assert shares == pytest.approx(np.bincount(RAW.target) / 1797, abs=0.006)


def test_each_pixel_is_standardized_on_the_training_part() -> None:
    dataset = digits(0)
    train, _, test = matched(dataset)
    learned = RAW.images[train]
    mean, std = learned.mean(0), np.maximum(learned.std(0, ddof=1), 0.5)
    assert dataset.test[0][:, 0].numpy() == pytest.approx((RAW.images[test] - mean) / std, abs=1e-5)
    assert dataset.train[0].double().mean(0).numpy() == pytest.approx(np.zeros((1, 8, 8)), abs=1e-5)


def test_all_pixels_together() -> None:
    dataset = digits(0, per_pixel=False)
    learned = dataset.train[0].double().numpy()
    assert [learned.mean(), learned.std(ddof=1)] == pytest.approx([0, 1], abs=1e-5)
    # One linear map for all pixels: the background stays one value.
    assert len(dataset.train[0].unique()) == 17


def test_some_classes_are_relabeled_and_the_others_are_from_elsewhere() -> None:
    dataset = digits(1, classes="5-7")
    assert dataset.outputs == 3 and dataset.train[1].unique().tolist() == [0, 1, 2]
    parts = matched(dataset, range(5, 8))
    count = int(np.isin(RAW.target, range(5, 8)).sum())
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert dataset.elsewhere is not None and len(dataset.elsewhere) == 1797 - count
    # Standardized as the others are: images of classes left out, which the training part's map gives back.
    learned = RAW.images[np.isin(RAW.target, range(5, 8))][parts[0]]
    mean, std = learned.mean(0), np.maximum(learned.std(0, ddof=1), 0.5)
    outside = RAW.images[~np.isin(RAW.target, range(5, 8))]
    assert dataset.elsewhere[:, 0].numpy() == pytest.approx((outside - mean) / std, abs=1e-5)


def test_elsewhere_of_all_classes_are_test_images_turned() -> None:
    dataset = digits(1)
    assert dataset.elsewhere is not None
    assert torch.equal(dataset.elsewhere[7, 0, 2, 5], -dataset.test[0][7, 0, 5, 2])
    assert torch.allclose(dataset.elsewhere.flatten(1).norm(dim=1), dataset.test[0].flatten(1).norm(dim=1))


@pytest.mark.parametrize(("labeled", "least"), [(10, 1), (25, 2), (100, 10), (700, 60)])
def test_few_labels_are_even_and_the_rest_is_unlabeled(labeled: int, least: int) -> None:
    few, full = digits(2, labeled=labeled), digits(2)
    counts = np.bincount(few.train[1], minlength=10)
    assert counts.sum() == labeled and counts.min() >= least
    if labeled < 900:
        assert counts.max() - counts.min() <= 1
    assert few.unlabeled is not None and full.unlabeled is None
    together = torch.cat([few.train[0], few.unlabeled]).flatten(1)
    everyone = full.train[0].flatten(1)
    assert torch.equal(together.unique(dim=0), everyone.unique(dim=0)) and len(together) == len(everyone)
    assert torch.equal(few.test[0], full.test[0])
    # Labels still belong to their images.
    where = torch.cdist(few.train[0].flatten(1), everyone).argmin(1)
    assert torch.equal(full.train[1][where], few.train[1])


@pytest.mark.parametrize("classes", ["3", "a-b", "5-2", "4-4", "0-10", "-3", "0-4-5"])
def test_classes_that_cannot_be(classes: str) -> None:
    with pytest.raises(RecipeError, match=f"classes such as '0-4', two or more; got '{classes}'"):
        digits(0, classes=classes)


@pytest.mark.parametrize("labeled", [-1, 4, 1080])
def test_numbers_of_labels_that_cannot_be(labeled: int) -> None:
    with pytest.raises(RecipeError, match=f"labeled from 10 .one a class. to 1079, got {labeled}"):
        digits(0, labeled=labeled)
