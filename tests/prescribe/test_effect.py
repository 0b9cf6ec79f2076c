"""The effect of a remedy, its interval, and when it counts as help."""

from __future__ import annotations

import math

import pytest

from diag.prescribe.arm import Arm
from diag.prescribe.effect import MARGIN, effect_of, is_open, is_settled, verdict_of
from diag.prescribe.remedy import Remedy
from tests.prescribe.cases import mlp, search, sgd


def arms(*finals: float, start: float = 2.0) -> list[Arm]:
    return [Arm(seed, start, final, not math.isfinite(final)) for seed, final in enumerate(finals)]


def test_log_ratio_with_students_interval() -> None:
    effect = effect_of(arms(1.0, 1.0, 1.0), arms(0.5, 0.25, 0.125))
    mean, sd, t = -2 * math.log(2), math.log(2), 4.302652729911275
    assert effect.measure == "log ratio"
    assert effect.value == pytest.approx(mean)
    assert effect.low == pytest.approx(mean - t * sd / 3**0.5)
    assert effect.high == pytest.approx(mean + t * sd / 3**0.5)
    assert (effect.control, effect.remedy, effect.start, effect.seeds) == (1.0, pytest.approx(0.25), 2.0, 3)


def test_losses_that_are_not_positive_are_subtracted() -> None:
    effect = effect_of(arms(-1.0, -2.0), arms(-3.0, -4.0))
    assert (effect.measure, effect.value) == ("difference", -2.0)
    assert effect.low == effect.high == -2.0


def test_pairs_of_seeds_cancel_what_they_share() -> None:
    effect = effect_of(arms(1.0, 1.5, 2.0), arms(0.5, 0.75, 1.0))
    assert effect.low == pytest.approx(effect.high) == pytest.approx(-math.log(2))


def test_how_far_a_control_diverged_is_no_effect() -> None:
    effect = effect_of(arms(1e30, 50.0, math.inf), arms(1.0, 1.0, 1.0))
    assert effect.value == pytest.approx(math.log(1.0 / 2.0))
    uneven = [Arm(0, 1e12, 1e30), Arm(1, 1e6, 5.0)]
    assert effect_of(uneven, arms(1.0, 1.0)).value == pytest.approx(math.log(1.0 / 2.0))
    assert effect.low == pytest.approx(effect.high)
    assert math.isinf(effect.control)


@pytest.mark.parametrize(
    ("control", "remedy"),
    [
        ((1.0, 1.5, 0.9), (0.5, 0.1, 0.7)),
        ((1e30, 50.0, 1.0), (1.0, 0.1, 0.2)),  # a training gone astray counts as its start
        ((math.inf, 50.0, 1.9), (3.0, 0.1, 0.2)),
        ((-1.0, -2.0, 3.0), (-3.0, -4.0, 2.5)),
    ],
)
def test_the_effect_follows_from_the_two_losses_that_are_told(
    control: tuple[float, ...], remedy: tuple[float, ...]
) -> None:
    effect = effect_of(arms(*control), arms(*remedy))
    told = math.log(effect.end / effect.base) if effect.measure == "log ratio" else effect.end - effect.base
    assert effect.value == pytest.approx(told)
    assert effect.base <= effect.control and effect.end <= effect.remedy


def test_a_lower_start_alone_is_no_help() -> None:
    control = [Arm(seed, 2.56, 2.58) for seed in range(3)]
    treated = [Arm(seed, 2.42, 2.40 - 1e-3 * seed) for seed in range(3)]
    effect = effect_of(control, treated)
    assert effect.high < 0 and effect.control - effect.remedy > MARGIN * effect.start
    assert verdict_of(effect, treated) == "did not help"


@pytest.mark.parametrize(
    ("control", "remedy", "verdict"),
    [
        ((2.0, 2.0, 2.0), (1.0, 1.1, 0.9), "helped"),
        ((2.0, 2.0, 2.0), (2.0, 1.0, 0.1), "cannot tell"),  # the seeds disagree
        ((2.0, 2.0, 2.0), (2.1, 2.1, 2.1), "did not help"),
        ((2.0, 2.0, 2.0), (0.1, 0.1, math.inf), "diverged"),
        ((0.020, 0.020, 0.020), (0.010, 0.010, 0.010), "did not help"),  # both have solved it
        ((math.inf,) * 3, (1.99, 1.99, 1.99), "did not help"),  # it does not diverge, and learns nothing
        ((math.inf,) * 3, (1.0, 1.0, 1.0), "helped"),
        ((math.inf,) * 3, (1.89, 0.9, 0.1), "helped"),  # each ends lower by MARGIN: by how much is no doubt
        ((math.inf,) * 3, (1.91, 0.9, 0.1), "cannot tell"),  # one does not
        ((2.11, 50.0, math.inf), (1.89, 0.9, 0.1), "helped"),
        ((2.09, math.inf, math.inf), (1.89, 0.9, 0.1), "cannot tell"),  # one control is about where it began
        ((math.inf,) * 3, (1.89, 0.9, math.inf), "diverged"),
        ((math.inf,) * 2, (1.89, 0.1), "cannot tell"),  # of two seeds, chance makes it once in six times
    ],
)
def test_verdicts(control: tuple[float, ...], remedy: tuple[float, ...], verdict: str) -> None:
    treated = arms(*remedy)
    assert verdict_of(effect_of(arms(*control), treated), treated) == verdict


