"""Classes that a loss ignores or weighs, and logits that are divided by a large number."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rules.traces import Net, Value, falling, flat, found

RULE = "loss-not-decreasing"


def net(
    loss: Value = falling, samples: int = 32, terms: dict[str, Any] | None = None, steps: int = 30, units: int = 10
) -> Net:
    made = Net(steps=steps, loss=loss).output("input", "input", "input", samples=samples, gradient=None)
    made.output("0", samples=32, units=units).parameter("0.weight")
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
    ("weight", "excess", "severity"),
    [
        (3.0, 9.9, None),
        (3.0, 10.1, "warning"),
        (3.0, 29.9, "warning"),
        (3.0, 30.1, "error"),
        (0.3, 0.11, None),
        (0.3, 0.03, "error"),
        (0.0, 0.0, "error"),
        (3.0, 0.03, None),  # of what is rare it is better than none
    ],
)
def test_positive_samples_that_count_too_much_or_too_little(weight: float, excess: float, severity: str | None) -> None:
    terms = {"pos_weight": {"weight": weight, "excess": excess, "passes": 5}}
    assert kinds(net(terms=terms)) == ([(severity, "pos_weight")] if severity else [])


@pytest.mark.parametrize(
    ("scale", "loss", "steps", "count"),
    [
        (0.05, flat, 100, 1),
        (-0.05, flat, 100, 1),
        (0.05, flat, 99, 0),
        (0.05, lambda step: 2.3 - 0.3 * step / 99, 100, 0),  # it is learned for all that
        (0.15, flat, 100, 1),
        (0.16, flat, 100, 0),
        (0.1, lambda step: 2.3 - 0.1 * step / 99, 100, 0),
    ],
)
def test_logits_that_are_divided_by_a_large_number(scale: float, loss: Value, steps: int, count: int) -> None:
    made = net(loss, steps=steps)
    made.coverage["scaled_logits"] = {"loss:cross_entropy": scale}
    assert [one for one in kinds(made) if one[1] == "confined"] == [("error", "confined")] * count


@pytest.mark.parametrize(
    ("weights", "counts", "count"),
    [
        ([4.0, 2.0, 1.0], [100, 50, 10], 1),
        ([1.0, 2.0, 4.0], [100, 50, 10], 0),
        ([1.9, 1.5, 1.0], [100, 50, 10], 0),  # nearly even
        ([4.0, 2.0, 1.0], [10, 9, 8], 0),
        ([4.0, 1.0, 2.0, 3.0], [100, 50, 20, 10], 0),  # in no order
        ([4.0, 2.0, 1.0], [100, 50, 0], 1),  # a class that does not occur
        ([4.0], [100], 0),
    ],
)
def test_weights_that_grow_with_how_often_a_class_occurs(weights: list[float], counts: list[int], count: int) -> None:
    terms = {"class_weights": {"weights": weights, "counts": counts}}
    assert kinds(net(terms=terms)) == [("error", "class weights")] * count


@pytest.mark.parametrize(
    ("terms", "kind"),
    [
        ({"several": {"share": 0.05, "passes": 5}}, "several classes"),
        ({"several": {"share": 0.04, "passes": 5}}, None),
        ({"several": {"share": 0.5, "passes": 4}}, None),
        ({"read": {"share": 0.7, "passes": 5}}, "lengths"),
        ({"read": {"share": 0.71, "passes": 5}}, None),
        ({"of_logits": 8}, "squash"),
        ({"of_logits": 7}, None),
    ],
)
def test_what_losses_are_told(terms: dict[str, Any], kind: str | None) -> None:
    assert kinds(net(terms=terms)) == ([("error", kind)] if kind else [])


@pytest.mark.parametrize(("bounds", "count"), [([0.0, 1.0], 1), ([-10.0, 10.0], 0)])
def test_logits_that_are_cut(bounds: list[float], count: int) -> None:
    made = net(flat)
    made.coverage["clamped_logits"] = {"loss:cross_entropy": bounds}
    assert [one for one in kinds(made) if one[1] == "confined"] == [("error", "confined")] * count


@pytest.mark.parametrize(
    ("rows", "units", "op", "count"),
    [
        (1, 10, "cross_entropy", 1),
        (64, 10, "cross_entropy", 0),
        (1, 64, "cross_entropy", 0),
        (1, 10, "sub", 0),  # a condition at a single point, as of a differential equation
    ],
)
def test_a_loss_of_one_sample(rows: int, units: int, op: str, count: int) -> None:
    made = Net(loss=flat).output("input", "input", "input", samples=64, gradient=None)
    made.output("0", samples=64, units=units)
    made.output(f"loss:{op}", "loss", op, samples=rows, units=10, gradient=None)
    assert [one for one in kinds(made) if one[1] == "one sample"] == [("error", "one sample")] * count


@pytest.mark.parametrize(
    ("least", "most", "end", "units", "count"),
    [(0.0, 0.0, 0.01, 10, 1), (0.0, 0.0, 1.0, 10, 0), (0.0, 1.0, 0.01, 10, 0), (0.0, 0.0, 0.01, 8, 0)],
)
def test_targets_that_are_all_one_class(least: float, most: float, end: float, units: int, count: int) -> None:
    """A loss that has come to nothing by that; of similarities the positive may stand first in every row."""
    made = net(lambda step: 2.3 + (end - 2.3) * min(step, 15) / 15, units=units)
    target = {"mean": 0.0, "min": least, "max": most}
    made.output("loss:cross_entropy[target]", "target", "target", samples=32, units=1, gradient=None, **target)
    assert [one for one in kinds(made) if one[1] == "one class"] == [("error", "one class")] * count


@pytest.mark.parametrize(
    ("known", "padding", "severity"),
    [
        ({}, [0, 10], "error"),
        ({"share": 0.79}, [0, 10], "warning"),
        ({"share": 0.49}, [0, 10], None),
        ({"passes": 4}, [0, 10], None),
        ({"label": 1}, [0, 10], None),
        ({}, [0, 50], None),  # the ten are classes, and no ids
    ],
)
def test_padding_that_is_learned(known: dict[str, Any], padding: list[int], severity: str | None) -> None:
    made = net(terms={"last": {"label": 0, "passes": 5, "share": 0.81, **known}})
    made.coverage["padding"] = {"": [padding]}
    assert kinds(made) == ([(severity, "padding")] if severity else [])
