from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diag.errors import DiagError
from diag.theory import mean_field
from diag.theory.activations import activation, names

ORDINARY = ["tanh", "sigmoid", "softsign", "relu", "elu", "selu", "gelu", "silu", "hardtanh", "softplus"]


def test_tanh_is_critical_at_unit_variance_without_bias() -> None:
    (point,) = mean_field.fixed_points(1.0, 0.0, activation("tanh"))
    assert (point.q, point.phase, point.depth_scale) == (0.0, "critical", math.inf)
    assert point.chi == pytest.approx(1, abs=1e-9)


def test_tanh_turns_chaotic_beyond_it_and_zero_loses_its_hold() -> None:
    zero, point = mean_field.fixed_points(1.5**2, 0.0, activation("tanh"))
    assert (zero.q, zero.stable, point.stable, point.phase) == (0.0, False, True, "chaotic")
    assert zero.slope == pytest.approx(1.5**2, rel=1e-6)
    below = mean_field.fixed_points(0.9**2, 0.0, activation("tanh"))
    assert [(one.q, one.stable, one.phase) for one in below] == [(0.0, True, "ordered")]
    assert below[0].depth_scale == pytest.approx(1 / -math.log(0.81), rel=1e-6)


def test_relu_under_he_keeps_every_second_moment() -> None:
    relu = activation("relu")
    zero, one = mean_field.fixed_points(2.0, 0.0, relu)
    assert (zero.q, one.q) == (0.0, 1.0)
    assert (one.slope, one.chi) == (pytest.approx(1, abs=1e-12), pytest.approx(1, abs=1e-12))
    # With a bias nothing holds it: q' = q + s_b^2.
    assert mean_field.fixed_points(2.0, 0.1, relu) == []
    (fixed,) = mean_field.fixed_points(1.0, 0.3, relu)
    assert fixed.q == pytest.approx(0.6, rel=1e-9)


def test_selu_holds_mean_zero_and_variance_one() -> None:
    selu = activation("selu")
    assert mean_field.mean(selu, 1.0) == pytest.approx(0, abs=1e-12)
    assert mean_field.second_moment(selu, 1.0) == pytest.approx(1, abs=1e-12)
    point = mean_field.fixed_points(1.0, 0.0, selu)[-1]
    assert point.q == pytest.approx(1, rel=1e-9)
    # Klambauer et al. 2017, section 2: the map's Jacobian there is ((0, 0.088834), (0, 0.782648)).
    assert point.stable
    assert point.slope == pytest.approx(0.782648, abs=1e-6)


@pytest.mark.parametrize(("weight", "bias"), [(1.0, -0.1), (-1.0, 0.1)])
def test_a_negative_variance_is_refused(weight: float, bias: float) -> None:
    with pytest.raises(DiagError, match="variances are at least 0"):
        mean_field.fixed_points(weight, bias, activation("tanh"))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ORDINARY), st.floats(0.05, 3.5), st.floats(0.0, 1.0))
def test_fixed_points_are_fixed_and_stability_is_where_iterating_leads(name: str, weight: float, bias: float) -> None:
    phi = activation(name)
    for point in mean_field.fixed_points(weight, bias, phi):
        assert mean_field.variance_map(point.q, weight, bias, phi) == pytest.approx(point.q, rel=1e-7, abs=1e-12)
        if point.q == 0 or abs(abs(point.slope) - 1) < 0.02:
            continue
        near = point.q * 1.001
        after = mean_field.variance_map(near, weight, bias, phi)
        assert (abs(after - point.q) < abs(near - point.q)) == point.stable


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(names()), st.floats(1e-4, 1e4))
def test_the_slope_of_the_map_is_its_difference_quotient(name: str, q: float) -> None:
    phi, h = activation(name), 1e-4
    low, high = (mean_field.second_moment(phi, q * (1 + sign * h)) for sign in (-1, 1))
    slope = (high - low) / (2 * h * q)
    assert mean_field.moment_slope(phi, q) == pytest.approx(slope, rel=1e-5, abs=1e-7 * high / q)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ORDINARY), st.floats(1e-3, 1e3), st.floats(0.01, 10), st.floats(0, 2))
def test_the_map_is_linear_in_both_variances_and_chi_in_the_first(
    name: str, q: float, weight: float, bias: float
) -> None:
    phi = activation(name)
    one = mean_field.variance_map(q, 1.0, 0.0, phi)
    assert mean_field.variance_map(q, weight, bias, phi) == pytest.approx(weight * one + bias, rel=1e-12)
    assert mean_field.chi(q, weight, phi) == pytest.approx(weight * mean_field.slope_moment(phi, q), rel=1e-12)
    # Cauchy and Schwarz, twice.
    assert mean_field.mean(phi, q) ** 2 <= mean_field.second_moment(phi, q) * (1 + 1e-12)
    assert mean_field.second_moment(phi, q) ** 2 <= mean_field.fourth_moment(phi, q) * (1 + 1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_the_cross_moment_of_relu_is_the_arc_cosine_kernel(rho: float) -> None:
    """Cho & Saul 2009, equation 6 for n = 1: q (sin a + (pi - a) cos a) / (2 pi), cos a = rho."""
    angle, q = math.acos(rho), 2.5
    exact = q * (math.sin(angle) + (math.pi - angle) * rho) / (2 * math.pi)
    assert mean_field.cross_moment(activation("relu"), q, rho * q) == pytest.approx(exact, rel=2e-4)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(ORDINARY), st.floats(0.05, 10), st.floats(0, 1))
def test_the_cross_moment_lies_between_independent_and_equal(name: str, q: float, rho: float) -> None:
    phi = activation(name)
    crossed = mean_field.cross_moment(phi, q, rho * q)
    low, high = mean_field.mean(phi, q) ** 2, mean_field.second_moment(phi, q)
    assert low * (1 - 1e-4) - 1e-12 <= crossed <= high * (1 + 1e-4)
