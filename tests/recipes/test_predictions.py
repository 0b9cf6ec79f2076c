"""Predictions: against float64, the passes of Monte Carlo dropout, and what all of them keep."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from diag.recipes import kinds
from diag.recipes.predictions import mc_dropout, plain
from diag.recipes.recipe import Recipe
from diag.recipes.registry import Entry
from diag.recipes.spec import RecipeError

ENTRIES = kinds.prediction.entries()
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda one: one.name)


def network(outputs: int = 3, p: float = 0.5, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(p), nn.Linear(16, outputs)).to(
        dtype
    )
    model(torch.randn(50, 4, dtype=dtype))  # gives the norm its running statistics
    return model


def inputs(count: int = 6, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, 4, dtype=dtype, generator=torch.Generator().manual_seed(1))


def test_plain_is_the_softmax_in_evaluation_mode() -> None:
    model = network().train()
    got = plain(model, inputs())
    logits = copy.deepcopy(model).eval()(inputs()).detach().numpy()
    assert got.mean.numpy() == pytest.approx(softmax(logits, 1), rel=1e-12)
    assert got.log_mean is not None and got.log_mean.numpy() == pytest.approx(log_softmax(logits, 1), rel=1e-12)
    assert got.variance is None


def test_a_single_output_is_a_value() -> None:
    model = network(outputs=1)
    assert torch.equal(plain(model, inputs()).mean, model.eval()(inputs()))
    got = mc_dropout(model, inputs(), passes=400, seed=0)
    assert got.log_mean is None and got.variance is not None
    # The last layer is linear in the dropped values, so that the mean over passes tends to the plain output.
    error = 5 * (got.variance / 400).sqrt()
    assert ((got.mean - plain(model, inputs()).mean).abs() < error).all()


def test_mean_and_variance_over_passes() -> None:
    model = network()
    got = mc_dropout(model, inputs(), passes=7, seed=3)
    by_hand = copy.deepcopy(model).eval()
    by_hand[3].train()
    torch.manual_seed(3)
    passes = np.stack([softmax(by_hand(inputs()).detach().numpy(), 1) for _ in range(7)])
    assert got.mean.numpy() == pytest.approx(passes.mean(0), rel=1e-12)
    assert got.variance is not None and got.variance.numpy() == pytest.approx(passes.var(0), rel=1e-10)
    assert got.log_mean is not None and got.log_mean.numpy() == pytest.approx(np.log(passes.mean(0)), rel=1e-12)
    assert passes.var(0).min() > 1e-6


def test_without_anything_dropped_it_is_plain() -> None:
    model = network(p=0.0)
    got, expected = mc_dropout(model, inputs(), passes=3), plain(model, inputs())
    assert torch.allclose(got.mean, expected.mean, rtol=1e-14)
    assert got.variance is not None and float(got.variance.max()) < 1e-30


def test_the_logarithm_does_not_underflow() -> None:
    model = nn.Sequential(nn.Dropout(0.0), nn.Identity())
    got = mc_dropout(model, torch.tensor([[0.0, 2000.0, -500.0]]), passes=2)
    assert got.log_mean is not None and got.log_mean.tolist() == [[-2000.0, 0.0, -2500.0]]
    assert got.mean.tolist() == [[0.0, 1.0, 0.0]]


def test_the_seed_alone_decides_and_the_global_stream_is_left_alone() -> None:
    model = network()
    torch.manual_seed(11)
    first = mc_dropout(model, inputs(), passes=5, seed=1)
    drawn = torch.rand(1)
    second = mc_dropout(model, inputs(), passes=5, seed=1)
    torch.manual_seed(11)
    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(first.mean, second.mean)
    assert not torch.equal(first.mean, mc_dropout(model, inputs(), passes=5, seed=2).mean)


def test_without_a_seed_the_global_stream_decides() -> None:
    model = network()
    means = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        means.append(mc_dropout(model, inputs(), passes=5).mean)
    assert torch.equal(means[0], means[1]) and not torch.equal(means[0], means[2])


def test_torchs_own_encoder_layers_drop_too() -> None:
    """In evaluation mode they take a fused path that would skip their dropout modules."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
            self.encoder, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.encoder(x).mean(1))

    was = torch.backends.mha.get_fastpath_enabled()
    got = mc_dropout(Encoder(), torch.randn(4, 5, 8), passes=10, seed=0)
    assert got.variance is not None and float(got.variance.min()) > 0
    assert torch.backends.mha.get_fastpath_enabled() == was


@pytest.mark.parametrize(
    "dropout",
    [nn.Dropout(), nn.Dropout1d(), nn.AlphaDropout(), nn.FeatureAlphaDropout()],
    ids=lambda x: type(x).__name__,
)
def test_every_kind_of_dropout_is_sampled(dropout: nn.Module) -> None:
    model = nn.Sequential(nn.Unflatten(1, (4, 1)), dropout, nn.Flatten(), nn.Linear(4, 3)).double()
    got = mc_dropout(model, inputs(), passes=20, seed=0)
    assert got.variance is not None and float(got.variance.max()) > 1e-6


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probabilities_of_the_inputs_type(entry: Entry, dtype: torch.dtype) -> None:
    got = entry.build(network(dtype=dtype), inputs(dtype=dtype))
    assert got.mean.shape == (6, 3) and got.mean.dtype == dtype and not got.mean.requires_grad
    assert torch.allclose(got.mean.sum(1), torch.ones(6, dtype=dtype))
    assert got.log_mean is not None and torch.allclose(got.log_mean.exp(), got.mean)


@each
def test_device_is_kept(entry: Entry) -> None:
    got = entry.build(network().to("meta"), inputs().to("meta"))
    assert got.mean.device.type == "meta"


@each
@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(entry: Entry, training: bool) -> None:
    model = network().train(training)
    model[1].eval()  # as a frozen layer
    before = copy.deepcopy(model.state_dict())
    modes = [one.training for one in model.modules()]
    entry.build(model, inputs())
    assert [one.training for one in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(RuntimeError):
        entry.build(model, torch.ones(1, 99).double())
    assert [one.training for one in model.modules()] == modes


@each
def test_deterministic_under_a_seed(entry: Entry) -> None:
    model = network()
    means = []
    for _ in range(2):
        torch.manual_seed(0)
        means.append(entry.build(model, inputs()).mean)
    assert torch.equal(*means)


def test_a_recipe_names_it_and_is_stored() -> None:
    recipe = Recipe(prediction="mc_dropout(passes=20, seed=1)")
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(RecipeError, match="did you mean 'passes'"):
        Recipe(prediction="mc_dropout(pases=20)")


def test_what_cannot_be() -> None:
    with pytest.raises(RecipeError, match="add the regularizer 'dropout'"):
        mc_dropout(nn.Linear(4, 3).double(), inputs())
    with pytest.raises(RecipeError, match="passes from 1, got 0"):
        mc_dropout(network(), inputs(), passes=0)
