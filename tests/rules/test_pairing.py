"""Targets that have nothing to do with their inputs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from diag.check import check
from diag.rules.causes import EXPLAINS, join
from diag.rules.finding import Finding
from diag.rules.judge import judge
from tests.corpus.data import digits
from tests.corpus.nets import classify, mlp, sgd
from tests.rules.traces import DEFAULTS, Net, Value, falling, flat, found

RULE = "unrelated-targets"
EXPLAIN = [rule for rule, effects in EXPLAINS.items() if RULE in effects]
LIMIT, GRAVE = DEFAULTS["unrelated_warning"], DEFAULTS["unrelated_error"]


def scored(
    z: Value, op: str = "cross_entropy", net: Net | None = None, shape: tuple[int, int] = (32, 10), **options: Any
) -> Net:
    """A network under a loss, every step of which has the score z."""
    net = net or numbers(**options)
    net.output(f"loss:{op}", "loss", op, samples=shape[0], units=shape[1], gradient=None)
    return net.output(f"loss:{op}[pairing]", "pairing", "pairing", samples=1, units=1, mean=z, gradient=None)


def numbers(
    ratio: Value = 1e-3, fed: bool = True, noise: bool = False, spread: float = 0.5, loss: Value = flat, **options: Any
) -> Net:
    net = Net(loss=loss, **options)
    if fed:
        # 2048 standard normal numbers, or others of the same mean and variance.
        end = 3.5 if noise else 2.0
        net.output("input", "input", "input", gradient=None, mean=1.5 / 2048**0.5, var=1.0, min=-end, max=end)
    return net.output("0", spread=spread).parameter("0.weight", ratio=ratio)


def severity(net: Net, **thresholds: float) -> str | None:
    findings = found(RULE, net, **thresholds)
    assert len(findings) <= 1
    return findings[0].severity if findings else None


def test_the_sum_over_the_second_half_is_judged_by_its_standard_error() -> None:
    each = 1 / math.sqrt(15)
    assert severity(scored(0.99 * GRAVE * each)) == "error"
    assert severity(scored(1.01 * GRAVE * each)) == "warning"
    assert severity(scored(0.99 * LIMIT * each)) == "warning"
    assert severity(scored(1.01 * LIMIT * each)) is None
    assert severity(scored(lambda step: 9.0 if step < 15 else 0.99 * GRAVE * each)) == "error"
    assert severity(scored(-LIMIT * each)) == "error"
    [finding] = found(RULE, scored(0.5 * LIMIT * each))
    assert finding.site == "loss:cross_entropy"
    assert finding.evidence["z"] == pytest.approx(LIMIT / 2)
    assert finding.evidence["p"] == pytest.approx(stats.norm.sf(LIMIT / 2))
    assert (finding.evidence["step"], finding.evidence["batches"]) == (15, 15)


@pytest.mark.parametrize(
    ("z", "worse"), [(-LIMIT, False), (-2.97 * LIMIT, False), (-3.03 * LIMIT, True), (-40.0, True)]
)
def test_predictions_that_are_driven_from_their_targets_are_not_called_shuffled(z: float, worse: bool) -> None:
    [finding] = found(RULE, scored(z / math.sqrt(15)))
    assert finding.evidence.get("of") == ("worse" if worse else None)
    assert ("worse than other targets" in finding.message) is worse
    assert ("sign of every term" in finding.remedy) is worse
    assert ("shuffled" in finding.remedy) is not worse


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "error"),
        ({"fed": False}, "warning"),  # tokens
        ({"noise": True}, "warning"),
        ({"spread": 1.1 * DEFAULTS["unrelated_spread"]}, "error"),
        ({"spread": 0.9 * DEFAULTS["unrelated_spread"]}, "warning"),  # the network lets nothing through
        ({"loss": falling}, None),
        ({"loss": None}, None),
        ({"ratio": 1.1 * DEFAULTS["stalled_warning"]}, "error"),
        ({"ratio": 0.9 * DEFAULTS["stalled_warning"]}, None),  # nothing could be learned
        ({"ratio": lambda step: 1e-3 if step < 17 else 0.0}, "error"),  # a rate that ends at nothing
        ({"ratio": lambda step: 1e-3 if step < 15 else 0.0}, None),
        ({"optimizer": None}, None),
        ({"optimizer": lambda step: step % 2}, None),  # a GAN's losses stand for good reasons
        ({"steps": 20}, "error"),
        ({"steps": 19}, "error"),
        ({"steps": 18}, None),
        ({"shape": (32, 120)}, "error"),
        ({"shape": (32, 121)}, None),  # 15 batches of 32 are less than 4 for each class
        ({"shape": (500, 960)}, "error"),
        ({"shape": (500, 961)}, None),  # 256 of a batch are scored
    ],
)
def test_what_else_it_takes(options: dict[str, Any], expected: str | None) -> None:
    assert severity(scored(0.1, **options)) == expected


@pytest.mark.parametrize(("passes", "expected"), [(14, "error"), (15, None)])
def test_what_acts_makes_its_own_targets(passes: int, expected: str | None) -> None:
    net = scored(0.1)
    net.coverage["acting_passes"] = passes
    assert severity(net) == expected


def test_a_loss_without_classes_needs_no_number_of_them() -> None:
    assert severity(scored(0.1, op="binary_cross_entropy", shape=(32, 5000))) == "error"


@pytest.mark.parametrize(("steps", "expected"), [(30, "warning"), (99, "warning"), (100, "error")])
def test_a_regression_and_tokens_are_only_warned_of_until_there_were_steps_enough(steps: int, expected: str) -> None:
    assert severity(scored(0.1, op="mse_loss", steps=steps)) == expected
    assert severity(scored(0.1, fed=False, steps=steps)) == expected


def test_tables_alone_let_everything_through() -> None:
    net = Net(loss=flat, steps=120).output("users", "embedding", "embedding").output("items", "embedding", "embedding")
    [told] = found(RULE, scored(0.1, op="sub", net=net.parameter("users.weight", ratio=1e-3)))
    assert (told.severity, told.evidence["able"]) == ("error", True)


def finding(rule: str, severity: str = "error", **evidence: Any) -> Finding:
    return Finding(rule, severity, "0", "", {"step": 0, **evidence}, "", "")


@pytest.mark.parametrize(
    ("effect", "known", "follows"),
    [
        (finding("collapsed-signal", of="spread"), {"able": True}, True),
        (finding("vanishing-gradient", ratio_bottom_to_top=1e-4), {"able": True}, True),
        (finding("vanishing-gradient", ratio_bottom_to_top=1e-6), {"able": True}, False),
        (finding("vanishing-gradient", ratio_bottom_to_top=1e-4, recurs=True), {"able": True}, False),
        (finding("oversized-update", of="shrink", weight_decay=5e-4), {"able": True}, True),
        (finding("oversized-update", of="shrink", weight_decay=1.0), {"able": True}, False),
        (finding("oversized-update", of="shrink", weight_decay=None), {"able": True}, False),
        (finding("oversized-update", of="first"), {"able": True, "intact": True}, True),
        (finding("oversized-update", of="first"), {"able": True, "intact": False}, False),
        (finding("oversized-update"), {"able": True, "intact": True}, False),
        (finding("collapsed-signal", of="input"), {"able": True}, False),
        (finding("vanishing-gradient"), {}, False),
        (finding("missing-gradient"), {"able": True}, False),
    ],
    ids=lambda one: one.rule + str(one.evidence.get("of", "")) if isinstance(one, Finding) else None,
)
def test_what_becomes_of_a_network_that_has_nothing_to_learn(
    effect: Finding, known: dict[str, bool], follows: bool
) -> None:
    cause = finding(RULE, **{"step": 50, **known})
    first, *others = join([effect, cause])
    assert (first.rule, [one.rule for one in first.consequences]) == (
        (RULE, [effect.rule]) if follows else (effect.rule, [RULE] if effect.rule in EXPLAIN else [])
    )
    assert [(one.rule, one.severity) for one in others] == [(RULE, "warning")] * (
        not follows and effect.rule not in EXPLAIN
    )


@pytest.mark.parametrize(("early", "expected"), [(0.5, "error"), (0.9 * DEFAULTS["unrelated_spread"], "warning")])
def test_a_network_that_stops_to_tell_samples_apart_was_able_to(early: float, expected: str) -> None:
    fades = numbers()
    fades.output("1", spread=lambda step: early if step < 3 else 1e-6)
    [finding] = found(RULE, scored(0.1, net=fades))
    assert finding.severity == expected
    assert finding.evidence.get("able", False) == (expected == "error")
    assert not finding.evidence.get("intact")


def test_scores_of_which_nothing_could_be_told_do_not_count() -> None:
    assert severity(scored(0.0)) is None
    # 15 scores: zeros leave 4, too few, or 5.
    assert severity(scored(lambda step: 0.1 if step > 25 else 0.0)) is None
    assert severity(scored(lambda step: 0.1 if step > 24 else 0.0)) == "error"


def test_one_loss_that_has_learned_is_enough() -> None:
    assert severity(scored(5.0, op="mse_loss", net=scored(0.1))) is None
    [finding] = found(RULE, scored(0.3, op="mse_loss", net=scored(0.1)))
    assert finding.site == "loss:mse_loss"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-4, 4).filter(lambda z: abs(z) > 1e-3), min_size=30, max_size=30))
def test_it_speaks_exactly_where_the_standardized_sum_is_below_the_limit(scores: list[float]) -> None:
    z = sum(scores[15:]) / math.sqrt(15)
    if abs(z - LIMIT) > 1e-9:
        assert (severity(scored(scores)) is not None) == (z < LIMIT)


def test_a_loss_that_does_not_fall_follows_from_it_though_it_is_seen_before() -> None:
    [root] = judge(scored(0.1).build(), {})
    assert root.rule == RULE
    assert [one.rule for one in root.consequences] == ["loss-not-decreasing"]


def test_it_follows_from_units_that_are_dead() -> None:
    net = numbers().output("1", "nonlinearity", "relu", dead=32.0, gradient=0.0, zero_fraction=1.0)
    roots = judge(scored(0.1, net=net).build(), {})
    assert RULE not in [one.rule for one in roots]
    assert any(RULE in [two.rule for two in one.consequences] for one in roots)


def test_it_is_only_a_warning_where_anything_else_is_to_blame() -> None:
    net = numbers().output("1", "nonlinearity", "tanh", saturated_fraction=0.3).output("2")
    roots = judge(scored(0.1, net=net).build(), {})
    assert {one.severity for one in roots} == {"warning"}
    assert "saturated-activation" in [one.rule for one in roots]


def test_some_units_that_are_dead_come_of_nothing_to_learn() -> None:
    net = numbers().output("1", "nonlinearity", "relu", dead=20.0, zero_fraction=0.6)
    [root] = judge(scored(0.1, net=net).build(), {})
    assert (root.rule, root.severity) == (RULE, "error")
    assert "dead-units" in [one.rule for one in root.consequences]


def of_digits(order: str) -> list[Finding]:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(3)
    order_of = {
        "right": lambda y: y,
        "shifted": lambda y: y.roll(1),
        "shuffled": lambda y: y[torch.randperm(len(y), generator=generator)],
    }[order]
    batches = [(x, order_of(y)) for x, y in digits(size=32)]
    return check(sgd(mlp(3), batches, lr=0.3, loss=classify), steps=30).findings


@pytest.mark.slow
@pytest.mark.parametrize(("order", "rules"), [("right", []), ("shifted", [RULE]), ("shuffled", [RULE])])
def test_labels_of_other_digits_are_told_from_their_own(order: str, rules: list[str]) -> None:
    assert [one.rule for one in of_digits(order) if one.severity == "error"] == rules


def told_right(
    right: int, samples: int = 300, step: int = 119, labels: dict[str, int] | None = None, columns: int = 10
) -> dict[str, Any]:
    labels = labels or {str(label): samples // 3 for label in range(3)}
    told = {"line": 0, "step": step, "columns": columns, "samples": samples, "right": right}
    return {"": [{**told, "labels": labels, "loss": 1.1}]}


def judged_by(test: dict[str, Any]) -> str:
    return "cross_entropy" if any("labels" in one for tests in test.values() for one in tests) else "mse_loss"


def told_number(z: float, samples: int = 100, step: int = 119, columns: int = 10, error: float = 0.9) -> dict[str, Any]:
    told = {"line": 0, "step": step, "columns": columns, "samples": samples, "batches": 1}
    return {"": [{**told, "z": z, "error": error, "spread": 1.0}]}


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (told_right(100), "error"),
        (told_right(160), "warning"),  # it is better than a guess
        (told_right(30, samples=90), "warning"),  # too few
        (told_right(100, step=10), "warning"),  # too early
        (told_right(270, labels={"0": 270, "1": 30}), "warning"),  # a guess is hard to beat
        (told_number(1.0), "error"),
        (told_number(2.5), "warning"),
        (told_number(1.0, samples=99), "warning"),
        (told_number(1.0, columns=64), "warning"),  # an embedding, say
        (told_right(100, columns=64), "warning"),
        (told_number(1.0, step=10), "warning"),
    ],
)
def test_tests_that_tell_nothing_either_make_it_certain(test: dict[str, Any], expected: str) -> None:
    net = scored(-1.0, op=judged_by(test), net=numbers(noise=True, steps=120))
    net.coverage["answers"] = test
    assert severity(net) == expected


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ({}, "error"),
        (told_right(160), "warning"),
        (told_right(115), "error"),  # which may be chance
        (told_right(1150, samples=3000), "error"),  # which is none, but may come of clusters
        (told_right(1250, samples=3000), "warning"),
        (told_number(3.0), "error"),
        (told_number(3.2), "warning"),
        (told_number(9.0, error=0.97), "error"),  # it tells the mean, which an untrained network may do so well
        (told_number(3.2, error=8.0), "warning"),  # in other units
    ],
)
def test_tests_that_tell_something_speak_against_it(test: dict[str, Any], expected: str) -> None:
    net = scored(-1.0, op=judged_by(test), net=numbers(steps=120))
    net.coverage["answers"] = test
    assert severity(net) == expected


@pytest.mark.parametrize(("z", "steps", "expected"), [(1.5, 120, "error"), (2.5, 120, "warning"), (1.5, 60, "warning")])
def test_a_loss_that_stands_alone_is_an_error_where_no_number_fits(z: float, steps: int, expected: str) -> None:
    net = numbers(steps=steps).output("loss", "loss", "loss", units=10, gradient=None)
    net.coverage["answers"] = told_number(z, step=steps - 1)
    [finding] = judge(net.build(), {})
    assert (finding.rule, finding.severity) == ("loss-not-decreasing", expected)
    assert (f"by {z:.2f} standard errors" in finding.message) == (expected == "error")


@pytest.mark.parametrize(
    ("steps", "right", "expected"), [(120, 100, "error"), (120, 160, "warning"), (60, 100, "warning")]
)
def test_a_loss_that_stands_alone_is_an_error_where_tests_tell_as_much(steps: int, right: int, expected: str) -> None:
    net = numbers(steps=steps).output("loss", "loss", "cross_entropy", units=10, gradient=None)
    net.coverage["answers"] = told_right(right, step=steps - 1)
    [finding] = judge(net.build(), {})
    assert (finding.rule, finding.severity) == ("loss-not-decreasing", expected)
    assert ("Of 300 samples that are tested 100 are told right" in finding.message) == (expected == "error")
    assert finding.remedy.startswith("Look at inputs beside their labels") == (expected == "error")


def heads(z: float, steps: int = 100, op: str = "cross_entropy", more: int = 0) -> Net:
    """A loss of classes with this score in sum, beside one whose predictions fit, and others."""
    net = scored(z / math.sqrt(steps), op=op, steps=steps, loss=falling)
    for name, mean in (("sub", 4.0), *((f"l1_loss_{place}", 3.0) for place in range(more))):
        net.output(f"loss:{name}", "loss", name, samples=32, gradient=None)
        net.output(f"loss:{name}[pairing]", "pairing", "pairing", samples=1, units=1, mean=mean, gradient=None)
    return net


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (heads(0.9 * GRAVE), "error"),
        (heads(1.1 * GRAVE), None),
        (heads(0.9 * GRAVE, steps=99), None),
        (heads(0.9 * GRAVE, more=2), "error"),
        (heads(0.9 * GRAVE, more=3), None),  # as of the places of a sequence, of which the first says nothing
        (heads(0.9 * GRAVE, op="mse_loss"), None),  # its targets may be noise
    ],
)
def test_one_of_several_heads_has_the_targets_of_others(net: Net, expected: str | None) -> None:
    assert severity(net) == expected
    if expected:
        [told] = found(RULE, net)
        assert (told.site, told.evidence["of"]) == ("loss:cross_entropy", "one head")


def settling(share: float) -> Value:
    """A loss that falls from 2 to 1, so much of that in its second half."""
    return lambda step: 2 - (1 - share) * min(step, 60) / 60 - share * max(step - 60, 0) / 59


@pytest.mark.parametrize(
    ("share", "options", "expected"),
    [
        (0.2, {}, "error"),
        (0.5, {}, None),
        (0.2, {"fed": False}, None),  # of tokens frequencies are learned for long
        (0.2, {"op": "mse_loss"}, None),
    ],
)
def test_a_loss_that_falls_to_what_a_guess_has(share: float, options: dict[str, Any], expected: str | None) -> None:
    assert severity(scored(0.1, **{"steps": 120, "loss": settling(share), **options})) == expected
    assert severity(scored(0.1, **{"steps": 58, "loss": settling(share), **options})) is None
