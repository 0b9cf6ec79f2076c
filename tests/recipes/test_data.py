"""Data sets: what each holds, and what all of them keep."""

from __future__ import annotations

import itertools
import random
import socket
import sys

import numpy as np
import pytest
import torch

from diag.errors import MissingExtraError
from diag.recipes import data as data_sets
from diag.recipes import kinds
from diag.recipes.adding import adding_stream
from diag.recipes.dataset import Dataset
from diag.recipes.recipe import Recipe
from diag.recipes.shapeset import shapeset_stream
from diag.recipes.spec import RecipeError

FROM_FILES = ("mnist", "cifar10")
SPECS = {
    "digits": (1, 8, 8),
    "digits(labeled=50)": (1, 8, 8),
    "digits(classes='5-9', per_pixel=False)": (1, 8, 8),
    "mnist1d(samples=400)": (1, 40),
    "shapeset(held_out=50)": (1, 32, 32),
    "shapeset(size=16, held_out=20)": (1, 16, 16),
    "adding(held_out=50)": (50, 2),
    "adding(length=9, held_out=20)": (9, 2),
    "gaussian(samples=100)": (1024,),
    "gaussian(features=7, classes=3, samples=20)": (7,),
}
each = pytest.mark.parametrize("spec", SPECS)


def loaded(spec: str, seed: int = 0) -> Dataset:
    result: Dataset = kinds.data.resolve(spec)(seed)
    return result


def everything(dataset: Dataset) -> list[torch.Tensor]:
    extra = [one for one in (dataset.elsewhere, dataset.unlabeled) if one is not None]
    batches = [tensor for batch in itertools.islice(dataset.batches(5, 1), 3) for tensor in batch]
    return [*dataset.train, *dataset.valid, *dataset.test, *extra, *batches]


def test_every_data_set_is_here() -> None:
    assert {one.partition("(")[0] for one in SPECS} | set(FROM_FILES) == set(kinds.data.names())


@each
def test_shapes_and_types(spec: str) -> None:
    dataset = loaded(spec)
    assert dataset.inputs == SPECS[spec]
    batch = next(dataset.batches(5, 0))
    assert len(batch[0]) == len(batch[1]) == 5
    for inputs, targets in (dataset.train, dataset.valid, dataset.test, batch):
        assert inputs.shape[1:] == SPECS[spec] and inputs.dtype == torch.float32 and inputs.is_contiguous()
        assert len(inputs) == len(targets)
        if dataset.task == "regression":
            assert targets.dtype == torch.float32 and targets.shape[1:] == (dataset.outputs,)
        else:
            assert targets.dtype == torch.int64 and targets.ndim == 1
            assert not len(targets) or 0 <= int(targets.min()) <= int(targets.max()) < dataset.outputs
    for extra in (dataset.elsewhere, dataset.unlabeled):
        assert extra is None or (extra.shape[1:] == SPECS[spec] and extra.dtype == torch.float32)


@each
def test_the_seed_alone_decides(spec: str) -> None:
    torch.manual_seed(0)
    first = everything(loaded(spec, 3))
    torch.manual_seed(1)
    assert all(torch.equal(one, two) for one, two in zip(first, everything(loaded(spec, 3)), strict=True))
    other = loaded(spec, 4)
    assert not torch.equal(first[2], other.valid[0])


@each
def test_inputs_are_of_about_unit_size(spec: str) -> None:
    inputs = next(loaded(spec).batches(200, 0))[0]
    assert 0.1 < float(inputs.square().mean()) < 4


@each
def test_validation_and_test_differ(spec: str) -> None:
    valid, test = (one[0].flatten(1) for one in (loaded(spec).valid, loaded(spec).test))
    assert float(torch.cdist(valid[:50], test[:50]).min()) > 0


@pytest.mark.parametrize("spec", ["shapeset(held_out=50)", "adding(held_out=50)"])
def test_streams_do_not_repeat_what_judges_them(spec: str) -> None:
    dataset = loaded(spec)
    assert len(dataset.train[0]) == 0
    for (one, _), (two, _) in itertools.islice(zip(dataset.batches(50, 0), dataset.batches(50, 1), strict=True), 2):
        for judge in (dataset.valid[0], dataset.test[0]):
            assert float(torch.cdist(one.flatten(1), judge.flatten(1)).min()) > 0
        assert not torch.equal(one, two)


