"""A run held to a baseline: every answer, and what must never pass in silence."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diag
from diag.gate.baseline import UNMEASURED, Baseline
from diag.gate.gate import compare, gate
from diag.gate.metrics import METRICS, GateError
from tests.gate.runs import ENVIRONMENT, SETTINGS, baseline_of, healthy, held, recipe_of, standardized, write_run


@pytest.fixture(scope="module")
def old() -> dict[str, dict[str, list[float]]]:
    return healthy()


def shifted(values: dict[str, dict[str, list[float]]], case: str, metric: str, by: float) -> Any:
    new = copy.deepcopy(values)
    new[case][metric] = [one + by for one in new[case][metric]]
    return new


def test_the_public_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", healthy())
    verdict = diag.gate(run, run)
    assert (verdict.answer, verdict.exit_code, verdict.suite) == ("pass", 0, "mine")


def test_identical_runs_pass_and_everything_was_compared(old: Any) -> None:
    verdict = held(old, old)
    assert (verdict.answer, verdict.exit_code) == ("pass", 0)
    assert [(one.case, one.metric) for one in verdict.checks] == [
        (case, metric) for case in old for metric in ("test_accuracy", "test_loss", "diverged")
    ]
    assert [one.metric for one in verdict.pooled] == ["test_accuracy", "test_loss", "diverged"]
    assert {one.paired for one in verdict.checks} == {True}
    assert (verdict.regressions, verdict.claims, verdict.remarks) == ([], [], [])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_identical_runs_always_pass(data: st.DataObject) -> None:
    finite = st.floats(-1e6, 1e6)
    value = finite | st.just(math.inf) | st.just(math.nan)
    seeds = data.draw(st.integers(2, 5))
    names = data.draw(st.lists(st.sampled_from(list(METRICS)), min_size=1, max_size=4, unique=True))
    values = {
        f"case {i}": {name: data.draw(st.lists(value, min_size=seeds, max_size=seeds)) for name in names}
        for i in range(data.draw(st.integers(1, 3)))
    }
    # One metric that is there for certain: without any, a gate has nothing to say, and says so.
    values["case 0"][names[0]] = data.draw(st.lists(finite, min_size=seeds, max_size=seeds))
    assert held(values, values).answer == "pass"


def test_a_regression_is_found_where_it_is(old: Any) -> None:
    verdict = held(shifted(old, "case 1", "test_accuracy", -0.2), old)
    assert (verdict.answer, verdict.exit_code) == ("regression", 1)
    # Over both cases it is a tenth, five margins: worse too.
    assert [(one.case, one.metric) for one in verdict.regressions] == [
        ("", "test_accuracy"),
        ("case 1", "test_accuracy"),
    ]
    case = verdict.regressions[1]
    assert case.harm == pytest.approx(0.2)
    assert case.new == pytest.approx(case.baseline - 0.2)
    assert verdict.regressions[0].harm == pytest.approx(0.1)


def test_an_unpaired_regression(old: Any) -> None:
    other = healthy(seed=7, test_loss=0.3)
    new = baseline_of(other, seeds=[10, 11, 12, 13, 14])
    verdict = held(new, old)
    assert verdict.answer == "regression"
    assert not any(one.paired for one in (*verdict.checks, *verdict.pooled))
    assert {one.metric for one in verdict.regressions} == {"test_loss"}
    assert held(baseline_of(healthy(seed=7), seeds=[10, 11, 12, 13, 14]), old).answer == "pass"


def test_an_improvement(old: Any) -> None:
    verdict = held(shifted(old, "case 0", "test_loss", -0.2), old)
    assert (verdict.answer, verdict.exit_code, verdict.regressions) == ("improvement", 0, [])


def test_a_gain_does_not_pay_for_a_loss(old: Any) -> None:
    new = shifted(shifted(old, "case 0", "test_loss", -0.2), "case 1", "test_loss", 0.2)
    assert held(new, old).answer == "regression"


def test_too_few_seeds_cannot_tell_and_say_how_many_could() -> None:
    old = {case: {"test_loss": [1.0] * 5} for case in "ab"}
    new = {case: {"test_loss": standardized(5, 1.05, 0.1)} for case in "ab"}
    verdict = held(new, old)
    assert (verdict.answer, verdict.exit_code) == ("cannot tell", 2)
    (pooled,) = verdict.undecided
    assert (pooled.case, pooled.margin, pooled.harm) == ("", pytest.approx(0.1), pytest.approx(0.05))
    assert pooled.needed is not None
    many = {case: {"test_loss": standardized(pooled.needed, 1.05, 0.1)} for case in "ab"}
    assert held(many, {case: {"test_loss": [1.0] * pooled.needed} for case in "ab"}).answer == "pass"


def test_one_case_decides_alone_where_there_is_no_mean_over_cases() -> None:
    old = {"a": {"test_loss": [1.0] * 5}}
    new = {"a": {"test_loss": standardized(5, 1.09, 0.2)}}
    verdict = held(new, old)
    assert (verdict.answer, verdict.pooled) == ("cannot tell", [])
    assert [one.case for one in verdict.undecided] == ["a"]


def test_single_cases_that_cannot_tell_pass_if_their_mean_can(old: Any) -> None:
    new = copy.deepcopy(old)
    new["case 0"]["test_accuracy"] = [
        one + by for one, by in zip(new["case 0"]["test_accuracy"], [-0.03, 0.03, -0.03, 0.02, 0], strict=True)
    ]
    verdict = held(new, old)
    assert "cannot tell" in {one.answer for one in verdict.checks}
    assert verdict.answer == "pass"


def test_the_mean_over_cases_sees_what_no_case_can_show() -> None:
    rng = np.random.default_rng(3)
    cases = [f"case {i}" for i in range(12)]
    old = {case: {"test_accuracy": (0.8 + 0.01 * rng.standard_normal(5)).tolist()} for case in cases}
    new = {
        case: {"test_accuracy": [one - 0.035 + 0.012 * rng.standard_normal() for one in old[case]["test_accuracy"]]}
        for case in cases
    }
    verdict = held(new, old)
    assert [one.case for one in verdict.regressions][:1] == [""]
    assert sum(one.answer == "regression" for one in verdict.checks) < len(cases) / 2


def test_the_mean_over_cases_is_of_the_seeds_that_all_have() -> None:
    # As where a follow-up has more seeds than what it follows.
    sizes = {"a": 3, "b": 5}
    old = {case: {"test_loss": [1.0 + seed for seed in range(size)]} for case, size in sizes.items()}
    new = {case: {"test_loss": [2.0 + seed for seed in range(size)]} for case, size in sizes.items()}
    (pooled,) = held(new, old).pooled
    assert (pooled.seeds, pooled.paired) == (3, True)
    # In margins: a tenth of 2 in a, of 3 in b.
    assert pooled.harm == pytest.approx(0.25 * (1 / 0.2 + 1 / 0.3) / 2)


def test_margins_are_chosen_by_option(old: Any) -> None:
    new = shifted(old, "case 1", "test_accuracy", -0.2)
    assert held(new, old, test_accuracy=0.5).answer == "pass"
    assert held(shifted(old, "case 1", "test_accuracy", -0.015), old).answer == "pass"
    assert held(shifted(old, "case 1", "test_accuracy", -0.015), old, test_accuracy=0.001).answer == "regression"


def test_an_infinite_loss_is_worse_than_any(old: Any) -> None:
    new = copy.deepcopy(old)
    new["case 0"]["test_loss"] = [math.inf] * 5
    verdict = held(new, old)
    assert verdict.answer == "regression"
    (check,) = [one for one in verdict.regressions if one.case]
    assert (check.new, check.harm, check.low) == (math.inf, math.inf, math.inf), "a stand-in is nobody's number"
    assert math.isfinite(check.baseline)
    assert "test_loss of 'case 0' is not finite in 0 trials of the baseline and 5 of the run" in verdict.remarks[0]
    assert held(old, new).answer == "improvement"
    assert held(new, new).answer == "pass"


def test_one_infinite_loss_of_five_is_no_pass(old: Any) -> None:
    new = copy.deepcopy(old)
    new["case 0"]["test_loss"][2] = math.inf
    assert held(new, old).answer == "cannot tell"


def test_a_worse_trial_more_never_turns_a_regression_into_a_pass() -> None:
    # 2.5 margins in all trials of one case of six; then one trial gets worse, and Student's t loses its certainty.
    old = {f"case {i}": {"test_accuracy": [0.9, 0.9, 0.9, 0.9, 0.9]} for i in range(6)}
    new = shifted(old, "case 0", "test_accuracy", -0.05)
    assert held(new, old).answer == "regression"
    for more in (0.02, 0.05, 0.1, 0.3, 0.8):
        new["case 0"]["test_accuracy"][4] = 0.85 - more
        verdict = held(new, old)
        assert verdict.exit_code != 0, more
    assert verdict.undecided[-1].hidden


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_more_harm_never_turns_a_regression_into_a_pass(data: st.DataObject) -> None:
    seeds, cases = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 4))
    noise = st.lists(st.floats(-0.05, 0.05), min_size=seeds, max_size=seeds)
    old = {f"case {i}": {"test_loss": [1 + one for one in data.draw(noise)]} for i in range(cases)}
    new = {name: {"test_loss": [1 + one for one in data.draw(noise)]} for name in old}
    new = shifted(new, "case 0", "test_loss", data.draw(st.floats(0, 3)))
    before = held(new, old)
    harm = st.lists(st.floats(0, 5) | st.just(0.0), min_size=seeds, max_size=seeds)
    worse = {
        name: {"test_loss": [a + b for a, b in zip(one["test_loss"], data.draw(harm), strict=True)]}
        for name, one in new.items()
    }
    after = held(worse, old)
    # The bounds that are tried stand on a grid: a p right at the level may be missed by a hair.
    if before.regressions and before.regressions[0].p < before.false_alarms / 2:
        assert after.answer in ("regression", "cannot tell")
    for one, other in zip(before.pooled, after.pooled, strict=True):
        assert other.harm >= one.harm - 1e-12


def test_where_it_was_measured_is_said(old: Any) -> None:
    new = baseline_of(old, environment=ENVIRONMENT | {"torch": "2.14.0", "device": "NVIDIA H100", "threads": 4})
    verdict = held(new, old)
    assert verdict.answer == "pass"
    assert verdict.remarks == [
        "torch was 2.13.0 and is 2.14.0: differences may come from there",
        "device was cpu and is NVIDIA H100: differences may come from there",
        "threads was 1 and is 4: differences may come from there",
    ]


def test_a_claim_that_held_and_does_not_is_a_regression(old: Any) -> None:
    before = baseline_of(old, claims={"a": "holds", "b": "holds", "c": "undecided", "d": "does not hold", "e": "holds"})
    now = {"a": "does not hold", "b": "undecided", "c": "does not hold", "d": "holds", "f": "does not hold"}
    verdict = held(baseline_of(old, claims=now), before)
    assert (verdict.answer, verdict.claims, verdict.regressions) == ("regression", ["a"], [])
    assert verdict.remarks == [
        "claim 'b': holds -> undecided",
        "claim 'c': undecided -> does not hold",
        "claim 'd': does not hold -> holds",
        "claim 'e': holds -> no longer judged",
    ]
    assert held(before, before).answer == "pass"


def test_a_claim_that_held_and_cannot_be_measured_leaves_no_answer(old: Any) -> None:
    before = baseline_of(old, claims={"a": "holds", "b": "undecided"})
    with pytest.raises(GateError, match="the claim 'a' held in the baseline, and the run measured none of it"):
        held(baseline_of(old, claims={"a": UNMEASURED, "b": UNMEASURED}), before)


def test_an_experiment_is_held_to_what_it_measured(old: Any) -> None:
    def with_experiment(shift: float) -> Any:
        values = {**old, "mine": {"test_accuracy": [0.9 + shift, 0.91 + shift, 0.905 + shift]}}
        made = baseline_of(values)
        made.cases["mine"] = replace(made.cases["mine"], content={"experiment": "f", "parameters": {"k": 1}})
        return made

    assert held(with_experiment(0.0), with_experiment(0.0)).answer == "pass"
    (found,) = held(with_experiment(-0.1), with_experiment(0.0)).regressions
    assert (found.case, found.metric) == ("mine", "test_accuracy")
    late = held(with_experiment(-0.1), old)
    assert late.answer == "pass"
    assert "the experiment 'mine' is not compared" in late.remarks[0]


def without(values: Any, case: str, metric: str, seeds: tuple[int, ...] = ()) -> Any:
    """Some trials, or all, without a metric."""
    new = copy.deepcopy(values)
    if seeds:
        new[case][metric] = [math.nan if i in seeds else one for i, one in enumerate(new[case][metric])]
    else:
        del new[case][metric]
    return new


def changed_recipe(values: Any) -> Baseline:
    new = baseline_of(values)
    new.cases["case 1"].content["lr"] = 0.5
    return new


WRONG = {
    "another suite": (
        lambda old: baseline_of(old, suite="yours"),
        "the run is of the suite 'yours', the baseline of 'mine'",
    ),
    "other settings": (
        lambda old: baseline_of(old, settings=SETTINGS | {"quick": True}),
        "the run was made with .*'quick': True.*, the baseline with .*'quick': False.*: use the same options",
    ),
    "a missing case": (lambda old: {"case 0": old["case 0"]}, "the run lacks the case 'case 1': make a new baseline"),
    "cases more": (lambda old: old | healthy(4), "the baseline lacks the case 'case 2' and 1 more"),
    "a changed recipe": (changed_recipe, "the recipe of 'case 1' has changed: lr was 0.1 and is 0.5"),
    "a missing metric": (
        lambda old: without(old, "case 1", "test_loss"),
        "the run measured no test_loss for 'case 1', the baseline did",
    ),
    "a metric that no trial has": (
        lambda old: without(old, "case 1", "test_loss", (0, 1, 2, 3, 4)),
        "the run measured no test_loss for 'case 1', the baseline did",
    ),
    "a metric that one trial lacks": (
        lambda old: without(old, "case 1", "test_loss", (2,)),
        "the run measured no test_loss for 'case 1' with seed 2, the baseline did",
    ),
    "one seed": (
        lambda old: {case: {name: one[:1] for name, one in metrics.items()} for case, metrics in old.items()},
        r"'case 0' has one trial with test_accuracy, the baseline 5: a gate needs at least two \(and 5 more ",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_held_together(old: Any, name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(GateError, match=message) as error:
        held(make(old), old)
    assert "\n" not in str(error.value)


def test_a_baseline_of_one_seed_is_no_pass(old: Any) -> None:
    one = {case: {name: values[:1] for name, values in metrics.items()} for case, metrics in old.items()}
    with pytest.raises(GateError, match=r"baseline.json has no metric with two seeds: run its suite with --seeds 5"):
        held(old, one)


def test_a_regression_is_told_although_the_network_that_died_has_no_statistics(old: Any) -> None:
    before = {case: {**metrics, "saturated": [0.1] * 5} for case, metrics in old.items()}
    new = shifted(without(before, "case 1", "saturated"), "case 1", "test_accuracy", -0.5)
    verdict = held(new, before)
    assert verdict.answer == "regression"
    assert verdict.remarks == [
        "the run measured no saturated for 'case 1', the baseline did: is a look or a measure gone?"
    ]


def test_what_the_baseline_lacks_is_said(old: Any) -> None:
    new = {case: {**metrics, "saturated": [0.1] * 5} for case, metrics in old.items()}
    verdict = held(new, old)
    assert verdict.answer == "pass"
    assert verdict.remarks == [
        f"saturated of 'case {i}' is not compared: the baseline has no trial with it" for i in (0, 1)
    ]
    few = without(new, "case 0", "saturated", (1, 2, 3, 4))
    assert held(new, few).remarks == ["saturated of 'case 0' is not compared: the baseline has 1 trials with it"]


def test_more_seeds_than_the_baseline_has_are_paired_where_both_have_them(old: Any) -> None:
    more = healthy(seeds=8)
    fewer = {case: {name: values[:5] for name, values in metrics.items()} for case, metrics in more.items()}
    verdict = held(more, fewer)
    assert (verdict.answer, {one.seeds for one in verdict.checks}) == ("pass", {5})
    assert [one.harm for one in verdict.checks] == [0.0] * 6


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0, -1.0, math.nan])
def test_the_level_is_a_probability(level: float, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", healthy())
    with pytest.raises(GateError, match=r"the chance of a false alarm lies between 0 and 0\.5"):
        gate(run, run, false_alarms=level)


def test_a_stricter_level_needs_more_evidence(old: Any) -> None:
    new = copy.deepcopy(old)
    new["case 0"]["test_loss"] = [
        one + by for one, by in zip(old["case 0"]["test_loss"], standardized(5, 0.1, 0.02), strict=True)
    ]
    answers = [compare(baseline_of(new), baseline_of(old), level, METRICS).answer for level in (0.05, 1e-9)]
    assert answers[0] == "regression"
    assert answers[1] != "regression"


def test_a_verdict_as_plain_values(old: Any) -> None:
    content = held(shifted(old, "case 1", "test_accuracy", -0.2), old).to_dict()
    again = json.loads(json.dumps(content, allow_nan=False))
    assert again == content
    assert (again["schema"], again["answer"], again["exit_code"]) == (1, "regression", 1)
    assert recipe_of("a") != recipe_of("b"), "the helpers' recipes differ, or a changed one could not be noticed"
