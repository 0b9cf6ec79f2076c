"""One cause, one error: `join`."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from diag.rules.causes import EXPLAINS, join
from diag.rules.finding import Finding, Severity
from diag.rules.judge import RULES, judge
from tests.rules.traces import chain, even, flat


def finding(rule: str, step: int = 0, severity: Severity = "error", **evidence: object) -> Finding:
    return Finding(rule, severity, "0", "seen", {"step": step, **evidence})


def names(findings: tuple[Finding, ...] | list[Finding]) -> list[str]:
    return [one.rule for one in findings]


def test_a_cause_takes_what_follows_from_it() -> None:
    [root] = join([finding("loss-not-decreasing", 0, "warning"), finding("vanishing-gradient")])
    assert root.rule == "vanishing-gradient"
    assert names(root.consequences) == ["loss-not-decreasing"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_order_in_which_rules_spoke_does_not_matter(order: tuple[int, ...]) -> None:
    spoken = [
        finding("oversized-update", 2),
        finding("diverging-loss", 3),
        finding("exploding-activation", 3),
        finding("non-finite", 5),
    ]
    [root] = join([spoken[number] for number in order])
    assert root.rule == "oversized-update"
    assert sorted(names(root.consequences)) == ["diverging-loss", "exploding-activation", "non-finite"]


def test_a_consequence_never_begins_before_its_cause() -> None:
    roots = join([finding("non-finite", 9), finding("dead-units", 2)])
    assert names(roots) == ["dead-units", "non-finite"]
    assert not any(root.consequences for root in roots)


def test_a_consequence_is_never_graver() -> None:
    roots = join([finding("dead-units", 0, "warning"), finding("loss-not-decreasing", 0)])
    assert names(roots)[0] == "loss-not-decreasing"
    for root in roots:
        assert all(one.severity != "error" or root.severity == "error" for one in root.consequences)


def test_a_note_causes_nothing() -> None:
    roots = join([finding("missing-gradient", 0, "note"), finding("stalled-update", 0, "note")])
    assert len(roots) == 2


def test_strangers_stay_apart_the_gravest_first() -> None:
    roots = join([finding("loss-not-decreasing", 0, "warning"), finding("a-rule-of-mine", 4), finding("mine-too")])
    assert names(roots) == ["mine-too", "a-rule-of-mine", "loss-not-decreasing"]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"rule": "non-finite"}, {"rule": "exploding-activation"}),
        ({"rule": "symmetric-units"}, {"rule": "vanishing-gradient"}),
        ({"rule": "saturated-activation"}, {"rule": "vanishing-gradient"}),
        ({"rule": "dead-units"}, {"rule": "vanishing-gradient"}),
        ({"rule": "missing-gradient", "of": "none"}, {"rule": "vanishing-gradient"}),
        ({"rule": "saturated-activation"}, {"rule": "missing-gradient", "of": "zero"}),
        ({"rule": "collapsed-signal", "of": "input"}, {"rule": "symmetric-units"}),
        ({"rule": "collapsed-signal", "of": "scale"}, {"rule": "vanishing-gradient"}),
        ({"rule": "vanishing-gradient"}, {"rule": "collapsed-signal", "of": "spread"}),
        ({"rule": "exploding-activation"}, {"rule": "exploding-gradient"}),
        ({"rule": "exploding-activation"}, {"rule": "collapsed-signal", "of": "spread"}),
        ({"rule": "loss-not-decreasing", "of": "broadcast"}, {"rule": "oversized-update"}),
        ({"rule": "loss-not-decreasing", "of": "sorted"}, {"rule": "collapsed-signal", "of": "spread"}),
    ],
)
def test_precedence_in_the_same_step(first: dict[str, str], then: dict[str, str]) -> None:
    roots = join([finding(**then), finding(**first)])
    assert names(roots) == [first["rule"]]
    assert names(roots[0].consequences) == [then["rule"]]


def test_nothing_is_lost() -> None:
    findings = [finding(rule, step, severity) for rule in EXPLAINS for step in (0, 3) for severity in ("error", "note")]
    roots = join(findings)
    assert len(roots) + sum(len(root.consequences) for root in roots) == len(findings)


def test_explanations_are_of_rules() -> None:
    assert set(EXPLAINS) <= set(RULES)
    assert all(set(effects) <= set(RULES) for effects in EXPLAINS.values())


def test_a_network_that_vanishes_has_one_error() -> None:
    findings = judge(chain(even(1e-9, 1.0, 12), op="sigmoid", loss=flat).build(), {})
    assert [(one.rule, one.severity) for one in findings] == [("vanishing-gradient", "error")]
    assert "loss-not-decreasing" in names(findings[0].consequences)


def test_a_stall_explains_the_loss() -> None:
    stalled = chain([0.01] * 4, loss=flat, adaptive=True)
    frame = stalled.build()
    updates = frame.frame["kind"] == "update"
    frame.frame.loc[updates, "rms"] *= 1e-5
    assert names(judge(frame, {})) == ["stalled-update"]


@pytest.mark.parametrize(("below", "step", "names_of"), [
    ("early", 0, ["dead-units", "exploding-activation"]), ("late", 0, ["exploding-activation"]),
    ("early", 4, ["exploding-activation"]),
])  # fmt: skip
def test_what_is_shut_below_an_explosion_does_not_follow_from_it(below: str, step: int, names_of: list[str]) -> None:
    """Unless it begins later."""
    explosion = replace(finding("exploding-activation"), site="middle")
    dead = replace(finding("dead-units", step), site=below)
    assert names(join([explosion, dead], {"early": 1.0, "middle": 5.0, "late": 9.0})) == names_of


@pytest.mark.parametrize("of", ["tested samples", "tested pairs", "evaluated loss"])
def test_what_tests_show_follows_from_what_the_loss_is_given(of: str) -> None:
    tested = finding("evaluation-mismatch", 80, of=of)
    [root] = join([tested, finding("loss-not-decreasing", of="scrambled")])
    assert (root.evidence["of"], names(root.consequences)) == ("scrambled", ["evaluation-mismatch"])
    assert (
        len(join([finding("evaluation-mismatch", 80, of="statistics"), finding("loss-not-decreasing", of="mask")])) == 2
    )


@pytest.mark.parametrize(
    ("rule", "of"), [("oversized-update", "uncleared"), ("stalled-update", "lagging"), ("stalled-update", "standing")]
)
def test_what_tests_show_follows_from_what_spoils_them(rule: str, of: str) -> None:
    tested = finding("evaluation-mismatch", 80, of="evaluated loss")
    [root] = join([tested, finding(rule, of=of)])
    assert (root.rule, names(root.consequences)) == (rule, ["evaluation-mismatch"])


def test_a_loss_squashed_twice_stands_for_itself() -> None:
    squash = finding("loss-not-decreasing", of="squash")
    assert names(join([finding("stalled-update"), squash]))[0] == "loss-not-decreasing"


@pytest.mark.parametrize("since", [0, 5])
def test_a_step_that_is_tiny_does_not_follow_from_a_gradient_that_fades(since: int) -> None:
    fades, still = finding("vanishing-gradient"), finding("loss-not-decreasing", severity="warning")
    [root] = join([fades, finding("stalled-update", since), still])
    assert (root.rule, len(root.consequences)) == ("vanishing-gradient", 2)
    roots = join([fades, finding("stalled-update", since, of="step"), still])
    assert set(names(roots)) == {"vanishing-gradient", "stalled-update"}
    assert since or names(roots)[0] == "stalled-update"


def test_a_loss_worse_than_a_guess_follows_from_any_error() -> None:
    [root] = join([finding("diverging-loss", 29, of="guess"), finding("collapsed-signal", 0, of="dropout")])
    assert (root.rule, names(root.consequences)) == ("collapsed-signal", ["diverging-loss"])


def test_a_flat_loss_alone_says_that_no_cause_was_seen() -> None:
    still = finding("loss-not-decreasing", severity="warning")
    [alone] = join([still])
    assert "tells why" in alone.message and "more steps" in alone.message
    beside = join([still, finding("missing-gradient", severity="warning", of="x")])
    assert "tells why" not in "".join(one.message for one in beside)
    noted = join([still, finding("dead-units", 3, severity="note")])
    assert "tells why" in noted[0].message


def test_logits_too_large_follow_from_what_stands_below() -> None:
    output = finding("exploding-activation", of="output")
    [root] = join([output, finding("saturated-activation")])
    assert (root.rule, names(root.consequences)) == ("saturated-activation", ["exploding-activation"])
    assert names(join([output])) == ["exploding-activation"]


@pytest.mark.parametrize(("fall", "severity"), [(0.0, "error"), (0.2, "warning")])
def test_a_loss_that_falls_beneath_its_noise_makes_no_error_of_a_warning(fall: float, severity: str) -> None:
    fades = finding("vanishing-gradient", 0, "warning")
    still = finding("loss-not-decreasing", 0, "warning", fall=fall)
    assert [one.severity for one in join([fades, still])] == [severity]


@pytest.mark.parametrize(("of", "root"), [({}, "oversized-update"), ({"of": "growth"}, "dead-units")])
def test_a_step_that_remakes_the_weights_is_the_cause_of_units_that_die_after_it(of: dict[str, str], root: str) -> None:
    step = Finding("oversized-update", "warning", "0.weight", "", {"step": 0, **of})
    dead = Finding("dead-units", "error", "1", "", {"step": 3})
    assert join([dead, step])[0].rule == root


@pytest.mark.parametrize("rule", ["dead-units", "saturated-activation", "vanishing-gradient", "collapsed-signal"])
def test_giant_strides_are_to_blame_for_what_is_shut_after_them(rule: str) -> None:
    [root] = join([finding(rule, 3), finding("oversized-update", 0, "warning")])
    assert (root.rule, root.severity, names(root.consequences)) == ("oversized-update", "error", [rule])
    later = join([finding(rule, 0), finding("oversized-update", 3, "warning")])
    assert "error" not in [one.severity for one in later if one.rule == "oversized-update"]


def test_targets_that_are_far_off_break_a_training() -> None:
    [root] = join([finding("oversized-update"), finding("loss-not-decreasing", of="target"), finding("non-finite", 1)])
    assert (root.rule, root.evidence["of"]) == ("loss-not-decreasing", "target")


def test_what_is_only_drawn_together_follows_from_targets_that_push_nothing_apart() -> None:
    collapse = finding("collapsed-signal", of="own target")
    signs = finding("loss-not-decreasing", of="signs")
    (root,) = join([collapse, signs])
    assert (root.evidence["of"], [one.rule for one in root.consequences]) == ("signs", ["collapsed-signal"])
