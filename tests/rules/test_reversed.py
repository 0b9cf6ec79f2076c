"""Terms whose sign is turned, from what the graphs told."""

from __future__ import annotations

from typing import Any

import pytest

from diag.rules.judge import judge
from tests.rules.traces import Net, Value, chain, falling, found, only

DIVERGES = "diverging-loss"


def told(loss: Value = falling, **terms: Any) -> Net:
    net = chain(loss=loss)
    net.coverage["terms"] = {"looked": 15, "enlarged": 0, "underflown": 0, "scale": 1.0, "reversed": {}, **terms}
    return net


@pytest.mark.parametrize(("count", "errors"), [(15, 1), (14, 1), (13, 0), (2, 0)])
def test_rewards_without_a_minus(count: int, errors: int) -> None:
    findings = found(DIVERGES, told(reversed={"returns": count}))
    assert [(one.severity, one.evidence["of"], one.evidence["term"]) for one in findings] == (
        [("error", "sign", "returns")] * errors
    )
    assert all("-(log_prob * returns).mean()" in one.remedy for one in findings)


def test_rewards_and_what_is_made_of_them_count_together() -> None:
    (finding,) = found(DIVERGES, told(reversed={"returns": 6, "advantages": 9}))
    assert (finding.evidence["term"], finding.evidence["passes"]) == ("advantages", 15)


@pytest.mark.parametrize(
    ("end", "count", "errors"), [(-3.0, 15, 1), (-3.0, 12, 0), (-1.0, 15, 0), (1.0, 15, 0)], ids=str
)
@pytest.mark.parametrize("name", ["enlarged", "lowered"])
def test_terms_without_a_bound(end: float, count: int, errors: int, name: str) -> None:
    net = told(lambda step: 2.0 + (end - 2.0) * step / 29, **{name: count})
    findings = [one for one in found(DIVERGES, net) if "without end" in one.message]
    assert len(findings) == errors
    assert all(one.evidence["last"] == pytest.approx(end, abs=0.3) for one in findings)


def test_of_networks_that_take_turns_one_may_enlarge_what_the_other_diminishes() -> None:
    net = Net(loss=lambda step: -float(step), optimizer=[float(step % 2) for step in range(30)])
    net.output("0").coverage["terms"] = {"looked": 15, "enlarged": 15, "reversed": {}}
    assert not [one for one in found(DIVERGES, net) if "square" in one.message]


def test_a_loss_that_underflows() -> None:
    net = chain((0.0, 0.0, 0.0), loss=0.0)
    net.coverage["terms"] = {"looked": 15, "enlarged": 0, "underflown": 15, "scale": 1e-8, "reversed": {}}
    finding = only("loss-not-decreasing", net)
    assert (finding.severity, finding.evidence["of"], finding.evidence["scale"]) == ("error", "flat", 1e-8)
    assert "underflows" in finding.message
    assert judge(net.build(), {})[0].message == finding.message


@pytest.mark.parametrize(("count", "errors"), [(15, 1), (12, 0)])
def test_predictions_that_are_spread(count: int, errors: int) -> None:
    net = told()
    net.coverage["terms"]["crossed"] = {"given": [32, 1], "spread": [32, 32], "count": count}
    kinds = [(one.severity, one.evidence.get("of")) for one in found("loss-not-decreasing", net)]
    assert kinds == [("error", "broadcast")] * errors


@pytest.mark.parametrize(
    ("of", "end", "errors"),
    [
        ({"upturned": 15}, -2.0, 1),
        ({"upturned": 12}, -2.0, 0),
        ({"upturned": 15}, 0.5, 0),
        ({"upturned": 15, "absolute": 15}, -2.0, 0),  # a correlation that is made large
        ({"upturned": 15, "absolute": 15}, -12.0, 1),
    ],
)
def test_a_loss_that_is_never_above_zero(of: dict[str, int], end: float, errors: int) -> None:
    net = told(lambda step: -1.0 + (end + 1.0) * step / 27, **{"absolute": 0, **of})
    findings = [one for one in found(DIVERGES, net) if "never below 0" in one.message]
    assert [(one.severity, one.evidence["of"]) for one in findings] == [("error", "sign")] * errors


@pytest.mark.parametrize(
    ("subtracted", "added", "z", "end", "expected"),
    [
        (15, 0, -2.0, 1.0, ["error"]),
        (15, 0, None, -1.0, ["error"]),
        (15, 0, None, 1.0, ["warning"]),
        (15, 0, 2.0, 1.0, []),  # its predictions fit all the same
        (15, 4, -2.0, 1.0, []),
        (2, 0, -2.0, 1.0, []),
    ],
)
def test_a_loss_that_is_subtracted(
    subtracted: int, added: int, z: float | None, end: float, expected: list[str]
) -> None:
    net = told(
        lambda step: 2.0 + (end - 2.0) * step / 29, subtracted={"mse_loss": subtracted}, added={"mse_loss": added}
    )
    if z is not None:
        net.output("loss:mse_loss", "loss", "mse_loss", gradient=None)
        net.output("loss:mse_loss[pairing]", "pairing", "pairing", samples=1, units=1, mean=z, gradient=None)
    findings = [one for one in found(DIVERGES, net) if "subtracted" in one.message]
    assert [one.severity for one in findings] == expected
    assert all(one.evidence["op"] == "mse_loss" for one in findings)


@pytest.mark.parametrize(("count", "errors"), [(15, 1), (13, 0), (0, 0)])
def test_a_surrogate_without_a_minus(count: int, errors: int) -> None:
    findings = found(DIVERGES, told(surrogates=count))
    assert [(one.severity, one.evidence["term"]) for one in findings] == [("error", "surrogate")] * errors


@pytest.mark.parametrize(("count", "errors"), [(15, 1), (14, 1), (13, 0)])
def test_an_overlap_that_is_made_small(count: int, errors: int) -> None:
    findings = found("diverging-loss", told(overlapping=count))
    assert len(findings) == errors
    assert all(one.evidence["term"] == "overlap" and "1 - dice" in one.remedy for one in findings)


@pytest.mark.parametrize(("rewarded", "errors"), [(6, 1), (7, 0), (0, 0)])
def test_passes_in_which_rewards_could_not_be_compared_do_not_count(rewarded: int, errors: int) -> None:
    """As of episodes of a step or two."""
    assert len(found(DIVERGES, told(reversed={"returns": 6}, rewarded=rewarded))) == errors