def test_streams_have_the_size_that_was_asked_for() -> None:
    for dataset, stream in (
        (data_sets.shapeset(0, size=20, held_out=9), shapeset_stream(6, 5, 20)),
        (data_sets.adding(0, length=7, held_out=9), adding_stream(6, 5, 7)),
    ):
        assert len(dataset.valid[0]) == len(dataset.test[0]) == 9
        got, expected = next(dataset.batches(6, 5)), next(stream)
        assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


def test_gaussian_is_standard_normal_with_random_labels() -> None:
    dataset = data_sets.gaussian(0, features=200, samples=500)
    inputs, targets = dataset.train
    assert float(inputs.mean()) == pytest.approx(0, abs=5 / np.sqrt(1e5))
    assert float(inputs.var()) == pytest.approx(1, abs=5 * np.sqrt(2 / 1e5))
    counts = np.bincount(targets, minlength=10)
    assert ((counts - 50) ** 2 / 50).sum() < 30  # chi-squared with 9 degrees of freedom: 0.04 % are above


def test_mnist1d_is_the_packages_own_split_and_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist1d.data import get_dataset_args, make_dataset

    def refuse(*arguments: object) -> None:
        raise AssertionError("the network is asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    data_sets._mnist1d_arrays.cache_clear()
    np.random.seed(7)
    dataset = data_sets.mnist1d(0, samples=500)
    drawn = np.random.random()
    np.random.seed(7)
    assert drawn == np.random.random()
    arguments = get_dataset_args()
    arguments.num_samples = 500
    made = make_dataset(arguments)
    assert [len(one[1]) for one in (dataset.train, dataset.valid, dataset.test)] == [320, 80, 100]
    assert np.array_equal(dataset.test[1].numpy(), made["y_test"])
    learned = dataset.train[0].double().numpy()
    assert [learned.mean(), learned.std(ddof=1)] == pytest.approx([0, 1], abs=1e-5)
    # One shift and scale for all, found from the test part, gives back the package's training part, in another order.
    scale = np.ptp(made["x_test"]) / np.ptp(dataset.test[0].numpy())
    shift = made["x_test"].min() - scale * dataset.test[0].numpy().min()
    mine = np.concatenate([dataset.train[0][:, 0], dataset.valid[0][:, 0]]) * scale + shift
    order, other = np.argsort(mine[:, 20]), np.argsort(made["x"][:, 20])
    assert mine[order] == pytest.approx(made["x"][other], abs=1e-5)
    labels = np.concatenate([dataset.train[1], dataset.valid[1]])
    assert np.array_equal(labels[order], made["y"][other])


def test_mnist1d_as_published() -> None:
    """Greydanus & Kobak 2020: 4,000 samples to learn from and 1,000 to judge by; generated once for all seeds."""
    data_sets._mnist1d_arrays.cache_clear()
    for seed in range(3):
        dataset = data_sets.mnist1d(seed)
        assert [len(one[1]) for one in (dataset.train, dataset.valid, dataset.test)] == [3200, 800, 1000]
    assert data_sets._mnist1d_arrays.cache_info().misses == 1


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    data_sets._mnist1d_arrays.cache_clear()
    for package, spec in (("sklearn.datasets", "digits"), ("mnist1d.data", "mnist1d")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=r"pip install 'diag\[suites\]'"):
            loaded(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mnist1d(samples=20)", "'mnist1d' takes samples from 100, got 20"),
        ("gaussian(features=0)", "'gaussian' takes numbers from 1, got 0, 10 and 2048"),
        ("shapeset(size=3)", "size"),
        ("adding(length=1)", "length"),
    ],
)
def test_options_that_cannot_be(spec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        loaded(spec)


@pytest.mark.parametrize("entry", kinds.data.entries(), ids=lambda one: one.name)
def test_a_recipe_names_it_and_is_stored(entry: object) -> None:
    name, options = entry.name, entry.options  # type: ignore[attr-defined]
    option, default = next(iter(options.items()))
    recipe = Recipe(data=f"{name}({option}={default!r})")
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(RecipeError, match=f"did you mean '{option}'"):
        Recipe(data=f"{name}({option}s={default!r})")


def test_mnist1d_leaves_pythons_own_generator_alone() -> None:
    random.seed(5)
    before = random.getstate()
    data_sets._mnist1d_arrays.cache_clear()
    loaded("mnist1d(samples=100)")
    assert random.getstate() == before
