"""A classifier that learns what it is trained on, and tells the classes of other samples no better than a guess."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from diag.rules.evidence import Evidence
from diag.rules.finding import Finding
from diag.rules.scales import guesses
from diag.trace.schema import BINARY, INDEXED
from diag.trace.shapes import sizes

_LEAST = 30
"""Samples that a test must have to be judged."""
_FAR = 0.5
"""Share of a guess's cross-entropy below which a single test tells."""
_CONFIDENCE = 0.99
_EVALUATIONS, _GUESS, _LEARNED = 3, 0.98, 0.8
"""So many at least, none below this share of a guess's cross-entropy, where training has come below that one."""
_BEGUN, _RISEN = 0.9, 1.1
"""The same where training has come less far, and the evaluation's has risen that far above a guess's."""
_MANY, _EVEN, _NEAR, _AT_THE_END, _LONG = 100, 0.6, 0.15, 0.8, 99
"""Samples, a guess's share, how much of the rest may be told, and the share of the steps, and the steps, before a test
that shows that nothing was learned, rather than that training has just begun."""
_MOST_OF, _HALF_OF = 0.75, 0.5
"""Of what a guess leaves, what a test tells, and tells for certain, that shows no harm."""
_TRIFLE = 0.1
"""Of what a guess leaves to be told."""
_WORSE, _ANYTHING = 1.02, 0.95
"""Of a guess's cross-entropy, the test's and the training's, that show that what was learned is of no use."""
_REMEDY = (
    "Look at inputs beside their labels as the network gets them, of both sets: have they been shuffled or sorted"
    " apart, or are classes numbered differently? If they belong together, there are too few samples."
)
_SOURCE = "Zhang et al. 2017, 'Understanding deep learning requires rethinking generalization', section 2"


def by_guessing(evidence: Evidence) -> Finding | None:
    """The last test that tells no more classes right than a guess, where training is far from one.

    A guess is the commonest label always, its cross-entropy H = -sum p log p over the labels' shares. With training's
    cross-entropy L, of samples like those it learned it would tell exp(-L): error where an interval around the test's
    share reaches down to the guess's, and not up to the middle of both; or where at the end nothing is told, with a
    cross-entropy that is worse than a guess's, while training's is below it.
    """
    known, tests = guesses(evidence), _last_tests(evidence)
    if known is None or not tests:
        return None
    step, none = int(tests[0]["step"]), at_a_guess(evidence) is not None
    found = next((one for test in tests if (one := _judge(test, known[0], none)) is not None), None)
    if found is None:
        return None
    samples, right, guess, last = found
    return Finding(
        "evaluation-mismatch",
        "error",
        known[2],
        f"Of {samples} samples that are tested {right} are told right ({right / samples:.1%}); always the commonest"
        f" label would be right in {guess:.1%}. The cross-entropy of training has come down to {last:.3g}: what is"
        " learned holds for the training samples alone.",
        {"step": step, "of": "tested samples", "right": right, "samples": samples, "guess": guess},
        _REMEDY,
        _SOURCE,
    )


def at_a_guess(evidence: Evidence) -> tuple[int, int, float] | None:
    """Samples, right ones and a guess's share, of the last test, after most of the steps, where classes are not so
    uneven that a guess is hard to beat, and for certain it is hardly beaten."""
    tests = _last_tests(evidence)
    if not tests or not evidence.measured:
        return None
    test = max(tests, key=lambda one: int(one["samples"]))
    samples, right, guess = int(test["samples"]), int(test["right"]), _commonest(test["labels"])
    if samples < _MANY or guess > _EVEN or not is_late(evidence, int(test["step"])):
        return None
    low, high = _interval(right, samples)
    return (samples, right, guess) if low <= guess and high <= guess + _NEAR * (1 - guess) else None


def beats_a_guess(evidence: Evidence) -> bool:
    """Whether the last test tells more classes right than a guess, for certain, and not by a trifle, as where samples
    of a class come one after the other and predictions go with the clusters that they are of."""
    test = max(_last_tests(evidence), key=lambda one: int(one["samples"]), default=None)
    if test is None or len(test["labels"]) < 2:
        return False
    right, samples, guess = test["right"], test["samples"], _commonest(test["labels"])
    return _interval(right, samples)[0] > guess and right / samples > guess + _TRIFLE * (1 - guess)


def tells_most(evidence: Evidence) -> tuple[int, int] | None:
    """Samples and right ones of the last test, after most of the steps, where of what a guess leaves it tells most."""
    tests = _last_tests(evidence)
    if not tests or not evidence.measured:
        return None
    test = min(tests, key=lambda one: one["right"] / one["samples"])
    samples, right, guess = int(test["samples"]), int(test["right"]), _commonest(test["labels"])
    if samples < _LEAST or not is_late(evidence, int(test["step"])) or guess > _EVEN:
        return None
    most, half = (guess + share * (1 - guess) for share in (_MOST_OF, _HALF_OF))
    return (samples, right) if right / samples >= most and _interval(right, samples)[0] >= half else None


