from __future__ import annotations

import math

import pytest
import torch

from diag.errors import DiagError
from diag.recipes.inits import initialize
from diag.theory import mean_field
from diag.theory.activations import activation
from diag.theory.closed_forms import TABLE, ClosedForm, glorot_over_he, weight_variance
from diag.theory.network import Affine, BatchNorm, Bend, Step, back_propagate, propagate

BY_NAME = {row.name: row for row in TABLE}


def steps_of(row: ClosedForm, depth: int) -> list[Step]:
    weight = 1024 * weight_variance(row.init, 1024, 1024)
    one: list[Step] = [Affine(weight), *([BatchNorm(eps=0.0)] if row.norm else []), Bend(activation(row.activation))]
    return one * depth


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_mean_field_gives_every_row(row: ClosedForm) -> None:
    """Forward and backward factor of a layer deep inside, from the integrals alone."""
    steps = steps_of(row, 6)
    per = len(steps) // 6
    states = propagate(1.0, steps)
    gradients = back_propagate(1.0, steps, states)
    at = (3 * per + per - 1, 4 * per + per - 1)
    before, after = (float(states[i].second) for i in at)
    up, down = (float(gradients[i].second) for i in at)
    if row.forward is not None:
        assert after / before == pytest.approx(row.forward, rel=1e-9)
    if row.backward is not None and not row.bound:
        assert up / down == pytest.approx(row.backward, rel=1e-9)
    if row.bound:
        assert row.backward is not None
        assert 0.5 * row.backward < up / down <= row.backward
    if row.q is not None:
        assert before == pytest.approx(row.q, rel=1e-9)


def test_the_bound_of_a_sigmoid_is_reached_where_its_slope_is_largest() -> None:
    bound = BY_NAME["sigmoid_legacy"].backward
    assert mean_field.chi(1e-12, 1 / 3, activation("sigmoid")) == pytest.approx(bound, rel=1e-9)
    assert mean_field.chi(1.0, 1 / 3, activation("sigmoid")) < 0.9 * (bound or 0)


@pytest.mark.parametrize("depth", [1, 22, 30])
def test_glorot_falls_behind_he_by_a_factor_of_the_root_of_two_a_layer(depth: int) -> None:
    ends = [float(propagate(1.0, steps_of(BY_NAME[name], depth))[-1].second) for name in ("relu_glorot", "relu_he")]
    assert math.sqrt(ends[0] / ends[1]) == pytest.approx(glorot_over_he(depth), rel=1e-9)


@pytest.mark.parametrize(
    "name", "legacy_uniform glorot_uniform glorot_normal lecun_uniform lecun_normal he_uniform he_normal".split()
)
def test_weights_drawn_by_the_recipe_have_the_variance_of_the_rule(name: str) -> None:
    layer = torch.nn.Linear(300, 500)
    initialize(layer, name, torch.Generator().manual_seed(0))
    # 150,000 draws: the variance errs by 0.4 % at most (normal), and four times that never happens.
    assert float(layer.weight.detach().var()) == pytest.approx(weight_variance(name, 300, 500), rel=0.015)


def test_an_unknown_initialization_gets_its_neighbor() -> None:
    with pytest.raises(DiagError, match=r"no variance of 'he_norml' \(did you mean 'he_normal'\?\)"):
        weight_variance("he_norml", 3, 3)
