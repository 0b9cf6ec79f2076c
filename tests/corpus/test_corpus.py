"""The corpus holds what it promises: named once, labeled with known rules, the same on every build."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tests.corpus import FAULTY, HEALTHY, everything
from tests.corpus.case import Case
from tests.corpus.families import FAMILIES
from tests.corpus.inject import INJECTORS
from tests.corpus.labels import STATES, labels
from tests.corpus.split import FRESH, HELD_OUT, MOVED, SECOND, TEST, THIRD, part_of
from tests.corpus.verify_labels import FALL, HALF, progress, proof

RULES = {
    "vanishing-gradient",
    "exploding-gradient",
    "collapsed-signal",
    "exploding-activation",
    "saturated-activation",
    "dead-units",
    "non-finite",
    "missing-gradient",
    "stalled-update",
    "oversized-update",
    "symmetric-units",
    "loss-not-decreasing",
    "diverging-loss",
    "unrelated-targets",
}
QUICK = [case for case in HEALTHY + FAULTY if not case.name.startswith("transformers-")]
ALL = everything()
SPOT = ("siren", "soft-tree", "maxout", "hypernetwork")
QUICK += [case for case in ALL if case.family in SPOT]


def test_names_are_unique() -> None:
    names = [case.name for case in ALL]
    assert sorted(names) == sorted(set(names))


def test_every_family_is_in_one_part() -> None:
    assert sorted(TEST + HELD_OUT + MOVED + SECOND + THIRD + FRESH) == sorted(FAMILIES)
    assert {part_of(name) for name in FRESH} == {"fresh"}
    assert {part_of(case.family) for case in HEALTHY + FAULTY} == {"fit"}


def test_the_corpus_is_large_and_proven() -> None:
    states = [labels()[case.name]["state"] for case in ALL]
    counts = {state: states.count(state) for state in STATES}
    assert sum(counts.values()) == len(ALL) == len(labels())
    assert counts["healthy"] >= 400
    assert counts["faulty"] >= 550
    assert counts["doubtful"] <= 0.05 * len(ALL)


def test_every_fault_is_injected_and_its_causes_are_rules() -> None:
    assert {case.fault for case in ALL if "+" in case.name} == set(INJECTORS)
    for one in INJECTORS.values():
        assert one.roots <= one.causes <= RULES, one.name
        assert one.why


def test_states_follow_from_the_numbers() -> None:
    for name, one in labels().items():
        if "+" not in name or one["state"] == "doubtful":
            continue
        twin, end, share = (
            progress(float(one["twin_start"]), float(one["twin_end"])),
            float(one["end"]),
            float(one["share"]),
        )
        assert twin > FALL, name
        changed = "raised" in one or not math.isfinite(end) or share < HALF
        assert one["state"] == ("faulty" if changed else "no effect"), name


@pytest.mark.parametrize("family", SPOT)
def test_proofs_are_measured_again(family: str) -> None:
    """The stored losses of a family and of two faults in it."""
    for case in [one for one in ALL if one.family == family][:4]:
        stored, measured = labels()[case.name], proof(case)
        assert measured["state"] == stored["state"]
        for key in ("start", "end"):
            assert float(measured[key]) == pytest.approx(float(stored[key]), rel=0.02, nan_ok=True), (case.name, key)


def test_labels_are_rules() -> None:
    assert all(case.causes and case.causes <= RULES for case in FAULTY)
    assert not any(case.causes or case.twin for case in HEALTHY)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(one, id=one.name, marks=[pytest.mark.nightly] * (number % 4 > 0))
        for number, one in enumerate(QUICK)
    ],
)
def test_same_on_every_build(case: Case) -> None:
    losses, drawn = [], []
    for _ in range(2):
        torch.rand(1)
        workload = case.build()
        batches = list(itertools.islice(workload.batches, 30))
        assert len(batches) == 30
        torch.manual_seed(1)
        losses.append(float(workload.loss(workload.model, batches[0]).detach()))
        drawn.append(str(batches[1]))
    assert losses[0] == losses[1] or all(map(math.isnan, losses))
    assert drawn[0] == drawn[1]
    alike = case.name == "data-zeros" or case.fault in ("input-constant", "input-offset", "input-tiny")
    assert alike or drawn[0] != str(batches[0])
