"""What is tried first, and what is told first."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from diag.prescribe.effect import Effect, Verdict
from diag.prescribe.order import MOST_OF_IT, USUAL, adds_nothing, to_tell
from diag.prescribe.remedy import Remedy, combined, family
from diag.prescribe.trial import Trial
from diag.rules.causes import EXPLAINS
from tests.prescribe.cases import mlp, proposals, search, sgd
from tests.prescribe.sick import CASES


def remedy(
    name: str, kind: str = "initialization", direct: bool = False, place: int = 0, code: str = "", parts: int = 1
) -> Remedy:
    return Remedy(name, kind, f"Do {name}.", code, ("dead-units",), direct, place=place, parts=parts)


def trial(
    one: Remedy, final: float, verdict: Verdict = "helped", half: float = 0.01, errors: list[str] | None = None
) -> Trial:
    """Of an untreated loss of 2, with an interval of `half` to both sides."""
    value = math.log(final / 2)
    effect = Effect("log ratio", value, value - half, value + half, 2.0, final, 2.0, 3, 2.0, final)
    return Trial(one, verdict, effect, errors=errors)


def test_every_rule_has_families() -> None:
    assert set(USUAL) == set(EXPLAINS)


def test_the_largest_effect_is_on_top_and_what_diverged_below() -> None:
    worst, wild, best, good = (remedy(name) for name in ("worst", "wild", "best", "good"))
    trials = [
        trial(worst, 1.9, "did not help"),
        trial(wild, 0.01, "diverged"),
        trial(good, 1.0),
        trial(best, 0.4),
    ]
    assert [one.remedy.name for one in to_tell(trials)] == ["best", "good", "worst", "wild"]


@pytest.mark.parametrize(
    ("ends", "parts", "nothing"),
    [
        ((1.0, 0.5, 0.25), 2, True),
        ((1.0, 0.5, 0.25, 0.3, 0.4), 2, True),  # the other had fewer seeds
        ((1.0, 0.5, 0.25 + 1e-12), 2, False),
        ((1.0, 0.5, 0.25), 1, False),  # another single change is no addition
        ((math.inf,), 2, False),
        ((), 2, False),
    ],
)
def test_what_a_combination_adds(ends: tuple[float, ...], parts: int, nothing: bool) -> None:
    known = [Trial(remedy("a"), "helped", ends=(1.0, 0.5, 0.25)), Trial(remedy("b"), "diverged", ends=(math.inf,))]
    one = Trial(remedy("a + b", "combination", parts=parts), "helped", ends=ends)
    assert adds_nothing(one, [*known, Trial(remedy("untrained"), "helped")]) == nothing


def test_a_combination_that_adds_nothing_is_not_listed() -> None:
    found = search(sgd(mlp(3)), seeds=2, steps=6)
    gain = remedy("gain", code="model[0].weight.data.mul_(1.1)\n")
    idle = remedy("idle", "biases", code="model[0].bias.data.mul_(1.0)\n")
    other = remedy("other", "biases", code="model[0].bias.data.add_(1.0)\n")
    for one in (gain, idle, combined(gain, idle), other, combined(gain, other)):
        found._try(one)
    assert [one.remedy.name for one in found.trials] == ["gain", "idle", "other", "gain + other"]


def test_one_change_goes_before_two_that_bring_hardly_more() -> None:
    pair = remedy("pair", "combination", parts=2)
    # The pair takes off 1.5 of 2; the single one a little more, and a little less, than the share that suffices.
    for share, first in ((MOST_OF_IT + 0.01, "one"), (MOST_OF_IT - 0.01, "pair")):
        assert to_tell([trial(pair, 0.5), trial(remedy("one"), 2 - 1.5 * share)])[0].remedy.name == first


def test_what_was_seen_to_be_wrong_goes_before_what_merely_helps() -> None:
    trials = [trial(remedy("other"), 0.50), trial(remedy("seen", direct=True), 0.51), trial(remedy("far"), 1.0)]
    assert [one.remedy.name for one in to_tell(trials)] == ["seen", "other", "far"]


def test_one_change_goes_before_two_whose_loss_is_no_lower_beyond_doubt() -> None:
    pair, one = remedy("pair", "combination", parts=2), remedy("one")
    # The pair takes off 1.5 of 2, to 0.5; one change 93 % of that, to 0.605: their intervals meet, or do not.
    for half, first in ((0.2, "one"), (0.05, "pair")):
        assert to_tell([trial(pair, 0.5, half=half), trial(one, 0.605, half=half)])[0].remedy.name == first
    # However wide the intervals, what is clearly weaker stays below.
    assert to_tell([trial(pair, 0.5, half=0.3), trial(one, 0.8, half=2.0)])[0].remedy.name == "pair"


def test_what_makes_new_errors_goes_below_what_brings_as_much_without() -> None:
    bad, good = remedy("bad", direct=True), remedy("good", "combination", parts=2)
    assert to_tell([trial(bad, 0.5, errors=["dead-units"]), trial(good, 0.52, errors=[])])[0].remedy.name == "good"
    assert to_tell([trial(bad, 0.5, errors=["dead-units"]), trial(good, 1.0, errors=[])])[0].remedy.name == "bad"


@pytest.mark.parametrize(
    ("case", "first"),
    [
        ("inputs standardized", "inputs standardized"),
        ("usual eps", "usual eps"),
        ("ReLU for sigmoid", "ReLU for sigmoid"),
        ("zero_grad", "zero_grad"),
        ("residual scaling", "He initialization"),
    ],
)
def test_what_is_tried_first(case: str, first: str) -> None:
    _, remedies, _ = proposals(CASES[case][0]())
    names = list(remedies)
    assert names[0] == first
    direct = [one.direct for one in remedies.values()]
    assert direct == sorted(direct, reverse=True)


def test_one_of_each_family_before_a_second_one() -> None:
    _, remedies, _ = proposals(sgd(mlp(6, nn.Sigmoid, "glorot")))
    kinds = [one.family for one in remedies.values() if not one.direct]
    first = len(set(kinds))
    assert len(kinds) > first
    assert len(set(kinds[:first])) == first


def test_combined_code_imports_once_and_runs_in_order() -> None:
    wrap = remedy("wrap", place=9, code="import math\nfrom torch import nn\n\nbatches.append(math.pi)\n")
    bias = remedy("bias", place=1, code="from torch import nn\n\nbatches.append(nn)\n")
    both = combined(wrap, bias)
    assert both.name == "bias + wrap"
    assert both.change == "Do bias; and do wrap."
    lines = both.code.splitlines()
    imports = ["import math", "from torch import nn"]
    assert lines == [*imports, "", "batches.append(nn)", "", "batches.append(math.pi)"]
    assert sgd(mlp(2), batches=[]).batches == []
    assert both.apply(sgd(mlp(2), batches=(found := []))).batches == [nn, math.pi] == found
    assert torch.nn is nn


def test_a_family_has_one_name() -> None:
    from diag.errors import DiagError

    with pytest.raises(DiagError, match="'clipping' exists already"):
        family("clipping")(lambda patient: [])
