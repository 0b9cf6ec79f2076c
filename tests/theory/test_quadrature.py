from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from diag.theory.activations import Activation, activation, names
from diag.theory.quadrature import expect, hermite

STDS = (1e-3, 0.3, 1.0, 3.0, 100.0)


def by_quad(activation: Activation, power: int, std: float, slope: bool = False) -> float:
    """The same integral by QUADPACK's adaptive rule, told of the kinks and of where the function bends."""
    function = activation.slope if slope else activation.phi
    bends = [sign * activation.width * 2.0**k / std for k in range(-2, 12) for sign in (-1, 1)]
    cuts = sorted({0.0, -14.0, 14.0, *(z for z in [k / std for k in activation.kinks] + bends if abs(z) < 14)})

    def integrand(z: float) -> float:
        value = float(function(np.array([std * z]))[0])
        return value**power * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)

    return sum(quad(integrand, a, b, epsabs=1e-14, epsrel=1e-11, limit=200)[0] for a, b in pairwise(cuts))


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("std", [0.3, 3.0])
def test_second_moments_agree_with_an_adaptive_rule(name: str, std: float) -> None:
    one = activation(name)
    for slope in (False, True):
        function = one.slope if slope else one.phi
        got = expect(lambda x, f=function: f(x) ** 2, std, kinks=one.kinks, width=one.width)
        assert got == pytest.approx(by_quad(one, 2, std, slope), rel=1e-9)


@pytest.mark.parametrize("std", STDS)
def test_relu_keeps_half_of_the_second_moment(std: float) -> None:
    relu = activation("relu")
    assert expect(lambda x: relu.phi(x) ** 2, std, kinks=relu.kinks) == pytest.approx(std**2 / 2, rel=1e-12)
    assert expect(lambda x: relu.slope(x) ** 2, std, kinks=relu.kinks) == pytest.approx(1 / 2, rel=1e-12)
    assert expect(relu.phi, std, kinks=relu.kinks) == pytest.approx(std / math.sqrt(2 * math.pi), rel=1e-12)


@pytest.mark.parametrize("std", STDS)
def test_gelu_in_closed_form(std: float) -> None:
    """E[x^2 Phi(x)^2] by Stein's lemma twice; E[x Phi(x)] = q / sqrt(2 pi (1 + q))."""
    gelu, q = activation("gelu"), std**2
    rho = q / (1 + q)
    square = q * (1 / 4 + math.asin(rho) / (2 * math.pi)) + q**2 / (math.pi * (1 + q) * math.sqrt(1 + 2 * q))
    assert expect(lambda x: gelu.phi(x) ** 2, std) == pytest.approx(square, rel=1e-9)
    assert expect(gelu.phi, std) == pytest.approx(q / math.sqrt(2 * math.pi * (1 + q)), rel=1e-9)


def test_one_rule_of_gauss_and_hermite_fails_at_a_kink_and_the_pieces_do_not() -> None:
    z, weights = hermite()
    hard = activation("hardtanh")
    exact = expect(lambda x: hard.slope(x) ** 2, 1.0, kinks=hard.kinks)
    assert exact == pytest.approx(math.erf(1 / math.sqrt(2)), rel=1e-12)
    assert abs(float(weights @ hard.slope(z) ** 2) / exact - 1) > 1e-3


@given(st.floats(1e-3, 1e3), st.floats(-5, 5), st.lists(st.floats(-3, 3), max_size=3))
def test_moments_of_the_normal_distribution_whatever_the_cuts(std: float, shift: float, kinks: list[float]) -> None:
    mean = shift * std
    assert expect(np.ones_like, std, mean, kinks) == pytest.approx(1, rel=1e-12)
    assert expect(lambda x: x**2, std, mean, kinks) == pytest.approx(std**2 + mean**2, rel=1e-10)
    assert expect(lambda x: (x - mean) ** 4, std, mean, kinks) == pytest.approx(3 * std**4, rel=1e-9)


@given(st.floats(1e-3, 1e3), st.floats(-4, 4))
def test_a_jump_anywhere_is_the_normal_distribution_function(std: float, place: float) -> None:
    got = expect(lambda x: (x > place * std).astype(float), std, kinks=[place * std])
    assert got == pytest.approx(0.5 * math.erfc(place / math.sqrt(2)), rel=1e-10, abs=1e-14)


def test_no_spread_is_the_value_itself() -> None:
    assert expect(np.cos, 0.0, 2.0) == math.cos(2.0)
