"""What is counted as right, and the intervals."""

from __future__ import annotations

import pytest

from tests.corpus import scores
from tests.corpus.case import Case
from tests.corpus.scores import Row
from tests.corpus.verdicts import Verdict


def row(errors: str = "", state: str = "faulty", causes: str = "a b", roots: str = "", **more: object) -> Row:
    fault, strength = str(more.get("fault", "f")), float(str(more.get("strength", 0)))
    case = Case("x", lambda: None, frozenset(causes.split()), "", fault=fault, strength=strength,
                roots=frozenset(roots.split()), family=str(more.get("family", "gcn")), hard=bool(more.get("hard")))  # type: ignore[arg-type, return-value]  # fmt: skip
    warned = str(more.get("warnings", "")).split()
    return Row(case, Verdict(errors.split(), warned, crash=str(more.get("crash", ""))), state)


def test_wilson_interval() -> None:
    """Of 10 in 10 the lower end is 1 / (1 + z^2 / 10) = 0.7225 (Wilson 1927)."""
    found = scores.share([row("a")] * 10, lambda one: one.right)
    assert (found["count"], found["of"], found["high"]) == (10, 10, pytest.approx(1.0))
    assert found["low"] == pytest.approx(1 / (1 + 1.959964**2 / 10), abs=1e-4)
    assert scores.text(found) == "10 of 10, 100.0 % (72.2 to 100.0)"
    assert scores.text(scores.share([], lambda one: True)) == "none"


@pytest.mark.parametrize(
    ("errors", "right", "first"),
    [("", False, False), ("c", False, False), ("a", True, True), ("b a", True, False), ("c a", True, False)],
)
def test_right_and_root_first(errors: str, right: bool, first: bool) -> None:
    one = row(errors, roots="a")
    assert (one.right, one.root_first) == (right, first)


def test_a_crash_is_an_alarm_and_not_right() -> None:
    one = row(crash="ValueError", state="healthy", causes="")
    assert one.alarms and not one.right


def test_summary_counts_states_apart() -> None:
    rows = [row("a"), row("c"), row("", hard=True), row("a", "no effect"), row("", "healthy"), row("z", "healthy"),
            row("", "doubtful")]  # fmt: skip
    found = scores.summary(rows)
    assert (found["error on healthy"]["count"], found["error on healthy"]["of"]) == (1, 2)
    assert (found["right cause"]["count"], found["right cause"]["of"]) == (1, 3)
    assert found["right cause, beyond evidence apart"]["of"] == 2
    early = found["early warning: error on a fault without effect"]
    assert (early["count"], early["of"]) == (1, 1)
    assert found["doubtful, counted nowhere"] == 1


def test_precision_counts_false_alarms_and_wrong_causes() -> None:
    rows = [row("a"), row("a", causes="b"), row("a", "healthy", causes=""), row("b", roots="a")]
    found = scores.by_rule(rows)["a"]
    assert (found["precision"]["count"], found["precision"]["of"]) == (1, 3)
    assert (found["recall"]["count"], found["recall"]["of"]) == (1, 2)
    assert found["found by any"]["count"] == 2


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        ([(0, 1), (1, 2), (2, 2)], ("2", "3")),
        ([(1, 1), (0, 1), (1, 1)], ("1", "3")),
        ([(0, 0), (0, 1), (0, 1)], ("none", "none")),
        ([(0, 0), (1, 1), (0, 0)], ("2", "2")),
    ],
)
def test_weakest(found: list[tuple[int, int]], answer: tuple[str, str]) -> None:
    graded = [{"strength": i + 1.0, "right cause": {"count": c, "of": n}} for i, (c, n) in enumerate(found)]
    assert scores.weakest(graded) == answer


def test_strengths_are_told_apart() -> None:
    rows = [row("a", strength=1), row("", strength=2), row("c", "no effect", strength=1)]
    first, second = scores.by_strength(rows, {"f": (1.0, 2.0)})["f"]
    assert (first["right cause"]["count"], first["early warning"]["count"]) == (1, 1)
    assert (second["right cause"]["count"], second["right cause"]["of"]) == (0, 1)
