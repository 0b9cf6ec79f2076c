"""Critics, and what is trained by their scores."""

from __future__ import annotations

from typing import Any

import pytest

from diag.rules.judge import judge
from tests.rules.traces import Net, chain, found

NONE = dict.fromkeys(("judged_up", "judged_down", "fooled_up", "fooled_down", "rewarded_down"), 0)


def told(op: str = "", **known: int) -> Net:
    net = chain()
    if op:
        net.output(f"loss:{op}", "loss", op, gradient=None)
    net.coverage["opponents"] = {"": {**NONE, **known}}
    return net


@pytest.mark.parametrize(
    ("known", "count"),
    [
        ({"judged_up": 5, "fooled_up": 5}, 1),
        ({"judged_down": 5, "fooled_down": 5}, 1),
        ({"judged_down": 50, "fooled_up": 50}, 0),
        ({"judged_up": 4, "fooled_up": 50}, 0),
        ({"judged_up": 50, "fooled_up": 4}, 0),
        ({"judged_up": 50, "fooled_up": 40, "fooled_down": 10}, 0),  # in turn
        ({"judged_up": 50, "fooled_up": 41, "fooled_down": 9}, 1),
    ],
)
def test_players_that_want_the_same(known: dict[str, int], count: int) -> None:
    findings = found("diverging-loss", told(**known))
    assert [one.severity for one in findings] == ["error"] * count
    assert all("algorithm 1" in one.source for one in findings)


@pytest.mark.parametrize(
    ("op", "known", "count"),
    [
        ("mse_loss", {"fooled_down": 10, "rewarded_down": 10}, 1),
        ("mse_loss", {"fooled_down": 10, "rewarded_down": 8}, 0),
        ("mse_loss", {"fooled_down": 4, "rewarded_down": 4}, 0),
        ("mse_loss", {"fooled_down": 10, "rewarded_down": 10, "fooled_up": 2}, 0),
        ("", {"fooled_down": 10, "rewarded_down": 10}, 0),  # nothing is fitted to rewards
    ],
)
def test_an_actor_that_does_what_its_critic_thinks_worst_of(op: str, known: dict[str, int], count: int) -> None:
    findings = found("diverging-loss", told(op, **known))
    assert [one.severity for one in findings] == ["error"] * count
    assert all("-critic(state, actor(state))" in one.remedy for one in findings)


def test_a_sign_that_was_read_comes_before_what_it_brings_about() -> None:
    net: Any = told(judged_up=9, fooled_up=9)
    net.parameter("twin.weight", shape="8x8", twins=(8.0, 8.0))
    first, *rest = judge(net.build(), {})
    assert (first.rule, first.evidence["of"]) == ("diverging-loss", "sign")
    assert [one.rule for one in first.consequences] == ["symmetric-units"]
    assert not [one for one in rest if one.severity == "error"]