def test_a_rescue_asks_for_no_more_seeds() -> None:
    control, treated = arms(*[math.inf] * 3), arms(1.89, 0.9, 0.1)
    effect = effect_of(control, treated)
    assert effect.high > 0 and effect.rescued and effect.to_dict()["rescued"]
    assert not is_open(effect, control, treated)
    assert is_open(effect_of(arms(*[1.99] * 3), treated), arms(*[1.99] * 3), treated)


def test_the_margin_is_a_share_of_the_loss_before_training() -> None:
    control = arms(2.0, 2.0, 2.0)
    for share, verdict in ((0.9, "did not help"), (1.1, "helped")):
        treated = arms(*[2.0 - share * MARGIN * 2.0] * 3)
        assert verdict_of(effect_of(control, treated), treated) == verdict


def test_one_seed_has_no_interval() -> None:
    effect = effect_of(arms(2.0), arms(0.1))
    assert (effect.low, effect.high) == (-math.inf, math.inf)
    assert verdict_of(effect, arms(0.1)) == "cannot tell"


def test_a_first_seed_without_a_fall_settles_it_up_to_four_seeds() -> None:
    worse, better = effect_of(arms(2.0), arms(2.0)), effect_of(arms(2.0), arms(1.9))
    assert [is_settled(worse, arms(2.0), seeds) for seeds in (1, 2, 3, 4, 5)] == [True, True, True, True, False]
    assert not is_settled(better, arms(1.9), 3)
    assert is_settled(better, arms(math.inf), 9)
    # What makes it exact: with one seed at no effect, no effect of the others, however alike, is significant.
    for seeds in (2, 3, 4):
        treated = arms(2.0, *[0.5] * (seeds - 1))
        assert effect_of(arms(*[2.0] * seeds), treated).high > 0
    five = arms(2.0, *[0.5] * 4)
    assert effect_of(arms(*[2.0] * 5), five).high < 0


@pytest.mark.parametrize(
    ("control", "remedy", "opened"),
    [
        ((1.9, 1.9, 1.9), (1.8, 1.5, 0.5), True),
        ((1.9, 1.9, 1.9), (1.95, 1.5, 0.5), False),  # one seed ended higher
        ((1.9, 1.9, 1.9), (1.89, 1.88, 1.6), False),  # 0.11 of a start of 2.4 is less than MARGIN
        ((1.9, 1.9, 1.9), (1.0, 1.0, 1.0), False),  # it is settled
        ((1.9, 1.9, 1.9), (1.8, 0.5, math.inf), False),
    ],
)
def test_more_seeds_are_asked_for_only_where_few_are_the_reason(
    control: tuple[float, ...], remedy: tuple[float, ...], opened: bool
) -> None:
    before, after = arms(*control, start=2.4), arms(*remedy, start=2.4)
    assert is_open(effect_of(before, after), before, after) == opened


@pytest.mark.parametrize(("direct", "seeds"), [(True, 5), (False, 3)])
def test_a_remedy_of_what_was_seen_to_be_wrong_gets_them(
    direct: bool, seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = search(sgd(mlp(2)), steps=5).bench
    ends = (1.75, 1.2, 0.7, 1.2, 1.2)
    monkeypatch.setattr(bench, "control", lambda seed: Arm(seed, 2.4, 1.9))
    monkeypatch.setattr(bench, "arm", lambda remedy, seed: Arm(seed, 2.4, ends[seed]))
    trial = bench.try_(Remedy("one", "inputs", "Do it.", "", (), direct=direct))
    assert trial.effect is not None
    assert trial.effect.seeds == seeds
    assert trial.effect.remedy == pytest.approx(math.prod(ends[:seeds]) ** (1 / seeds))
    assert trial.helped == direct
