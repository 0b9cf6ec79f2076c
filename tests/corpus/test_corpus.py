"""The corpus holds what it promises: named once, labeled with known rules, the same on every build."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tests.corpus import FAULTY, HEALTHY
from tests.corpus.case import Case

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
}
QUICK = [case for case in HEALTHY + FAULTY if not case.name.startswith("transformers-")]


def test_names_are_unique() -> None:
    names = [case.name for case in HEALTHY + FAULTY]
    assert sorted(names) == sorted(set(names))


def test_labels_are_rules() -> None:
    assert all(case.causes and case.causes <= RULES for case in FAULTY)
    assert not any(case.causes or case.twin for case in HEALTHY)


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
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
    assert case.name == "data-zeros" or drawn[0] != str(batches[0])
