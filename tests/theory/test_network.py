"""Theory against networks of torch at initialization: width 1024, depth 20, the mean over three seeds."""

from __future__ import annotations

import functools
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from diag.recipes.inits import initialize
from diag.theory.activations import activation
from diag.theory.closed_forms import TABLE, ClosedForm, weight_variance
from diag.theory.network import Affine, BatchNorm, Bend, Dropout, Reshape, State, Step, back_propagate, propagate
from diag.theory.window import window_of

WIDTH, DEPTH, BATCH, SEEDS = 1024, 20, 96, 3
MODULES = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "selu": nn.SELU, "tanh": nn.Tanh, "gelu": nn.GELU}


def network(name: str, init: str, norm: bool, widths: list[int], seed: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out, bias=False), *([nn.BatchNorm1d(fan_out)] if norm else [])]
        layers.append(MODULES[name]())
    model = nn.Sequential(*layers)
    initialize(model, init, torch.Generator().manual_seed(seed))
    return model


def measure(model: nn.Sequential, inputs: torch.Tensor, seed: int) -> tuple[list[float], list[float]]:
    """Second moments of every module's output and of its gradient, for a random gradient at the top."""
    outputs, signal = [], inputs
    for module in model:
        signal = module(signal)
        signal.retain_grad()
        outputs.append(signal)
    signal.backward(torch.randn(signal.shape, generator=torch.Generator().manual_seed(seed + 100)))
    seconds = [float(one.detach().square().mean()) for one in outputs]
    return seconds, [float(one.grad.square().mean()) for one in outputs if one.grad is not None]


@functools.cache
def factors(name: str, init: str, norm: bool) -> tuple[float, float]:
    """Forward and backward factor a layer, between the first pre-activation and the last: the mean over seeds."""
    found = []
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed + 50)
        model = network(name, init, norm, [WIDTH] * (DEPTH + 1), seed)
        seconds, gradients = measure(model, torch.randn(BATCH, WIDTH, generator=generator), seed)
        per = len(model) // DEPTH
        q, g = seconds[per - 2 :: per], gradients[per - 2 :: per]
        found.append(((q[-1] / q[0]) ** (1 / (DEPTH - 1)), (g[0] / g[-1]) ** (1 / (DEPTH - 1))))
    return tuple(np.mean(found, axis=0).tolist())


@pytest.mark.slow
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_row_of_the_table_is_measured_within_five_percent(row: ClosedForm) -> None:
    forward, backward = factors(row.activation, row.init, row.norm)
    if row.forward is not None:
        assert forward == pytest.approx(row.forward, rel=0.05)
    if row.backward is not None and not row.bound:
        assert backward == pytest.approx(row.backward, rel=0.05)
    if row.bound:
        assert 0.9 * (row.backward or 0) < backward <= (row.backward or 0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "init"), [("tanh", "lecun_normal"), ("gelu", "lecun_normal")])
def test_the_variance_map_of_any_activation_is_measured_within_five_percent(name: str, init: str) -> None:
    steps: list[Step] = [Affine(WIDTH * weight_variance(init, WIDTH, WIDTH)), Bend(activation(name), False)] * DEPTH
    states = propagate(1.0, steps)
    gradients = back_propagate(1.0, steps, states)
    forward, backward = factors(name, init, False)
    ends = float(states[-2].second / states[1].second), float(gradients[1].second / gradients[-2].second)
    assert forward == pytest.approx(ends[0] ** (1 / (DEPTH - 1)), rel=0.05)
    assert backward == pytest.approx(ends[1] ** (1 / (DEPTH - 1)), rel=0.05)


def test_non_square_layers_and_their_own_variances() -> None:
    """Each layer by itself, with a bias: fan_in upwards, fan_out downwards."""
    widths, torch_steps, steps = [300, 900, 150, 600], [], []
    generator = torch.Generator().manual_seed(0)
    for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
        layer = nn.Linear(fan_in, fan_out)
        nn.init.normal_(layer.weight, std=(0.5 + i) * fan_in**-0.5, generator=generator)
        nn.init.normal_(layer.bias, std=0.4, generator=generator)
        torch_steps += [layer, nn.Tanh()]
        weight, bias = (float(one.detach().square().mean()) for one in (layer.weight, layer.bias))
        steps += [Affine(fan_in * weight, bias, fan_out / fan_in, fan_out), Bend(activation("tanh"))]
    inputs = torch.randn(400, widths[0], generator=generator)
    seconds, slopes = measure(nn.Sequential(*torch_steps), inputs, 0)
    states = propagate(float(inputs.square().mean()), steps)
    gradients = back_propagate(slopes[-1], steps, states)
    for i, (second, slope) in enumerate(zip(seconds, slopes, strict=True)):
        assert float(states[i + 1].second) == pytest.approx(second, rel=0.12)
        assert float(gradients[i + 1].second) == pytest.approx(slope, rel=0.12)
        # Without the aspect the gradient would be off by a factor of 4 or 6.


