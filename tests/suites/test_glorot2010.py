"""The measurements of suites/glorot2010.py against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from diag.suite.load import load_suite, module_of

suite = module_of(load_suite("suites/glorot2010.py"))


def test_jacobian_of_a_linear_layer_is_its_weight() -> None:
    layer = nn.Linear(6, 4)
    expected = float(np.linalg.svd(layer.weight.detach().double().numpy(), compute_uv=False).mean())
    assert suite.mean_singular_value(layer, torch.randn(6)) == pytest.approx(expected, rel=1e-5)


def test_jacobian_of_a_tanh_layer_has_its_slopes() -> None:
    layer, point = nn.Sequential(nn.Linear(5, 5), nn.Tanh()), torch.randn(5)
    slope = 1 - layer(point).detach().double() ** 2
    expected = torch.linalg.svdvals(slope[:, None] * layer[0].weight.detach().double()).mean()
    assert suite.mean_singular_value(layer, point) == pytest.approx(float(expected), rel=1e-5)


def test_histogram_counts_shares_in_units_of_the_top_layer() -> None:
    table = suite.histogram("gradient", [torch.tensor([0.0, 0.1, -0.1, 9.0]), torch.tensor([-2.0, 2.0])], bins=6)
    shares = table.pivot(index="layer", columns="value", values="share")
    # The top layer's deviation is 2 sqrt(2): its elements lie at -+ 0.71 of it, and 9 at 3.18, outside.
    assert shares.loc[2].tolist() == [0, 0, 0.5, 0.5, 0, 0]
    assert shares.loc[1].tolist() == [0, 0, 0.25, 0.5, 0, 0]


@pytest.mark.parametrize(("init", "factor"), [("legacy_uniform", 3**-0.5), ("glorot_uniform", 1.0)])
def test_linear_layers_shrink_by_the_rule(init: str, factor: float) -> None:
    """Square layers without biases or slopes: standard deviations change by sqrt(n Var[w]) both ways."""
    found = suite.at_initialization(0, init=init, units=256, activation="identity", samples=64)
    assert found["activation_ratio"] ** 0.25 == pytest.approx(factor, rel=0.05)
    assert found["gradient_ratio"] ** -0.25 == pytest.approx(factor, rel=0.05)
    # The mean singular value of a square matrix of independent entries is 8 / (3 pi) of their sqrt(n) deviation.
    assert found["jacobian"] == pytest.approx(8 / (3 * np.pi) * factor, rel=0.02)
    assert set(found["spread"]) == {"layer", "activation", "gradient", "weight_gradient"}
