"""Starts: what is copied, what stays, what is frozen, and what all of them keep."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from diag.recipes import kinds
from diag.recipes.recipe import Recipe
from diag.recipes.registry import Entry
from diag.recipes.spec import RecipeError
from diag.recipes.starts import all_inputs
from diag.train.build import build_model, load_dataset
from diag.train.evaluate import evaluate
from diag.train.fit import fit
from tests.recipes.start_jobs import FEW, NETWORKS, begun, job_of

ENTRIES = kinds.start.entries()
TARGET = "digits(classes='5-9', labeled=50)"
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda one: one.name)
on_each_network = pytest.mark.parametrize("name", NETWORKS)


def same(one: nn.Module, two: nn.Module) -> bool:
    values, others = one.state_dict(), two.state_dict()
    return values.keys() == others.keys() and all(torch.equal(values[key], others[key]) for key in values)


def short(name: str, **changes: object) -> str:
    """A start as a recipe names it, with four steps if it takes any."""
    given = {**({"steps": 4} if "steps" in kinds.start.entry(name).options else {}), **changes}
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})" if given else name


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_transfer_reuses_the_lower_layers_of_a_network_trained_on_the_source(layers: int) -> None:
    recipe = NETWORKS["mlp"].but(data=TARGET, start=f"transfer(layers={layers}, steps=60)", optimizer="adam", lr=0.01)
    job = job_of(recipe)
    fresh = copy.deepcopy(job.model)
    kinds.start.resolve(recipe.start)(job)
    task = kinds.data.resolve("digits(classes='0-4')")(job.seed)
    source = job.train(job.build(recipe.but(steps=60), task), recipe.but(steps=60), task)
    for number in range(3):
        assert same(job.model.blocks[number], (source if number < layers else fresh).blocks[number])
    assert same(job.model.head, fresh.head)
    assert all(one.requires_grad for one in job.model.parameters())
    # The source network did learn, so that there is something to carry over.
    assert evaluate(source, task, task.test)["accuracy"] > 0.8


def test_transfer_trains_the_source_by_the_recipe_but_without_early_stopping() -> None:
    recipe = NETWORKS["mlp"].but(
        data=TARGET, start="transfer(steps=7)", regularizers=("l2(strength=0.1)", "early_stopping"), steps=99, lr=0.3
    )
    seen: list[Recipe] = []
    job = job_of(recipe)
    train = job.train
    object.__setattr__(job, "train", lambda model, other, data: seen.append(other) or train(model, other, data))
    kinds.start.resolve(recipe.start)(job)
    expected = recipe.but(data="digits(classes='0-4')", start="scratch", steps=7, regularizers=("l2(strength=0.1)",))
    assert seen == [expected]


@pytest.mark.parametrize("name", ["mlp with norms", "cnn"])
def test_frozen_blocks_stay_as_they_are(name: str) -> None:
    recipe = NETWORKS[name].but(data=TARGET, start="transfer(layers=1, steps=20, frozen=True)", steps=20)
    model = begun(recipe)
    before = copy.deepcopy(model)
    trainable = {key for key, one in model.named_parameters() if one.requires_grad}
    assert trainable and not any(key.startswith("blocks.0.") for key in trainable)
    fit(model, recipe, load_dataset(recipe.data, 0), 0)
    assert same(model.blocks[0], before.blocks[0])
    # Running statistics too, which a training forward pass would have moved in the block above.
    assert not torch.equal(model.blocks[1].norm.running_mean, before.blocks[1].norm.running_mean)
    assert not same(model.head, before.head)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_frozen_network_can_be_copied_and_stored(again: object) -> None:
    model = begun(NETWORKS["mlp with norms"].but(data=TARGET, start="transfer(layers=1, steps=2, frozen=True)"))
    other = again(model)  # type: ignore[operator]
    assert same(model, other)
    other.eval()
    other.train()
    assert [one.training for one in other.modules()] == [one.training for one in model.train().modules()]
    assert not other.blocks[0].norm.training and other.blocks[1].norm.training
    assert other.blocks[0].train() is other.blocks[0]


@on_each_network
def test_transfer_between_all_networks(name: str) -> None:
    recipe = NETWORKS[name].but(data=TARGET, start="transfer(layers=1, steps=2, frozen=True)", steps=2)
    model = begun(recipe)
    assert not same(model.blocks[0], build_model(recipe, load_dataset(TARGET, 0), 0).blocks[0])
    assert not fit(model, recipe, load_dataset(TARGET, 0), 0).diverged


@pytest.mark.parametrize("layers", [-1, 4])
def test_more_layers_than_there_are(layers: int) -> None:
    with pytest.raises(RecipeError, match=rf"transfer\(layers={layers}\): the network has 3 blocks, so 0 to 3"):
        begun(NETWORKS["mlp"].but(data=TARGET, start=f"transfer(layers={layers})"))


def test_a_source_of_another_shape() -> None:
    with pytest.raises(
        RecipeError, match=r"transfer from 'gaussian': its samples are \[1024\], those of .* \[1, 8, 8\]"
    ):
        begun(NETWORKS["mlp"].but(data=TARGET, start="transfer(source='gaussian')"))
    with pytest.raises(RecipeError, match=r"no data set 'digit' .did you mean 'digits'"):
        begun(NETWORKS["mlp"].but(data=TARGET, start="transfer(source='digit')"))


@pytest.mark.parametrize("start", ["transfer", "autoencoder", "gan"])
def test_a_network_without_blocks(start: str) -> None:
    recipe = NETWORKS["mlp"].but(data=FEW, start=start)
    headless = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(2, 2)])})
    for model in (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), headless):
        with pytest.raises(
            RecipeError, match=rf"{type(model).__name__} has no layers .*needs `blocks`.*below a `head`"
        ):
            kinds.start.resolve(start)(job_of(recipe, model=model))
    with pytest.raises(RecipeError, match=r"MLP has no layers that could be reused.*depth 0 gives none"):
        begun(recipe.but(depth=0))


@pytest.mark.parametrize("start", ["autoencoder", "gan"])
@pytest.mark.parametrize("data", ["digits", "shapeset(held_out=9)"])
def test_data_without_unlabeled_samples(start: str, data: str) -> None:
    with pytest.raises(
        RecipeError, match=rf"'{start}' learns from unlabeled samples, and '{data.partition('(')[0]}.*has none"
    ):
        begun(NETWORKS["mlp"].but(data=data, start=start))


def test_all_inputs_are_those_with_and_those_without_labels() -> None:
    whole = load_dataset("digits", 0).train[0].flatten(1)
    assert torch.equal(all_inputs(job_of(Recipe(data=FEW))).flatten(1).unique(dim=0), whole.unique(dim=0))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("autoencoder(steps=-1)", "'autoencoder' takes steps, lr and noise from 0, got -1, 0.001, 0.3"),
        ("autoencoder(noise=-0.1)", "noise from 0"),
        ("gan(latent=0)", "'gan' takes steps and lr from 0 and latent from 1, got 500, 0.0002, 0"),
        ("transfer(steps=-5)", "steps is a whole number from 0, got -5"),
    ],
)
def test_options_that_cannot_be(spec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        begun(NETWORKS["mlp"].but(data=FEW.replace("digits(", "digits(classes='5-9', "), start=spec))


@each
def test_the_seed_alone_decides_and_no_other_stream_is_touched(entry: Entry) -> None:
    recipe = NETWORKS["mlp with norms"].but(data=FEW, start=short(entry.name))
    torch.manual_seed(5)
    first = begun(recipe)
    drawn = torch.rand(1)
    second = begun(recipe)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert same(first, second)
    assert not same(first, begun(recipe, seed=1))


@each
@on_each_network
def test_only_what_is_reused_changes_and_nothing_is_left_behind(entry: Entry, name: str) -> None:
    recipe = NETWORKS[name].but(data=FEW, start=short(entry.name))
    fresh, model = build_model(recipe, load_dataset(FEW, 0), 0), begun(recipe)
    assert same(fresh.head, model.head)
    assert same(fresh.blocks[0], model.blocks[0]) == (entry.name == "scratch")
    assert [key for key, _ in model.named_modules()] == [key for key, _ in fresh.named_modules()]
    assert all(one.grad is None for one in model.parameters())


@pytest.mark.parametrize("entry", [one for one in ENTRIES if one.options], ids=lambda one: one.name)
def test_a_recipe_names_it_and_is_stored(entry: Entry) -> None:
    recipe = Recipe(start=short(entry.name))
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(RecipeError, match="did you mean 'steps'"):
        Recipe(start=f"{entry.name}(step=3)")
