"""Classes that a loss ignores or weighs, and logits that are divided by a large number."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rules.traces import Net, Value, falling, flat, found

RULE = "loss-not-decreasing"


def net(loss: Value = falling, samples: int = 32, terms: dict[str, Any] | None = None, steps: int = 30) -> Net:
    made = Net(steps=steps, loss=loss).output("input", "input", "input", samples=samples, gradient=None)
    made.output("0").parameter("0.weight")
    made.output("loss:cross_entropy", "loss", "cross_entropy", samples=32, units=10, gradient=None)
    made.output("loss:cross_entropy[value]", "loss", "cross_entropy", samples=1, units=1, mean=loss, gradient=None)
    made.coverage["terms"] = {"looked": 15, "underflown": 0, "reversed": {}, **(terms or {})}
    return made


def kinds(made: Net) -> list[tuple[str, str]]:
    return [(one.severity, str(one.evidence["of"])) for one in found(RULE, made) if "of" in one.evidence]


@pytest.mark.parametrize(
    ("known", "samples", "count"),
    [
        ({}, 32, 1),
        ({"passes": 4}, 32, 0),
        ({"share": 0.009}, 32, 0),
        ({"share": 0.71}, 32, 0),
        ({"label": 10}, 32, 0),  # there are ten classes, 0 to 9
        ({"label": 9}, 32, 1),
        ({}, 8, 0),  # positions of sequences in one row
        ({"predictions": 64}, 64, 0),
    ],
)
def test_a_class_that_is_ignored(known: dict[str, Any], samples: int, count: int) -> None:
    ignored = {"label": 0, "passes": 5, "share": 0.1, "predictions": 32, **known}
    assert kinds(net(samples=samples, terms={"ignored": ignored})) == [("error", "ignored")] * count


@pytest.mark.parametrize(
    ("excess", "severity"),
    [(9.9, None), (10.1, "warning"), (29.9, "warning"), (30.1, "error"), (0.11, None), (0.03, "error"), (0.0, "error")],
)
def test_positive_samples_that_count_too_much(excess: float, severity: str | None) -> None:
    terms = {"pos_weight": {"weight": 3.0, "excess": excess, "passes": 5}}
    assert kinds(net(terms=terms)) == ([(severity, "pos_weight")] if severity else [])


@pytest.mark.parametrize(
    ("scale", "loss", "steps", "count"),
    [
        (0.05, flat, 60, 1),
        (-0.05, flat, 60, 1),
        (0.051, flat, 60, 1),
        (0.25, flat, 60, 1),
        (0.26, flat, 60, 0),
        (0.1, lambda step: 2.3 - 0.2 * step / 59, 60, 0),
        (0.05, flat, 59, 0),
        (0.05, lambda step: 2.3 - 0.6 * step / 59, 60, 0),  # it is learned for all that
    ],
)
def test_logits_that_are_divided_by_a_large_number(scale: float, loss: Value, steps: int, count: int) -> None:
    made = net(loss, steps=steps)
    made.coverage["scaled_logits"] = {"loss:cross_entropy": scale}
    assert [one for one in kinds(made) if one[1] == "confined"] == [("error", "confined")] * count
