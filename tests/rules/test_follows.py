"""Target networks and averages of the weights that never follow what is trained."""

from __future__ import annotations

import pytest

from tests.rules.traces import chain, found


@pytest.mark.parametrize(
    ("last", "of", "severity"),
    [(201, "", "error"), (200, "", "warning"), (101, "", "warning"), (100, "", None), (201, "Other", None)],
)
def test_it_stands_still_for_long(last: int, of: str, severity: str | None) -> None:
    net = chain(steps=min(last, 240))
    net.coverage["standing"] = [{"name": "target", "of": of, "calls": last, "first": 1, "last": last}]
    findings = [one for one in found("stalled-update", net) if one.evidence.get("of") == "standing"]
    assert [one.severity for one in findings] == ([severity] if severity else [])
    assert all("load_state_dict" in one.remedy and one.site == "target" for one in findings)


@pytest.mark.parametrize(("calls", "count"), [(10, 1), (9, 0)])
def test_a_teacher_that_was_never_taught(calls: int, count: int) -> None:
    net = chain()
    net.coverage["untaught"] = [{"name": "teacher", "calls": calls, "first": 0, "last": 9}]
    findings = found("unrelated-targets", net)
    assert [(one.severity, one.site) for one in findings] == [("error", "teacher")] * count


@pytest.mark.parametrize(("last", "count"), [(240, 1), (239, 0)])
def test_a_copy_in_whose_place_another_one_is_called(last: int, count: int) -> None:
    net = chain(steps=301)
    net.coverage["standing"] = [{"name": "target", "of": "", "calls": last, "first": 1, "last": last}]
    assert len([one for one in found("stalled-update", net) if one.evidence.get("of") == "standing"]) == count
