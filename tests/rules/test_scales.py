"""An input that is far too large, and a first loss that is far from a guess."""

from __future__ import annotations

import math

import pytest

from tests.rules.traces import DEFAULTS, Net, Value, falling, flat, found

EXPLODES = "exploding-activation"


def fed(rms: float, behind: str = "layer", **options: object) -> Net:
    net = Net(**options)  # type: ignore[arg-type]
    net.output("data", "input", "input", rms=rms, gradient=None)
    return net.output("0", behind, "linear").output("1").output("2")


@pytest.mark.parametrize(
    ("just", "behind", "options", "severity"),
    [
        (1.01, "layer", {"loss": flat}, "error"),
        (0.99, "layer", {"loss": flat}, None),
        (1.01, "normalization", {"loss": flat}, "warning"),
        (1.01, "embedding", {"loss": flat}, "warning"),
        (1.01, "layer", {"loss": falling}, "warning"),
        (1.01, "layer", {"loss": flat, "optimizer": None}, "warning"),
    ],
)
def test_an_input_that_is_not_standardized(
    just: float, behind: str, options: dict[str, object], severity: str | None
) -> None:
    findings = found(EXPLODES, fed(just * DEFAULTS["input_error"], behind, **options))
    assert [one.severity for one in findings] == ([severity] if severity else [])
    if findings:
        assert (findings[0].site, findings[0].evidence["of"]) == ("data", "input")


def classified(loss: Value, classes: int = 10, largest: float = 1e4) -> Net:
    net = Net(loss=loss).output("0").output("1").output("2")
    net.output("loss", "loss", "cross_entropy", units=classes, min=-largest, max=largest)
    values = [loss(step) if callable(loss) else loss for step in range(30)]
    return net.output("loss[value]", "loss", "cross_entropy", mean=values)  # type: ignore[arg-type]


CHANCE = math.log(10)


@pytest.mark.parametrize(
    ("first", "last", "count"), [(4.6, 1.1, 1), (4.4, 1.1, 0), (4.6, 0.9, 0), (1000.0, 30.0, 1), (1.0, 1.0, 0)]
)
def test_a_first_loss_far_above_a_guess(first: float, last: float, count: int) -> None:
    loss = lambda step: CHANCE * (first if step < 5 else last)  # noqa: E731 -- a value per step
    findings = [one for one in found(EXPLODES, classified(loss)) if one.evidence.get("of") == "output"]
    assert len(findings) == count
    if findings:
        assert findings[0].evidence["chance"] == pytest.approx(CHANCE)
        assert findings[0].site == "loss"


def test_a_sum_over_the_targets_is_no_large_loss() -> None:
    # As the Trainer of transformers has it: 64 targets, each as good as a guess.
    loss = lambda step: 64 * CHANCE * (1.1 if step < 5 else 1.05)  # noqa: E731 -- a value per step
    assert not [one for one in found(EXPLODES, classified(loss, largest=2.0)) if one.evidence.get("of") == "output"]
    assert [one for one in found(EXPLODES, classified(loss, largest=1e4)) if one.evidence.get("of") == "output"]
