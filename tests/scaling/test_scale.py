"""Networks whose scaling is known: He's initialization keeps its level, a fixed variance does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

import diag
from diag.errors import TargetError
from diag.scaling.scale import Scaling, scale

Init = Callable[[torch.Tensor], object]


def workload(width: int, depth: int, init: Init, optimizer: type[torch.optim.Optimizer], lr: float) -> diag.Workload:
    sizes = [32, *[width] * depth]
    hidden = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(width, 10))
    for one in model:
        if isinstance(one, nn.Linear):
            init(one.weight)
            nn.init.zeros_(one.bias)
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(64, 32, generator=generator), torch.randint(10, (64,), generator=generator)
    loss = lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1])  # noqa: E731 - a workload's
    return diag.Workload(model, [batch], loss, optimizer(model.parameters(), lr=lr))


def by_width(init: Init, optimizer: type[torch.optim.Optimizer] = torch.optim.SGD, lr: float = 0.01) -> Scaling:
    return scale(lambda width: workload(width, 3, init, optimizer, lr), [32, 64, 128, 256], seeds=4)


def slope(found: Scaling, site: str, quantity: str, step: int) -> float:
    (one,) = [s for s in found.slopes if (s.site, s.quantity, s.step) == (site, quantity, step)]
    return one.slope


def fixed(weight: torch.Tensor) -> object:
    return nn.init.normal_(weight, std=0.1)


@pytest.mark.slow
def test_he_keeps_activations_and_gradients_level() -> None:
    found = by_width(nn.init.kaiming_normal_)
    assert found.troubles == []
    for site in ("1", "3", "5"):
        assert slope(found, site, "activation", 0) == pytest.approx(0, abs=0.1)
        assert slope(found, site, "gradient", 0) == pytest.approx(0, abs=0.15)


@pytest.mark.slow
def test_a_fixed_variance_grows_by_half_an_exponent_a_layer() -> None:
    found = by_width(fixed)
    assert found.answer == "changes"
    # Each layer whose fan_in is the width multiplies the rms by width^0.5.
    assert slope(found, "3", "activation", 0) == pytest.approx(0.5, abs=0.1)
    assert slope(found, "5", "activation", 0) == pytest.approx(1.0, abs=0.1)
    assert slope(found, "(output)", "activation", 0) == pytest.approx(1.5, abs=0.2)
    assert any("variance of the weights" in one for one in found.advice())


@pytest.mark.slow
def test_adam_at_one_rate_grows_with_width_after_some_steps_only() -> None:
    found = by_width(nn.init.kaiming_normal_, torch.optim.Adam)
    assert found.answer == "changes"
    assert slope(found, "(output)", "activation", 0) == pytest.approx(0, abs=0.25)
    assert slope(found, "(output)", "activation", 4) > 0.35
    assert any("learning rate" in one for one in found.advice())


@pytest.mark.slow
def test_gradients_of_torchs_default_shrink_with_depth() -> None:
    def default(weight: torch.Tensor) -> object:
        return nn.init.kaiming_uniform_(weight, a=5**0.5)

    found = scale(lambda depth: workload(64, depth, default, torch.optim.SGD, 0.01), [2, 4, 8], axis="depth", seeds=2)
    assert {one.verdict for one in found.troubles} == {"shrinks"}
    assert {one.quantity for one in found.troubles} >= {"gradient"}


def test_the_same_seeds_give_the_same_table() -> None:
    build = lambda width: workload(width, 1, nn.init.kaiming_normal_, torch.optim.SGD, 0.1)  # noqa: E731
    state = torch.random.get_rng_state()
    first, second = (scale(build, [8, 16], seeds=2, steps=2).table for _ in range(2))
    assert first.equals(second)
    assert torch.equal(torch.random.get_rng_state(), state), "the user's random state is left alone"


@pytest.mark.parametrize(
    ("sizes", "options", "words"),
    [
        ([8], {}, "at least two sizes"),
        ([8, 0], {}, "at least two sizes"),
        ([8, 16], {"steps": 1}, "two steps"),
        ([8, 16], {"seeds": 0}, "one seed"),
    ],
)
def test_what_cannot_be_measured(sizes: list[int], options: dict[str, int], words: str) -> None:
    with pytest.raises(TargetError, match=words):
        scale(lambda width: workload(width, 1, fixed, torch.optim.SGD, 0.1), sizes, **options)


def test_without_an_optimizer_there_is_no_update() -> None:
    def build(width: int) -> diag.Workload:
        found = workload(width, 1, fixed, torch.optim.SGD, 0.1)
        return diag.Workload(found.model, found.batches, found.loss)

    with pytest.raises(TargetError, match="needs an optimizer"):
        scale(build, [8, 16])
