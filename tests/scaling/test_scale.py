"""Networks whose scaling is known: He's initialization keeps its level, a fixed variance does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

import diag
from diag.errors import TargetError
from diag.report.scaling import headline
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


def mup(width: int) -> diag.Workload:
    """A readout of 1 / width, and rates of 1 / width behind the first layer."""
    made = workload(width, 3, nn.init.kaiming_normal_, torch.optim.SGD, 0.1)
    first, second, third, readout = (one for one in made.model if isinstance(one, nn.Linear))
    nn.init.normal_(readout.weight, std=1 / width)
    rate = 0.01 * 32 / width
    wide = [second.weight, third.weight, readout.weight]
    rest = [first.weight, *(one.bias for one in (first, second, third, readout))]
    optimizer = torch.optim.Adam([{"params": wide, "lr": rate}, {"params": rest, "lr": 0.01}])
    return diag.Workload(made.model, made.batches, made.loss, optimizer)


class Residual(nn.Module):
    """Branches of a weight each."""

    def __init__(self, depth: int, weight: float) -> None:
        super().__init__()
        self.inp, self.out, self.weight = nn.Linear(32, 32), nn.Linear(32, 10), weight
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)) for _ in range(depth)
        )
        for branch in self.branches:
            nn.init.kaiming_normal_(branch[0].weight)
            nn.init.kaiming_normal_(branch[2].weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inp(x)
        for branch in self.branches:
            x = x + self.weight * branch(x)
        return self.out(x)


def by_depth(weight: Callable[[int], float]) -> Scaling:
    def build(depth: int) -> diag.Workload:
        made = workload(32, 1, fixed, torch.optim.SGD, 0.1)
        model = Residual(depth, weight(depth))
        return diag.Workload(model, made.batches, made.loss, torch.optim.SGD(model.parameters(), lr=1e-4))

    return scale(build, [2, 4, 8, 16], axis="depth", seeds=5)


@pytest.mark.slow
def test_the_shrinking_of_mup_is_no_trouble() -> None:
    found = scale(mup, [32, 64, 128, 256], seeds=5)
    assert slope(found, "(output)", "activation", 0) == pytest.approx(-0.5, abs=0.2)
    assert slope(found, "3", "gradient", 0) == pytest.approx(-0.5, abs=0.15)
    assert found.troubles == [] and found.answer != "changes"
    assert [one.partition(",")[0] for one in found.advice()] == [
        "At initialization the output shrinks with width", "Gradients shrink with width",
    ]  # fmt: skip


@pytest.mark.slow
def test_branches_that_are_scaled_as_advised_are_no_trouble() -> None:
    found = by_depth(lambda depth: 0.5 * depth**-0.5)
    assert slope(found, "branches.0.2", "gradient", 0) == pytest.approx(-0.45, abs=0.15)
    assert found.troubles == []
    assert any(one.startswith("Within residual branches") for one in found.advice())


@pytest.mark.slow
def test_branches_that_are_not_scaled_grow() -> None:
    found = by_depth(lambda depth: 1.0)
    assert found.answer == "changes" and {one.verdict for one in found.troubles} == {"grows"}
    assert any("1 / sqrt(depth)" in one for one in found.advice())


def test_a_readout_that_begins_at_zero_is_level() -> None:
    def build(width: int) -> diag.Workload:
        made = workload(width, 1, nn.init.kaiming_normal_, torch.optim.SGD, 0.1)
        nn.init.zeros_(made.model[-1].weight)
        return made

    found = scale(build, [8, 16], seeds=2, steps=2)
    (one,) = [s for s in found.slopes if (s.site, s.quantity, s.step) == ("(output)", "activation", 0)]
    assert (one.verdict, one.slope) == ("level", 0.0)


def test_a_size_that_changes_nothing_is_told() -> None:
    with pytest.raises(TargetError, match=r"the size changes nothing: does m\.py:f use its width\?"):
        scale(lambda width: workload(8, 1, fixed, torch.optim.SGD, 0.1), [8, 16], seeds=2, target="m.py:f")


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


def test_a_target_that_seeds_itself_counts_once() -> None:
    """Five times the same network has no spread, which would make a certainty of any slope."""

    def build(width: int) -> diag.Workload:
        torch.manual_seed(0)
        return workload(width, 2, nn.init.kaiming_normal_, torch.optim.SGD, 0.01)

    found = scale(build, [16, 32], seeds=4, steps=2, target="model.py:build")
    assert (found.seeds, found.seeded, found.answer) == (1, "model.py:build", "cannot tell")
    assert found.advice()[0].startswith(
        "All seeds gave the very same networks, so that one of them counts: model.py:build"
    )
    assert headline(found).startswith("cannot tell: one network of each size")
    other = scale(lambda width: workload(width, 2, nn.init.kaiming_normal_, torch.optim.SGD, 0.01), [16, 32], steps=2)
    assert (other.seeds, other.seeded) == (5, "")
