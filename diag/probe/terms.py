"""The signs of the terms of a loss that is written out, and what else its graph tells, counted over backward passes."""

from __future__ import annotations

import contextlib
import math
import re
import weakref
from collections import Counter, deque
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from diag.probe.ends import Ends
from diag.probe.loss_graph import Outputs
from diag.probe.opponents import Opponents
from diag.probe.paths import LARGE, Path, below
from diag.probe.policies import Policies
from diag.probe.reading import Read, read
from diag.probe.severed import severed
from diag.probe.tensors import is_measurable, leaves
from diag.probe.variables import callers, variables
from diag.probe.weighed import Weighed

_UNREADABLE = (RuntimeError, AttributeError)
"""What a node raises that was freed, or that is of another version of torch."""
_HALF = (torch.float16, torch.bfloat16)
_HALF_OF, _SOME_OF = 0.5, 0.01
"""Of a loss, what must have no graph to be counted as most of it, and as a part."""
_GIVEN = 8
"""Inputs of which derivatives may be taken, that are known at once."""
_REWARDS = re.compile(
    r"(?:\w+_)?(?:returns?|rets?|advantages?|advs?|rewards?|gaes?|rtgs?)(?:_\w+)?|discounted|R|Rs|G|Gs|Gt"
)
"""Names of what is large where an action was good."""
_ALIKE, _FEWEST, _SAME_NUMBERS = 0.8, 5, 1e-4
"""How much factors and a variable correlate that are the same but for a baseline; how many they must be; of the
largest, what numbers differ by that are the same."""


class Terms:
    """looked: backward passes that were read. enlarged: those in which the square of an output, without a bound,
    stands with a minus. upturned: those in which all that is differentiated is losses and hinges, all of them with
    a minus; absolute: of these, those with nothing but absolute values. subtracted: by the loss, those in which it
    stands with a minus; added: with none. lowered: those in which log-probabilities of a batch stand with a plus,
    and none otherwise. overlapping: those in which the overlap of predictions and targets, as Dice's, stands
    without a minus. of_logits: those with an overlap of what a layer puts out, as it is. of_itself: those in which
    a ratio of probabilities has the very same ones above and below. rewarded: those in which log-probabilities are
    multiplied with rewards. surrogates: those in which the least of a ratio of probabilities times numbers and of
    the same ratio, cut, stands without a minus. reversed: by the name of the variable, those in which
    log-probabilities are multiplied with rewards and stand without a minus. crossed: by the shapes before and
    after, those in which outputs are spread over targets of another shape, so that each meets all. severed: those
    in which more than half of the loss has no graph; partly: those in which some of it has none, from least to
    most. underflown: those of half a precision that begin at 0, behind a number below 1 (scale, the last one).
    """

    def __init__(self) -> None:
        self.looked = self.enlarged = self.upturned = self.absolute = self.lowered = self.underflown = 0
        self.surrogates = self.overlapping = self.of_itself = self.of_logits = self.rewarded = 0
        self.scale, self.smoothing = 1.0, 0.0
        self.subtracted: Counter[str] = Counter()
        self.added: Counter[str] = Counter()
        self.severed = self.partly = 0
        self.least, self.most = math.inf, -math.inf
        self.policies, self.opponents, self.weighed, self.ends = Policies(), Opponents(), Weighed(), Ends()
        self._given: list[weakref.ref[Tensor]] = []
        self.reversed: Counter[str] = Counter()
        self.crossed: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()

    def see(self, loss: Tensor, outputs: Outputs) -> None:
        """A backward pass is about to begin here."""
        root = loss.grad_fn
        if root is None:
            return
        found = read(root, outputs)
        weighted = found.weighted
        self.looked += 1
        self.crossed.update(found.crossed)
        self.subtracted.update({op for op, number in found.losses if number < 0})
        self.added.update({op for op, number in found.losses if number > 0})
        self.upturned += found.is_upturned
        self.absolute += found.is_upturned and not found.losses and not found.hinges
        if loss.dtype in _HALF and loss.is_cpu and loss.numel() == 1 and float(loss) == 0:
            scale = _scaled_by(root)
            if abs(scale) < 1:
                self.underflown, self.scale = self.underflown + 1, scale
        self.enlarged += any(number < 0 for number in found.squares)
        self.smoothing = max(self.smoothing, found.smoothing)
        self.of_logits += found.has_raw
        self.overlapping += bool(found.overlaps) and min(found.overlaps) > 0
        with contextlib.suppress(*_UNREADABLE):
            self._see_severed(loss)
        self.lowered += _are_lowered(weighted)
        itself = _of_itself(weighted)
        self.of_itself += itself
        self.surrogates += not itself and any(one.is_least and one.is_ratio and one.number > 0 for one in weighted)
        with contextlib.suppress(*_UNREADABLE):
            self._see_weighed(found)
        multiplied = len(weighted) >= _FEWEST or any(one.factors is not None for one in weighted)
        caller = next(callers(), None) if found.scores or found.losses or (multiplied and not itself) else None
        if caller is not None and found.losses:
            with contextlib.suppress(*_UNREADABLE):
                self.ends.see(found.weighed, caller)
        if found.scores:
            code = None if caller is None else caller.f_code
            self.opponents.see_pass(found.scores, () if code is None else code.co_names + code.co_varnames)
        self.policies.see(found.shares, found.bonuses)
        if caller is not None and multiplied and not itself:
            self._see_rewards(_rewards_in(caller, weighted))

    def _see_rewards(self, signs: dict[str, int]) -> None:
        self.rewarded += bool(signs)
        if signs and min(signs.values()) > 0:  # none of them tells the opposite
            self.reversed[next(iter(signs))] += 1

    def _see_weighed(self, found: Read) -> None:
        for node in found.weighed:
            self.weighed.see(node)
        for node in found.products_of_logs:
            self.weighed.see_product(node)

    def _see_severed(self, loss: Tensor) -> None:
        found = severed(loss, self.given())
        if found is not None and abs(found[0]) > _SOME_OF * abs(found[1]):
            self.partly += 1
            self.severed += abs(found[0]) > _HALF_OF * abs(found[1])
            self.least, self.most = min(self.least, found[0]), max(self.most, found[0])

    def see_given(self, args: tuple[Any, ...]) -> None:
        """A model is called for training: derivatives may be taken of what it is given."""
        given = leaves(args)
        if given:
            self._given = [*self._given, *map(weakref.ref, given)][-_GIVEN:]

    def given(self) -> set[int]:
        """The ids of what is left of the last of them."""
        return {id(one) for ref in self._given if (one := ref()) is not None and not isinstance(one, Parameter)}

    def told(self) -> dict[str, Any]:
        """For the coverage."""
        names = (
            "looked", "enlarged", "upturned", "absolute", "lowered", "surrogates", "of_itself", "of_logits",
            "overlapping", "underflown", "rewarded",
        )  # fmt: skip
        known = {name: getattr(self, name) for name in (*names, "scale", "smoothing")}
        known |= {name: dict(getattr(self, name)) for name in ("reversed", "subtracted", "added")}
        known |= self.weighed.told()
        if told := self.policies.told():
            known["policy"] = told
        if ends := self.ends.to_dict():
            known["ends"] = ends
        if self.partly:
            known["severed"] = {
                "count": self.severed,
                "partly": self.partly,
                "least": self.least,
                "most": self.most,
            }
        for (given, spread), _ in self.crossed.most_common(1):
            known["crossed"] = {"given": list(given), "spread": list(spread), "count": self.crossed.total()}
        return known


