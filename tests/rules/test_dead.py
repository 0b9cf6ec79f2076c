"""dead-units: zero for every sample over the window, not zero for many."""

from __future__ import annotations

import pytest

from tests.rules.traces import DEFAULTS, Net, found, only

RULE = "dead-units"


def net(share: float, units: int = 1000, **options: object) -> Net:
    """A layer, an activation with this share of its units dead, a layer."""
    given = {"op": "relu", "dead": round(share * units), "units": units, "zero_fraction": 0.9, **options}
    return Net().output("0").output("1", "nonlinearity", **given).output("2")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("threshold", "by", "severity"),
    [
        ("dead_error", 0.01, "error"),
        ("dead_error", -0.01, "warning"),
        ("dead_warning", 0.01, "warning"),
        ("dead_warning", -0.01, None),
    ],
)
def test_thresholds(threshold: str, by: float, severity: str | None) -> None:
    findings = found(RULE, net(DEFAULTS[threshold] + by))
    assert [one.severity for one in findings] == ([severity] if severity else [])


def test_the_numbers() -> None:
    finding = only(RULE, net(0.95, 40))
    assert finding.site == "1"
    assert (finding.evidence["dead_units"], finding.evidence["units"]) == (38, 40)
    assert "38 of 40 units of 1 are zero for every sample over 10 steps" in finding.message


def test_zeros_alone_are_not_death() -> None:
    assert not found(RULE, net(0.0, zero_fraction=0.99))


def test_units_that_sleep_in_turns_are_not_dead() -> None:
    """Each step nine in ten are zero for the batch, but over the window none is."""
    assert not found(RULE, net(0.0, units=100, dead_units=90.0))


def test_death_starts_when_most_are_silent() -> None:
    late = net(0.0, units=100, dead=lambda step: 95 if step >= 22 else 0, dead_units=lambda s: 95.0 if s >= 12 else 0.0)
    assert only(RULE, late).evidence["step"] == 12


def test_the_first_grave_site_is_named_with_all_the_bad_ones() -> None:
    several = Net().output("0")
    for number, share in enumerate([0, 18, 32, 31]):
        several.output(f"relu{number}", "nonlinearity", "relu", dead=share)
    finding = only(RULE, several)
    assert (finding.site, finding.severity) == ("relu2", "error")
    assert finding.evidence["sites"] == ["relu1", "relu2", "relu3"]


@pytest.mark.parametrize("options", [{"units": 3, "dead": 3}, {"op": "softmax"}, {"op": "log_softmax"}])
def test_what_has_no_units_to_lose(options: dict[str, object]) -> None:
    assert not found(RULE, net(1.0, **options))  # type: ignore[arg-type]


def test_too_few_samples_for_an_error() -> None:
    assert only(RULE, net(1.0, samples=1)).severity == "warning"
    assert only(RULE, net(1.0, samples=7)).severity == "error"  # ten steps of seven


def test_calls_with_few_samples_are_judged_together() -> None:
    """A loop over single samples: dead throughout is dead in every call."""
    alive_in_one, dead_in_all = Net().output("0"), Net().output("0")
    for call in range(8):
        alive_in_one.output("r", "nonlinearity", "relu", samples=1, call=call, dead=0 if call == 5 else 32)
        dead_in_all.output("r", "nonlinearity", "relu", samples=1, call=call, dead=32)
    assert not found(RULE, alive_in_one)
    assert only(RULE, dead_in_all).severity == "error"


def test_a_short_run_is_judged_by_its_steps() -> None:
    short = Net(steps=5).output("0")
    short.output("1", "nonlinearity", "relu", dead_units=lambda step: 31.0 if step else 30.0)
    assert only(RULE, short).evidence["dead_units"] == 30
