from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diag.errors import DiagError
from diag.recipes.activations import Swish
from diag.theory.activations import activation, names

CASES: list[tuple[str, dict[str, Any], nn.Module]] = [
    ("identity", {}, nn.Identity()),
    ("sigmoid", {}, nn.Sigmoid()),
    ("tanh", {}, nn.Tanh()),
    ("softsign", {}, nn.Softsign()),
    ("relu", {}, nn.ReLU()),
    ("relu6", {}, nn.ReLU6()),
    ("hardtanh", {}, nn.Hardtanh()),
    ("hardtanh", {"min_val": -0.3, "max_val": 2.0}, nn.Hardtanh(-0.3, 2.0)),
    ("hardsigmoid", {}, nn.Hardsigmoid()),
    ("leaky_relu", {}, nn.LeakyReLU()),
    ("leaky_relu", {"negative_slope": 0.2}, nn.LeakyReLU(0.2)),
    ("prelu", {}, nn.PReLU()),
    ("elu", {}, nn.ELU()),
    ("elu", {"alpha": 2.5}, nn.ELU(2.5)),
    ("selu", {}, nn.SELU()),
    ("celu", {}, nn.CELU()),
    ("celu", {"alpha": 0.4}, nn.CELU(0.4)),
    ("gelu", {}, nn.GELU()),
    ("gelu", {"approximate": "tanh"}, nn.GELU("tanh")),
    ("silu", {}, nn.SiLU()),
    ("swish", {"beta": 1.7}, Swish(1.7)),
    ("hardswish", {}, nn.Hardswish()),
    ("mish", {}, nn.Mish()),
    ("softplus", {}, nn.Softplus()),
    ("softplus", {"beta": 3.0}, nn.Softplus(3.0, threshold=50)),
]


def test_every_activation_is_held_to_torch() -> None:
    assert {name for name, _, _ in CASES} == set(names())


@pytest.mark.parametrize(("name", "parameters", "module"), CASES, ids=[f"{n}{p or ''}" for n, p, _ in CASES])
def test_values_and_slopes_are_those_of_torch(name: str, parameters: dict[str, Any], module: nn.Module) -> None:
    one = activation(name, **parameters)
    x = np.concatenate([np.linspace(-9, 9, 3601) + 1e-4, [-40.0, 40.0]])
    inputs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    output = module.double()(inputs)
    (slope,) = torch.autograd.grad(output.sum(), inputs)
    np.testing.assert_allclose(one.phi(x), output.detach().numpy(), rtol=1e-7, atol=3e-9)
    np.testing.assert_allclose(one.slope(x), slope.numpy(), rtol=1e-7, atol=3e-9)


@pytest.mark.parametrize(("name", "parameters", "module"), CASES, ids=[f"{n}{p or ''}" for n, p, _ in CASES])
def test_kinks_are_where_a_derivative_jumps_and_nowhere_else(
    name: str, parameters: dict[str, Any], module: nn.Module
) -> None:
    """The slope bends abruptly over a step of h only at a kink: by the slope of the slope, which is bounded, else."""
    one, h = activation(name, **parameters), 1e-4
    x = np.arange(-8, 8, h) + h / 3
    bend = np.diff(one.slope(x), 2) / h
    places = x[1:-1][np.abs(bend) > 0.05]
    found = {round(float(place), 2) for place in places}
    assert found == {round(kink, 2) for kink in one.kinks}


@pytest.mark.parametrize("name", names())
def test_rises_tells_whether_the_function_ever_falls(name: str) -> None:
    one = activation(name)
    assert one.rises == bool((one.slope(np.linspace(-12, 12, 4001)) >= -1e-12).all())


def test_a_misspelt_name_gets_its_neighbor() -> None:
    with pytest.raises(DiagError, match=r"knows no activation 'rleu' \(did you mean 'relu'\?\)"):
        activation("rleu")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("elu", {"alhpa": 1.0}, r"elu has no parameter 'alhpa' \(did you mean 'alpha'\?\)"),
        ("tanh", {"alpha": 1.0}, r"tanh has no parameter 'alpha'.*it has none"),
        ("gelu", {"approximate": "erf"}, "gelu's approximate is 'none' or 'tanh', got 'erf'"),
        ("hardtanh", {"min_val": 2.0}, "hardtanh needs min_val < max_val, got 2.0 and 1.0"),
        ("softplus", {"beta": 0.0}, "softplus needs beta > 0, got 0.0"),
        ("celu", {"alpha": -1.0}, "celu needs alpha > 0, got -1.0"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(DiagError, match=message):
        activation(name, **parameters)


def test_theory_loads_no_torch_and_no_pandas() -> None:
    code = (
        "import sys, diag.theory.network, diag.theory.closed_forms;"
        "sys.exit(bool({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
