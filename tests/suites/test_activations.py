"""The measurements of suites/activations.py against hand-made units and closed forms."""

from __future__ import annotations

import pytest
import torch

import diag
from diag.suite.load import load_suite, module_of
from diag.train.build import build_model, load_dataset

suite = module_of(load_suite("suites/activations.py"))


@pytest.mark.parametrize(
    ("name", "slope"),
    [("relu", 1.0), ("sigmoid", 0.25), ("tanh", 1.0), ("hardsigmoid", 1 / 6), ("selu", 1.7580993), ("gelu", 1.1289)],
)
def test_largest_slope(name: str, slope: float) -> None:
    assert suite.largest_slope(name) == pytest.approx(slope, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "dead", "flat"), [("relu", True, True), ("leaky_relu", False, False), ("elu", False, True)]
)
def test_dead_and_flat_units(name: str, dead: bool, flat: bool) -> None:
    """A unit far below 0 on every sample; its neighbors are left alone."""
    recipe = diag.Recipe(activation=name, init="he_normal", depth=2, width=16)
    dataset = load_dataset("digits", 0)
    model = build_model(recipe, dataset, 0)
    with torch.no_grad():
        model.blocks[1].linear.bias[3] -= 100
    dead_units, flat_units = suite.dead_and_flat(model, dataset.train[0], suite.largest_slope(name))
    assert dead_units.shape == flat_units.shape == (2, 16)
    assert (dead_units[1, 3].item(), flat_units[1, 3].item()) == (dead, flat)
    assert not dead_units[1, :3].any()
    assert not any(block.activation._forward_hooks for block in model.blocks)


def test_sleeping_units_get_a_gradient_only_where_there_is_a_slope() -> None:
    relu = suite.put_to_sleep(0, activation="relu", init="he_normal", steps=0)
    leaky = suite.put_to_sleep(0, activation="leaky_relu", init="he_normal", steps=0)
    assert relu == {"gradient": 0.0, "woken": 0.0}
    assert leaky["woken"] == 0.0
    assert 0.001 < leaky["gradient"] < 0.1  # its slope there is 0.01


def test_harsh_counts_states_of_units() -> None:
    found = suite.harsh(0, activation="relu", steps=20, checks=4)
    units = found["units"]
    assert units["step"].tolist() == [0, 5, 10, 15, 20]
    assert (units["sleeping"] <= units["dead"]).all()
    assert units["sleeping"].iloc[-1] == 0
    assert found["dead"] == pytest.approx(units["dead"].iloc[-1] / 192)
    # What leaves the dead from one check to the next has revived.
    assert (units["dead"].diff().iloc[1:] >= -units["revived"].iloc[1:]).all()


def test_swish_nearest_to_gelu() -> None:
    found = suite.swish_like_gelu(0)
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    gaps = {
        beta: float((z * torch.sigmoid(beta * z) - torch.nn.functional.gelu(z)).abs().max())
        for beta in (1.702, found["beta"])
    }
    assert found["gap_1702"] == pytest.approx(gaps[1.702], rel=1e-4)
    assert found["gap"] == pytest.approx(gaps[found["beta"]], rel=1e-4)
    assert found["gap"] <= found["gaps"]["gap"].min() + 1e-9


def test_cost_is_relative_to_relu() -> None:
    found = suite.cost(0, elements=2**10, seconds=0.001, rounds=1)
    assert found["forward_relu"] == found["backward_relu"] == 1.0
    assert all(value > 0 for name, value in found.items() if name != "cost")
    assert (found["cost"][["forward", "backward"]] > 0).all(axis=None)
