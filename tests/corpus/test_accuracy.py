"""How right diag is on the corpus: no error on what is healthy, a right cause for what is not."""

from __future__ import annotations

import warnings

import pytest

from tests.corpus import FAULTY, HEALTHY
from tests.corpus.case import Case
from tests.corpus.run import judge

RIGHT_CAUSES = 0.95
"""The least share of the faulty cases, hard ones apart, among whose errors is a right cause."""

QUICK_HEALTHY = """mlp-default-3 mlp-sigmoid-2 mlp-functional mlp-dropout-half mlp-zero-head cnn-bn autoencoder-bce
rnn-cell-loop train-frozen-body train-spare-heads""".split()
QUICK_FAULTY = """sigmoid-legacy-10 relu-tenfold-8 constant-init dead-bias-all saturated-tanh-weights lr-1e-9-sgd
lr-1000x-sgd cut-detach nan-log-negative data-same-sample""".split()
"""These run always: one of each family, half a second or less."""


def verdict(case: Case) -> tuple[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a library's remark on a case is no matter here
        return judge(case)


def nightly_but_for(quick: list[str], cases: list[Case]) -> list[object]:
    assert set(quick) <= {case.name for case in cases}
    return [
        pytest.param(case, id=case.name, marks=[] if case.name in quick else [pytest.mark.nightly]) for case in cases
    ]


@pytest.mark.parametrize("case", nightly_but_for(QUICK_HEALTHY, HEALTHY))
def test_no_error_on_a_healthy_network(case: Case) -> None:
    state, found = verdict(case)
    assert state == "ok", f"{state}: {found}"


@pytest.mark.parametrize("name", QUICK_FAULTY)
def test_a_right_cause(name: str) -> None:
    [case] = [one for one in FAULTY if one.name == name]
    state, found = verdict(case)
    assert state == "ok", f"{state}, wanted {' or '.join(sorted(case.causes))}: {found}"


@pytest.mark.nightly
def test_the_share_of_right_causes() -> None:
    cases = [case for case in FAULTY if not case.hard]
    wrong = []
    for case in cases:
        state, found = verdict(case)
        if state != "ok":
            wrong.append(f"{case.name}: {state}, wanted {' or '.join(sorted(case.causes))}: {found}")
    share = 1 - len(wrong) / len(cases)
    assert share >= RIGHT_CAUSES, "\n".join([f"{share:.1%} of {len(cases)} right; the others:", *wrong])
    assert not [one for one in wrong if ": CRASH" in one], "\n".join(wrong)