def test_a_convolution_loses_at_its_edges_what_the_window_says() -> None:
    """Four layers, the mean over four draws; three times the error that six draws had."""
    channels, size, found = 96, 8, []
    window = window_of((size, size), (size, size), (3, 3))
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        layers: list[nn.Module] = []
        for _ in range(4):
            layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            nn.init.normal_(layer.weight, std=(2 / (9 * channels)) ** 0.5, generator=generator)
            layers += [layer, nn.ReLU()]
        model = nn.Sequential(*layers)
        inputs = torch.randn(16, channels, size, size, generator=generator)
        seconds, slopes = measure(model, inputs, seed)
        with torch.no_grad():
            image = model(inputs).square().mean((0, 1))
        found.append([*seconds, *slopes, float(image[0, 0] / image[2:6, 2:6].mean())])
    steps: list[Step] = [Affine(2.0, units=channels, window=window), Bend(activation("relu"))] * 4
    states = propagate(State(np.ones((size, size))), steps)
    gradients = back_propagate(1.0, steps, states)
    assert states[1].rms ** 2 == pytest.approx((22 / 24) ** 2 * 2, rel=1e-12)
    measured = np.mean(found, axis=0)
    np.testing.assert_allclose(measured[:8], [one.rms**2 for one in states[1:]], rtol=0.3)
    np.testing.assert_allclose(measured[:4], [one.rms**2 for one in states[1:5]], rtol=0.1)
    np.testing.assert_allclose(measured[8:16], [one.rms**2 for one in gradients[1:]], rtol=0.12)
    last = states[-1].second
    assert measured[16] == pytest.approx(last[0, 0] / last[2:6, 2:6].mean(), rel=0.25)
    assert measured[16] < 0.5


@pytest.mark.parametrize("size", [1, 2])
def test_padding_takes_as_much_from_the_covariance(size: int) -> None:
    """A batch norm behind a padded window on a small map: what is left of 9 weights, before, after and backward."""
    window = window_of((size, size), (size, size), (3, 3))
    start = State(np.full((size, size), 2.0), covariance=0.8)
    steps: list[Step] = [Affine(2.0, window=window), BatchNorm(), Bend(activation("relu")), Affine(2.0, window=window)]
    states = propagate(start, [*steps, BatchNorm()])
    within = (1 if size == 1 else 4) / 9
    assert float(states[1].second.mean()) == pytest.approx(4.0 * within)
    assert states[1].covariance == pytest.approx(1.6 * within)
    assert all(one.covariance <= float(one.second.mean()) for one in states)
    gradients = back_propagate(1.0, steps, states[:-1])
    assert all(math.isfinite(one.rms) and one.rms > 0 for one in gradients)


def test_the_map_over_many_positions_is_read_from_a_curve_as_exact_as_it_need_be() -> None:
    image = np.geomspace(1e-3, 30, 100).reshape(10, 10)
    bend = Bend(activation("gelu"))
    whole = bend.forward(State(image)).second
    single = [float(bend.forward(State(np.asarray(one))).second) for one in image.ravel()]
    np.testing.assert_allclose(whole.ravel(), single, rtol=2e-2)


def test_dropout_scales_both_ways_and_a_reshape_takes_the_mean() -> None:
    steps = [Dropout(0.5), Reshape(), Affine(3.0, aspect=2.0), Reshape((2,))]
    states = propagate(State(np.array([1.0, 3.0])), steps)
    assert [float(one.second.mean()) for one in states] == [2.0, 4.0, 4.0, 12.0, 12.0]
    gradients = back_propagate(1.0, steps, states)
    assert [one.second.tolist() for one in gradients[:3]] == [[12.0, 12.0], [6.0, 6.0], 6.0]


def test_the_standard_error_covers_what_one_network_does_to_one_sample() -> None:
    """All samples alike is the worst case: the error of ln(rms) over 60 narrow networks is the one foretold."""
    depth, width = 8, 64
    steps: list[Step] = [Affine(2.0, units=width), Bend(activation("relu"))] * depth
    foretold = propagate(1.0, steps)[-2].sampled
    found = []
    for seed in range(60):
        model = network("relu", "he_normal", False, [width] * (depth + 1), seed)[:-1]
        with torch.no_grad():
            found.append(0.5 * math.log(float(model(torch.ones(1, width)).square().mean())))
    assert np.std(found) == pytest.approx(foretold, rel=0.3)


def test_batch_norm_forgets_the_error_and_the_scale() -> None:
    states = propagate(State(np.asarray(400.0), error=3.0, units=64), [BatchNorm(scale=4.0, shift=0.5)])
    assert float(states[-1].second) == pytest.approx(4.5, rel=1e-6)
    assert states[-1].error == 0
    assert states[-1].sampled == pytest.approx(math.sqrt(2 / 64) / 2)
