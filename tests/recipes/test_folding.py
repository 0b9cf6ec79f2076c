"""Batch normalization folded away: the same predictions from fewer layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diag.recipes import kinds
from diag.recipes.folding import fold_batch_norm
from diag.recipes.networks.build import build_network
from diag.recipes.spec import RecipeError


def trained(model: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """The model with running statistics, gammas and betas that are not the first ones."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                module.weight.uniform_(0.5, 2.0, generator=generator)
                module.bias.uniform_(-1.0, 1.0, generator=generator)
    for _ in range(5):
        model(inputs)
    return model


def network(name: str, inputs: tuple[int, ...], norm: str = "batch") -> nn.Module:
    return build_network(
        name,
        inputs=inputs,
        outputs=4,
        depth=3,
        width=12,
        activation=kinds.activation.resolve("swish"),
        norm=kinds.norm.resolve(norm),
        dropout=lambda: nn.Dropout(0.3),
    )


def norms_in(model: nn.Module) -> int:
    return sum(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in model.modules())


CASES = [("mlp", (10,)), ("cnn", (2, 16)), ("cnn(pool_every=1)", (1, 8, 8)), ("cnn", (20,))]


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_the_outputs_are_the_same_and_the_norms_are_gone(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(32, *shape) * 2 + 1
    model = trained(network(name, shape), inputs)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = fold_batch_norm(model)
    assert (norms_in(model), norms_in(folded)) == (3, 0)
    assert model.training and not folded.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    expected = model.eval()(inputs)
    assert expected.std() > 0.05
    assert torch.allclose(folded(inputs), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_in_double_precision_they_are_the_same_to_its_last_digits(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(32, *shape, dtype=torch.float64)
    model = trained(network(name, shape).double(), inputs).eval()
    assert torch.allclose(fold_batch_norm(model)(inputs), model(inputs), rtol=1e-12, atol=1e-12)


def test_other_chains() -> None:
    """Transposed and grouped convolutions, a layer without bias; a norm behind an activation stays."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.ConvTranspose2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.BatchNorm2d(6),
        nn.Conv2d(6, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6, affine=False),
        nn.Flatten(), nn.Linear(6 * 64, 5, bias=False), nn.BatchNorm1d(5),
    )  # fmt: skip
    inputs = torch.randn(16, 3, 8, 8)
    for _ in range(3):
        model(inputs)
    folded = fold_batch_norm(model)
    assert norms_in(folded) == 1
    assert torch.allclose(folded(inputs), model.eval()(inputs), atol=1e-5)


def test_a_shared_activation_between_layer_and_norm_keeps_them_apart() -> None:
    torch.manual_seed(0)
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), relu, nn.Linear(4, 4), relu, nn.BatchNorm1d(4))
    inputs = torch.randn(64, 4)
    model(inputs)
    folded = fold_batch_norm(model)
    assert norms_in(folded) == 1
    assert torch.allclose(folded(inputs), model.eval()(inputs), atol=1e-5)


WITHOUT_PAIRS = [("mlp", "layer"), ("mlp", "none"), ("rnn", "batch"), ("transformer", "batch")]


@pytest.mark.parametrize(("name", "norm"), WITHOUT_PAIRS)
def test_nothing_to_fold_is_an_error(name: str, norm: str) -> None:
    with pytest.raises(RecipeError, match="no Linear or convolution followed by a BatchNorm"):
        fold_batch_norm(network(name, (6, 3), norm))


def test_without_running_statistics_there_is_nothing_to_fold_in() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)))
    with pytest.raises(RecipeError, match=r"'0\.1' keeps no running statistics"):
        fold_batch_norm(model)