def _of_itself(weighted: list[Path]) -> bool:
    """Whether the logarithm of a ratio is one and the same log-probability minus itself."""
    signs: dict[int, set[float]] = {}
    for one in weighted:
        if one.is_ratio:
            signs.setdefault(id(one.node), set()).add(math.copysign(1.0, one.number))
    return any(len(own) == 2 for own in signs.values())


def _are_lowered(weighted: list[Path]) -> bool:
    """Whether log-probabilities of a whole batch stand as they are, and none with a minus or a weight of its own."""
    of_batch = [math.prod(one.node._input_metadata[0].shape) >= _FEWEST for one in weighted]
    return bool(weighted) and all(of_batch) and all(one.factors is None and one.number > 0 for one in weighted)


def _scaled_by(node: Any) -> float:
    """The number that what is differentiated was multiplied with last."""
    path = Path(node)
    while path.node is not None and path.node.name() in ("MulBackward0", "DivBackward0", "ToCopyBackward0"):
        further = below(path)
        if len(further) != 1 or further[0].factors is not None:
            break
        path = further[0]
    return path.number


def _rewards_in(frame: FrameType, weighted: list[Path]) -> dict[str, int]:
    """The variables, by what they are called rewards, that log-probabilities are multiplied with, and the sign with
    which these stand in the loss: where it is a plus, they are made small where the variable is large."""
    code = frame.f_code
    names = [one for one in dict.fromkeys((*code.co_varnames, *code.co_names)) if _REWARDS.fullmatch(one)]
    signs = {}
    for name, value in zip(names, variables(frame, names), strict=True):
        numbers = _numbers(value)
        if numbers is not None:
            signs[name] = _sign(weighted, numbers)
    return {name: sign for name, sign in signs.items() if sign}


def _sign(weighted: list[Path], rewards: np.ndarray) -> int:
    """1 where log-probabilities stand in the loss with just these numbers, but for a factor above 0 and perhaps a
    baseline, -1 where with their negative, else 0."""
    single = np.array([one.number for one in weighted if one.factors is None])
    if single.shape == rewards.shape and np.ptp(single) > 0:
        for sign in (1, -1):
            mine, theirs = (np.sort(one / np.abs(one).max()) for one in (sign * single, rewards))
            if np.abs(mine - theirs).max() < _SAME_NUMBERS:
                return sign
    for one in weighted:
        if one.factors is not None and one.factors.numel() == rewards.size:
            factors = one.factors.reshape(-1).double().numpy()
            for counts in (np.ones_like(factors, dtype=bool), factors != 0):  # all, or what a mask does not leave out
                alike = _correlation(factors[counts], rewards[counts])
                if abs(alike) >= _ALIKE:
                    return int(np.sign(alike * one.number))
    return 0


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """0 where it is of too few, or either is one number."""
    if len(one) < _FEWEST or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _numbers(value: Any) -> np.ndarray | None:
    """What a variable holds, if these are several numbers, and not all the same."""
    if isinstance(value, Tensor):
        value = value.detach().reshape(-1).double().numpy() if is_measurable(value) and value.is_cpu else ()
    elif isinstance(value, (list, tuple, deque)) and all(isinstance(one, (int, float, Tensor)) for one in value):
        value = [float(one) for one in value if not isinstance(one, Tensor) or (one.is_cpu and one.numel() == 1)]
    elif not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        return None
    numbers = np.asarray(value, dtype=float).reshape(-1)
    if not _FEWEST <= len(numbers) <= LARGE or not np.isfinite(numbers).all() or np.ptp(numbers) == 0:
        return None
    return numbers
