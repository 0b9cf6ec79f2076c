"""Regularizers: penalties and limits against float64, dropout's mean, stopping in time, and what all of them keep."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from diag.recipes import kinds
from diag.recipes.recipe import Recipe
from diag.recipes.registry import Entry
from diag.recipes.regularizer import Regularizer
from diag.recipes.spec import RecipeError
from diag.train.build import build_model, load_dataset
from diag.train.evaluate import evaluate
from diag.train.fit import fit

ENTRIES = kinds.regularizer.entries()
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda one: one.name)


def made(spec: str) -> Regularizer:
    result: Regularizer = kinds.regularizer.resolve(spec)()
    return result


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 2)
    ).to(dtype)


def weights(model: nn.Module) -> list[nn.Parameter]:
    return [one for one in model.parameters() if one.ndim >= 2]


def test_l1_and_l2_are_over_the_trainable_weights_only() -> None:
    model = network()
    model[5].requires_grad_(False)
    flat = np.concatenate([one.detach().numpy().ravel() for one in weights(model[:5])])
    penalties = {name: made(f"{name}(strength=0.3)").penalty for name in ("l1", "l2")}
    assert penalties["l1"] is not None and penalties["l2"] is not None
    assert penalties["l1"](model).item() == pytest.approx(0.3 * np.abs(flat).sum(), rel=1e-12)
    assert penalties["l2"](model).item() == pytest.approx(0.3 * (flat**2).sum(), rel=1e-12)
    first = model[0].weight
    for name, slope in (("l1", 0.3 * first.sign()), ("l2", 0.6 * first)):
        model.zero_grad()
        penalties[name](model).backward()  # type: ignore[misc]
        assert torch.allclose(first.grad, slope.detach(), rtol=1e-12)
        assert all(one.grad is None for one in model.parameters() if one.ndim < 2 or not one.requires_grad)


def test_a_network_without_weights_has_no_penalty() -> None:
    for name in ("l1", "l2"):
        penalty = made(name).penalty
        assert penalty is not None and float(penalty(nn.BatchNorm1d(3))) == 0


def test_weight_decay_is_decoupled_and_spares_biases() -> None:
    model = network()
    before = copy.deepcopy(model)
    after_step = made("weight_decay(strength=0.5)").after_step
    assert after_step is not None
    after_step(model, 0.1)
    for now, was in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.allclose(now, was * (0.95 if was.ndim >= 2 else 1.0), rtol=1e-12)


def norms(weight: torch.Tensor) -> np.ndarray:
    return np.linalg.norm(weight.detach().numpy().reshape(len(weight), -1), axis=1)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(9, 7),
        nn.Conv2d(3, 5, 3),
        nn.Conv1d(4, 6, 3, groups=2),
        nn.LSTM(3, 4),
        nn.GRUCell(3, 4),
        nn.MultiheadAttention(8, 2),
    ],
    ids=lambda one: type(one).__name__,
)
def test_max_norm_limits_every_unit_and_leaves_those_within_alone(layer: nn.Module) -> None:
    layer = layer.double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in layer.parameters():
            one.normal_(generator=generator)
            if one.ndim >= 2:
                one.mul_(torch.linspace(0.01, 3, len(one), dtype=one.dtype).view(-1, *[1] * (one.ndim - 1)))
    before = copy.deepcopy(layer)
    after_step = made("max_norm(c=1.5)").after_step
    assert after_step is not None
    after_step(nn.ModuleList([layer]), 0.1)
    for now, was in zip(layer.parameters(), before.parameters(), strict=True):
        if now.ndim < 2:
            assert torch.equal(now, was)
            continue
        limits = np.minimum(norms(was), 1.5)
        assert norms(now) == pytest.approx(limits, rel=1e-6) and (norms(now) <= 1.5).all()
        assert 0 < (norms(was) > 1.5).sum() < len(was)
        within = torch.from_numpy(norms(was) < 1.5)
        assert torch.equal(now[within], was[within])
        directions = [one.detach().numpy() / norms(one).reshape(-1, *[1] * (one.ndim - 1)) for one in (now, was)]
        assert directions[0] == pytest.approx(directions[1], abs=1e-12)


def test_max_norm_spares_embeddings_gains_and_what_is_frozen() -> None:
    model = nn.ModuleList([nn.Embedding(3, 4), nn.LayerNorm([3, 4]), nn.Linear(4, 4)])
    with torch.no_grad():
        for one in model.parameters():
            one.fill_(5)
    model[2].requires_grad_(False)
    after_step = made("max_norm(c=1.0)").after_step
    assert after_step is not None
    after_step(model, 0.1)
    assert all((one == 5).all() for one in model.parameters())


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_dropouts_mean_in_training_is_its_value_at_prediction(p: float) -> None:
    make = made(f"dropout(p={p})").dropout
    assert make is not None
    layer = make()
    z = torch.linspace(-2, 3, 5, dtype=torch.float64)
    torch.manual_seed(0)
    noisy = layer(z.expand(40_000, 5))
    kept = noisy != 0
    assert torch.allclose(noisy[kept], (z / (1 - p)).expand_as(noisy)[kept])
    # Five standard errors of a mean of 40,000 values z / (1 - p) with probability 1 - p.
    error = 5 * z.abs() * np.sqrt(p / (1 - p) / 40_000)
    assert ((noisy.mean(0) - z).abs() <= error).all()
    assert torch.equal(layer.eval()(z), z)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    make = made("alpha_dropout(p=0.3)").dropout
    assert make is not None
    layer = make()
    torch.manual_seed(0)
    z = torch.randn(400_000, dtype=torch.float64)
    noisy = layer(z)
    assert float(noisy.mean()) == pytest.approx(0, abs=0.01)
    assert float(noisy.var()) == pytest.approx(1, abs=0.02)
    # What is dropped becomes SELU's lower limit before all is scaled and shifted: one value, and not 0.
    values, counts = noisy.unique(return_counts=True)
    assert counts.max() / len(z) == pytest.approx(0.3, abs=0.005) and values[counts.argmax()] < -0.5


def test_early_stopping_ends_in_time_and_restores_the_best_weights() -> None:
    # A rate at which the validation loss of 20 labels soon rises again.
    recipe = Recipe(data="digits(labeled=20)", lr=0.5, steps=400, regularizers=("early_stopping(patience=3)",))
    dataset = load_dataset(recipe.data, 0)
    model = build_model(recipe, dataset, 0)
    fitted = fit(model, recipe, dataset, 0, validations=40)
    losses = [row["valid_loss"] for row in fitted.curves.rows]
    assert fitted.stopped_early and fitted.steps < 400
    best = int(np.argmin(losses))
    assert len(losses) - 1 - best == 3
    assert fitted.best_step == fitted.curves.rows[best]["step"]
    assert evaluate(model, dataset, dataset.valid)["loss"] == pytest.approx(min(losses), rel=1e-6)


@each
def test_each_does_one_thing(entry: Entry) -> None:
    result = entry.build()
    given = [value for value in vars(result).values() if value is not None]
    assert isinstance(result, Regularizer) and len(given) == 1


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_device_are_kept(entry: Entry, dtype: torch.dtype) -> None:
    result = entry.build()
    for model in (network(dtype), network(dtype).to("meta")):
        device = next(model.parameters()).device
        if result.penalty is not None:
            penalty = result.penalty(model)
            assert penalty.dtype == dtype and penalty.ndim == 0 and penalty.device == device
        if result.after_step is not None:
            result.after_step(model, 0.1)
            assert {(one.dtype, one.device) for one in model.parameters()} == {(dtype, device)}
        if result.dropout is not None:
            z = result.dropout()(torch.ones(3, dtype=dtype, device=device))
            assert z.dtype == dtype and z.device == device


@pytest.mark.parametrize("name", [one.name for one in ENTRIES if "dropout" in one.name])
def test_dropouts_are_new_modules_that_copy_and_store(name: str) -> None:
    make = made(f"{name}(p=0.25)").dropout
    assert make is not None
    assert make() is not make()
    for other in (copy.deepcopy(make()), pickle.loads(pickle.dumps(make()))):
        outputs = []
        for module in (make(), other):
            torch.manual_seed(3)
            outputs.append(module(torch.ones(100)))
        assert torch.equal(*outputs) and outputs[0].unique().numel() == 2


@each
def test_a_recipe_names_it_and_is_stored(entry: Entry) -> None:
    option, default = next(iter(entry.options.items()))
    recipe = Recipe(regularizers=(f"{entry.name}({option}={default!r})", "early_stopping"))
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(RecipeError, match=f"has no option '{option}_'.*it takes {option}"):
        Recipe(regularizers=(f"{entry.name}({option}_={default!r})",))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dropout(p=1)", "'dropout' takes p from 0 and below 1, got 1"),
        ("alpha_dropout(p=-0.1)", "'alpha_dropout' takes p from 0"),
        ("l1(strength=-1.0)", "'l1' takes a strength from 0, got -1.0"),
        ("l2(strength=-1)", "'l2' takes a strength from 0"),
        ("weight_decay(strength=-1)", "'weight_decay' takes a strength from 0"),
        ("max_norm(c=0)", "'max_norm' takes c above 0"),
        ("early_stopping(patience=0)", "'early_stopping' takes a patience from 1"),
    ],
)
def test_options_that_cannot_be(spec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        made(spec)
