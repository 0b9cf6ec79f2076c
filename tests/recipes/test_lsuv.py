"""LSUV: unit variance at every layer, by a pass of its own that leaves no trace."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diag.recipes.inits import initialize
from diag.recipes.spec import RecipeError

INPUTS = torch.randn(128, 1, 12, 12, generator=torch.Generator().manual_seed(1)) * 5 + 1


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def network(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), activation(), nn.Conv2d(8, 8, 3), activation(), nn.Flatten(), nn.Linear(512, 32),
        activation(), nn.Dropout(0.5), nn.Linear(32, 10),
    )  # fmt: skip


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
def test_each_layers_output_has_variance_one(activation: type[nn.Module]) -> None:
    model = network(activation)
    initialize(model, "lsuv(tol=0.001)", seeded(), INPUTS)
    hidden = INPUTS
    model.eval()
    with torch.no_grad():
        for layer in model:
            hidden = layer(hidden)
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                assert float(hidden.double().var()) == pytest.approx(1.0, abs=0.001)
                assert not layer.bias.any()


def test_each_weight_is_an_orthogonal_one_scaled() -> None:
    model, orthogonal = network(), network()
    initialize(model, "lsuv", seeded(), INPUTS)
    initialize(orthogonal, "orthogonal", seeded())
    for found, expected in zip(model, orthogonal, strict=True):
        if isinstance(found, (nn.Conv2d, nn.Linear)):
            ratio = found.weight / expected.weight
            assert torch.allclose(ratio, ratio.flatten()[0].expand_as(ratio), rtol=1e-4)


def test_within_the_tolerance_nothing_is_scaled() -> None:
    """An orthogonal square layer on white noise has variance 1 already, up to the noise of the batch."""
    inputs = torch.randn(512, 64, generator=seeded())
    loose, tight = nn.Linear(64, 64), nn.Linear(64, 64)
    initialize(loose, "lsuv", seeded(), inputs)
    initialize(tight, "lsuv(tol=1e-7)", seeded(), inputs)
    assert torch.allclose(loose.weight @ loose.weight.T, torch.eye(64), atol=1e-5)
    assert not torch.allclose(tight.weight @ tight.weight.T, torch.eye(64), atol=1e-5)


def test_nothing_is_left_behind() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model[2].eval()
    inputs = torch.randn(32, 6)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    initialize(model, "lsuv", seeded(), inputs)
    assert torch.equal(torch.get_rng_state(), before)
    assert [one.training for one in model.modules()] == [True, True, True, False, True]
    assert model[1].num_batches_tracked == 0 and not model[1].running_mean.any()
    assert all("forward" not in one.__dict__ for one in model.modules())
    assert all(one.grad is None and one.requires_grad for one in model.parameters())
    copy.deepcopy(model)
    assert torch.backends.mha.get_fastpath_enabled()


def test_behind_batch_normalization_it_sees_what_training_sees() -> None:
    model = nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 50))
    inputs = torch.randn(256, 20, generator=seeded()) * 30
    initialize(model, "lsuv(tol=0.001)", seeded(), inputs)
    assert float(model(inputs).detach().var()) == pytest.approx(1.0, abs=0.001)


class Twice(nn.Module):
    """One layer called twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(10, 10), nn.Linear(4, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.first = self.used(inputs)
        return self.used(F.relu(self.first))


def test_a_layer_is_scaled_at_its_first_call_and_one_that_never_runs_stays_orthogonal() -> None:
    model = Twice()
    inputs = torch.randn(64, 10, generator=seeded()) * 7
    initialize(model, "lsuv(tol=0.001)", seeded(), inputs)
    model(inputs)
    assert float(model.first.detach().var()) == pytest.approx(1.0, abs=0.001)
    assert torch.allclose(model.unused.weight @ model.unused.weight.T, torch.eye(4), atol=1e-5)
    assert "forward" not in model.unused.__dict__


def test_layers_inside_torchs_transformer_are_reached() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    inputs = torch.randn(8, 5, 16, generator=seeded()) * 4
    initialize(layer, "lsuv(tol=0.001)", seeded(), inputs)
    hidden = layer.norm1(inputs + layer.self_attn(inputs, inputs, inputs)[0])
    assert float(layer.linear1(hidden).detach().var()) == pytest.approx(1.0, abs=0.002)


def test_inputs_that_do_not_vary_leave_finite_weights() -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2))
    initialize(model, "lsuv", seeded(), torch.zeros(16, 5))
    assert all(one.isfinite().all() for one in model.parameters())


def test_a_model_that_fails_is_left_without_our_wrapping() -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(8, 2))
    with pytest.raises(RuntimeError, match="shapes"):
        initialize(model, "lsuv", seeded(), torch.randn(4, 5))
    assert all("forward" not in one.__dict__ for one in model.modules()) and model.training


@pytest.mark.parametrize("spec", ["lsuv(tol=0.0)", "lsuv(max_iterations=0)"])
def test_options_that_cannot_be(spec: str) -> None:
    with pytest.raises(RecipeError, match="lsuv needs tol > 0"):
        initialize(nn.Linear(2, 2), spec, seeded(), torch.randn(4, 2))
