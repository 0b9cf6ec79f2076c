"""Profiles over depth, windows of steps, and when a loss counts as falling or as diverged."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from diag.rules.evidence import Evidence, Trend, divergence_step
from tests.rules.traces import DEFAULTS, Net, chain, evidence, falling, flat, slowly


def trend(*values: float) -> Trend:
    return Trend([str(number) for number in range(len(values))], np.array(values, dtype=float))


@pytest.mark.parametrize("count", [3, 4, 5, 8, 30])
@pytest.mark.parametrize("total", [-6.0, -0.5, 0.5, 6.0])
def test_an_even_change_is_its_total(count: int, total: float) -> None:
    even = trend(*np.linspace(0, total, count))
    assert even.total == pytest.approx(total)
    assert even.factor == pytest.approx(10 ** (total / (count - 1)))


@pytest.mark.parametrize("outlier", [-7.0, 7.0])
@pytest.mark.parametrize("place", [1, 3, 5, 8])
def test_one_outlier_inside_says_nothing(place: int, outlier: float) -> None:
    values = [0.0] * 10
    values[place] = outlier
    assert trend(*values).total == 0.0


@pytest.mark.parametrize("outlier", [-4.0, 4.0])
def test_one_outlier_hardly_moves_a_trend(outlier: float) -> None:
    values = np.linspace(0, -6, 12)
    values[5] += outlier
    assert trend(*values).total == pytest.approx(-6, abs=0.5)


def test_the_last_layer_alone_makes_no_trend() -> None:
    """The envelope leaves it out, so what remains is the one step up to it."""
    values = [0.0] * 9 + [2.0]
    assert trend(*values).step == 2.0
    assert trend(0, 3, 0, 3, 0, 3, 0, 3, 0, 1).total == 0.0
    rising_branches = [3, -3, -2.5, 3, -2, -1.5, 3, -1, -0.5, 3]
    assert trend(*rising_branches, 4).total == pytest.approx(1)


def test_residual_branches_below_the_stream_do_not_count() -> None:
    stream_and_branches = [0.0, -4.0, 0.0, -4.5, 0.0, -5.0, 0.0, -5.5, 0.0, -6.0, 0.0]
    assert abs(trend(*stream_and_branches).total) < 0.1


def test_two_measures_that_disagree_in_sign_cancel() -> None:
    values = [0.0, -1, -2, 5, -1, -2, -3, -2, -3, -1, 6, -4, 0]
    assert trend(*values).total == trend(*values).step == 0.0


@pytest.mark.parametrize("gap", [-4.0, 4.0])
@pytest.mark.parametrize("place", [1, 5, 9])
def test_a_single_bottleneck_is_the_whole_step(place: int, gap: float) -> None:
    values = [0.1 * (-1) ** number for number in range(10)]
    parted = trend(*(value + gap * (number >= place) for number, value in enumerate(values)))
    lower, upper = values[:place], values[place:]
    clear = min(upper) - max(lower) if gap > 0 else max(upper) - min(lower)
    assert parted.step == pytest.approx(gap + clear)
    assert abs(parted.total) >= abs(parted.step)


def test_no_step_where_the_values_overlap() -> None:
    assert trend(0, 5, 0, 5, 0, 5).step == 0.0


def test_a_trend_takes_three_positive_sites() -> None:
    assert evidence(chain([0.1, 0.1])).trend("gradient", [0], "rms") is None
    assert evidence(chain([0.1, 0.0, 0.1])).trend("gradient", [0], "rms") is None
    found = evidence(chain([1e-4, 1e-3, 1e-2])).trend("gradient", [0, 1], "rms")
    assert found is not None
    assert found.sites == ["0", "2", "4"]
    assert found.total == pytest.approx(2)


def test_calls_of_a_shared_module_are_sites_of_their_own() -> None:
    net = Net()
    for call in range(4):
        net.output("cell", "recurrent", "rnn_cell", gradient=10.0**call, call=call)
    found = evidence(net).trend("gradient", [0], "norm")
    assert found is not None
    assert found.sites == ["cell"] * 4
    assert found.total == pytest.approx(3)


def test_windows_end_before_the_run_breaks_down() -> None:
    assert evidence(chain(steps=30)).early == [0, 1, 2]
    assert evidence(chain(steps=30)).late == list(range(20, 30))
    broken = Net(loss=lambda step: math.nan if step >= 12 else 1.0).output("0", bad={("activation", 14): 1})
    assert evidence(broken).first_bad_step == 12
    assert evidence(broken).clean == list(range(12))
    diverged = Net(loss=lambda step: 1e3 if step >= 7 else 1.0).output("0")
    assert evidence(diverged).diverged_at == 7
    assert evidence(diverged).late == list(range(7))
    at_once = Net(loss=lambda step: math.nan).output("0")
    assert evidence(at_once).clean == [0]


def test_what_the_input_and_the_layers_are() -> None:
    found = evidence(chain([1.0, 1.0, 1.0]))
    assert found.layers == ["0", "2", "4"]
    assert found.input_rms() == 1.0
    assert math.isnan(evidence(Net().output("0")).input_rms())
    assert set(found.parameters["site"]) == {"0.weight", "2.weight", "4.weight"}
    assert found.usual_nonlinearity() == "relu"
    assert found.trains
    assert not evidence(chain(optimizer=None)).trains


@pytest.mark.parametrize(
    ("losses", "falls"),
    [
        ([falling(step) for step in range(30)], True),
        ([flat(step) for step in range(30)], False),
        ([2.3 - 1e-6 * step for step in range(30)], False),
        ([1.0 + 0.1 * step for step in range(30)], False),
        ([-1.0 - 0.1 * step for step in range(30)], True),
        ([3.0, 2.0, 1.0], False),
        ([2.3 - 0.02 * step + 0.1 * (-1) ** step for step in range(30)], True),
        ([2.3 - 0.0005 * step + 0.3 * (-1) ** step for step in range(30)], False),
    ],
)
def test_when_a_loss_falls(losses: list[float], falls: bool) -> None:
    assert evidence(Net(len(losses), losses).output("0")).loss_falls() is falls


def test_the_threshold_of_a_fall() -> None:
    net = Net(30, lambda step: 1 - 0.001 * step).output("0")
    assert evidence(net).fall() == pytest.approx(0.02, rel=0.1)
    assert evidence(net).loss_falls()
    assert not Evidence(net.build(), {**DEFAULTS, "loss_fall": 0.03}).loss_falls()


def test_of_several_optimizers_the_busiest_ones_losses_count() -> None:
    taking_turns = Net(30, lambda step: 50.0 if step % 3 == 0 else falling(step), lambda step: float(step % 3 == 0))
    found = evidence(taking_turns.output("0"))
    assert found.alternates
    assert len(found.losses) == 20
    assert found.losses.max() < 2.3
    assert found.loss_at(3) == 50.0


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ([1.0] * 5 + [29.0] * 5, None),
        ([1.0] * 5 + [31.0] * 5, 5),
        ([1.0, 1.0, 40.0], 2),
        ([-1.0] * 5 + [-1e3] * 5, None),
        ([-1.0] * 5 + [-1e5] * 5, 5),
        ([-1.0] * 5 + [40.0] * 5, 5),
        ([1.0, math.nan, 1.0, 1.0, 50.0], 4),
        ([1.0], None),
        ([math.inf] * 4, None),
    ],
)
def test_when_a_loss_diverges(losses: list[float], step: int | None) -> None:
    assert divergence_step(pd.Series(losses), 30) == step


@pytest.mark.parametrize(
    ("options", "stuck", "copes"),
    [
        ({"loss": flat}, True, False),
        ({"loss": slowly}, False, False),
        ({"loss": falling}, False, True),
        ({"loss": flat, "steps": 11}, False, False),
        ({"loss": None}, False, False),
        ({"loss": flat, "optimizer": None}, False, False),
        ({"loss": falling, "optimizer": None}, False, False),
        ({"loss": flat, "optimizer": lambda step: step % 2}, False, False),
    ],
)
def test_when_training_is_stuck_and_when_it_copes(options: dict[str, Any], stuck: bool, copes: bool) -> None:
    """What is not known is neither; where optimizers take turns no loss need fall."""
    known = evidence(chain(**options))
    assert known.stuck is stuck
    assert known.copes(0.1) is copes
    assert not known.copes(2.0)


def test_a_factor_that_the_ends_do_not_give_is_told_as_a_fit() -> None:
    even = Trend(list("abcde"), np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    assert even.told() == "x10 a layer over 5 layers"
    assert even.told(upward=False) == "x0.1 a layer over 5 layers"
    bent = Trend(list("abcdef"), np.array([0.0, 1.0, 2.0, 3.0, 4.0, 2.0]))
    assert bent.factor == pytest.approx(10 ** (bent.total / 5))
    assert bent.told() == f"x{bent.factor:.2g} a layer by a fit to all of them, over 6 layers"