def is_late(evidence: Evidence, step: int) -> bool:
    """Whether a test after this step tells of all that was learned, and not of training that has just begun."""
    return step >= max(_LONG, _AT_THE_END * evidence.measured[-1])


def tests_of(evidence: Evidence) -> list[dict[str, Any]]:
    """The tests of the first model that has any, of outputs that have as many columns as what a loss of classes, where
    labels are told, or of numbers is given: others, such as an embedding, are no answers, nor is what is NaN.
    """
    _, tests = next(evidence.of_models("answers"), ("", []))
    tests = [one for one in tests if not any(math.isnan(one.get(name, 0.0)) for name in ("error", "loss"))]
    losses = evidence.sites[(evidence.sites["role"] == "loss") & ~evidence.sites.index.str.endswith("]")]
    shapes = [(str(op), sizes(str(shape))) for op, shape in zip(losses["op"], losses["shape"], strict=True)]
    classes = {shape[1] if len(shape) > 1 else 1 for op, shape in shapes if op in (*INDEXED, *BINARY)}
    numbers = {math.prod(shape[1:]) for op, shape in shapes if op not in INDEXED}
    return [one for one in tests if "columns" not in one or one["columns"] in (classes if "labels" in one else numbers)]


def _tests(evidence: Evidence) -> list[dict[str, Any]]:
    """The tests of the first model that has any in which labels are told."""
    return [one for one in tests_of(evidence) if "labels" in one]


def _last_tests(evidence: Evidence) -> list[dict[str, Any]]:
    """Those after the last step that has any."""
    tests = _tests(evidence)
    step = max((int(one["step"]) for one in tests), default=-1)
    return [one for one in tests if one["step"] == step]


def never_better(evidence: Evidence, entries: list[dict[str, Any]]) -> Finding | None:
    """The evaluation's cross-entropy never came below a guess's, and the training's is below it."""
    known = guesses(evidence)
    if known is None:
        return None
    values, chance, site = known
    last = float(values.iloc[-max(1, len(values) // 3) :].median())
    for losses in _evaluated(evidence, entries):
        risen = last <= _BEGUN * chance and losses.iloc[-1] > max(_RISEN * chance, losses.iloc[0])
        if len(losses) < _EVALUATIONS or losses.min() < _GUESS * chance or not (last <= _LEARNED * chance or risen):
            continue
        return Finding(
            "evaluation-mismatch",
            "error",
            site,
            f"The cross-entropy of what is evaluated is {losses.min():.3g} at its best, in {len(losses)} evaluations,"
            f" where a guess has {chance:.3g}; that of training has come down to {last:.3g}. What is learned holds for"
            " the training samples alone.",
            {"step": int(losses.index[0]), "of": "evaluated loss", "best": float(losses.min()), "chance": chance},
            _REMEDY,
            _SOURCE,
        )
    return None


def _evaluated(evidence: Evidence, entries: list[dict[str, Any]]) -> list[pd.Series]:
    """Cross-entropies by step: those that were computed, or else, line by line, those of tests that a guess equals."""
    told = {int(one["step"]): next(iter(one["losses"].values())) for one in entries if one["losses"]}
    if told:
        return [pd.Series(told, dtype=float)]
    tests = _tests(evidence)
    lines = pd.DataFrame(tests).groupby("line") if tests else ()
    found = []
    for _, one in lines:
        test = one.iloc[-1]
        if test["samples"] >= _LEAST and _interval(test["right"], test["samples"])[0] <= _commonest(test["labels"]):
            found.append(one.set_index("step")["loss"])
    return found


def _judge(test: dict[str, Any], losses: pd.Series, none: bool) -> tuple[int, int, float, float] | None:
    """Samples, right ones, the share of a guess and training's cross-entropy, where the test is no better than that.
    none: whether at the end nothing is told.
    """
    counts, samples, right = test["labels"].values(), int(test["samples"]), int(test["right"])
    if samples < _LEAST or len(counts) < 2:
        return None
    guess, entropy = _commonest(test["labels"]), -sum(n / samples * math.log(n / samples) for n in counts)
    before = losses[losses.index <= test["step"]]
    last = float(before.iloc[-max(1, len(before) // 5) :].median()) if len(before) else math.inf
    far = last <= _FAR * entropy
    useless = none and last <= _ANYTHING * entropy and test["loss"] >= _WORSE * entropy
    if not far and not useless:
        return None
    low, high = _interval(right, samples)
    worse = low <= guess and (useless or high <= (guess + math.exp(-last)) / 2)
    return (samples, right, guess, last) if worse else None


def _interval(right: int, samples: int) -> tuple[float, float]:
    """Wilson's, of the share of right ones."""
    from scipy.stats import binomtest  # takes as long to load as a short check takes

    found = binomtest(int(right), int(samples)).proportion_ci(_CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def _commonest(labels: dict[str, int]) -> float:
    return max(labels.values()) / sum(labels.values())
