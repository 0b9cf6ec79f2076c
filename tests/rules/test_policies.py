"""Policies that are undecided to the end, or decided before anything was learned."""

from __future__ import annotations

import pytest

from tests.rules.traces import Net, flat, found


@pytest.mark.parametrize(
    ("known", "kind"),
    [
        ({"bonus": 0.3, "first": 0.99, "last": 0.98}, "bonus"),
        ({"bonus": 0.29, "first": 0.99, "last": 0.98}, None),
        ({"bonus": 0.3, "first": 0.99, "last": 0.979}, None),  # it has decided a little for all that
        ({"bonus": 0.0, "first": 0.019, "last": 0.049}, "decided"),
        ({"bonus": 0.0, "first": 0.021, "last": 0.0}, None),
        ({"bonus": 0.0, "first": 0.019, "last": 0.051}, None),
        ({"bonus": 0.01, "first": 0.99, "last": 0.0}, None),  # it has learned to be sure
    ],
)
def test_what_is_told_of(known: dict[str, float], kind: str | None) -> None:
    for passes, told in ((10, kind), (9, None)):
        net = Net(loss=flat).output("0")
        net.coverage["terms"] = {"looked": 15, "underflown": 0, "reversed": {}, "policy": {"passes": passes, **known}}
        findings = [one for one in found("loss-not-decreasing", net) if "of" in one.evidence]
        assert [one.evidence["of"] for one in findings] == ([told] if told else [])
        assert all(one.severity == "error" for one in findings)


@pytest.mark.parametrize(("share", "severity"), [(1.0, "error"), (0.99, "error"), (0.98, "warning"), (0.5, "warning")])
def test_labels_that_are_smoothed_too_far(share: float, severity: str) -> None:
    net = Net(loss=flat).output("0")
    net.coverage["terms"] = {"looked": 15, "underflown": 0, "reversed": {}, "smoothing": share}
    [finding] = found("loss-not-decreasing", net)
    assert (finding.evidence["of"], finding.severity) == ("smoothing", severity)


def test_labels_that_are_smoothed_a_little() -> None:
    net = Net(loss=flat).output("0")
    net.coverage["terms"] = {"looked": 15, "underflown": 0, "reversed": {}, "smoothing": 0.49}
    assert all("of" not in one.evidence for one in found("loss-not-decreasing", net))


@pytest.mark.parametrize(("passes", "count"), [(15, 1), (14, 1), (13, 0)])
def test_a_ratio_of_a_policy_to_itself(passes: int, count: int) -> None:
    net = Net(loss=flat).output("0").parameter("0.weight")
    net.coverage["terms"] = {"looked": 15, "underflown": 0, "reversed": {}, "of_itself": passes}
    findings = [one for one in found("missing-gradient", net) if one.evidence.get("of") == "own ratio"]
    assert [one.severity for one in findings] == ["error"] * count


@pytest.mark.parametrize(("bonus", "kind"), [(-1e-4, ["bonus"]), (-9e-5, []), (0.01, [])])
def test_entropy_that_is_made_small(bonus: float, kind: list[str]) -> None:
    net = Net(loss=flat).output("0")
    policy = {"passes": 15, "bonus": bonus, "first": 0.9, "last": 0.3}
    net.coverage["terms"] = {"looked": 15, "underflown": 0, "reversed": {}, "policy": policy}
    assert [one.evidence["of"] for one in found("loss-not-decreasing", net) if "of" in one.evidence] == kind
