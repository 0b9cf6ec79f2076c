"""The signs of the terms of a loss that is written out, read off the graph that backward is about to walk."""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diag.probe.loss_graph import VIEWS, Outputs, loss_made_by, pinball, through_views
from diag.probe.opponents import Opponents
from diag.probe.overlap import is_raw, overlaps
from diag.probe.paths import LARGE, Path, below
from diag.probe.policies import Policies, entropy_share, is_entropy
from diag.probe.severed import severed
from diag.probe.smoothing import smoothing
from diag.probe.tensors import is_measurable
from diag.probe.variables import callers, variables
from diag.probe.weighed import Weighed

_LINEAR = VIEWS | frozenset(
    "SubBackward0 AddBackward0 RsubBackward1 NegBackward0 MulBackward0 DivBackward0 SplitBackward0 UnbindBackward0 "
    "SelectBackward0 SliceBackward0".split()
)
"""What takes a part of an output, or its difference from or product with numbers that are given."""
_BOUNDED = frozenset(
    "SigmoidBackward0 TanhBackward0 SoftmaxBackward0 SinBackward0 CosBackward0 NormBackward0 LinalgVectorNormBackward0 "
    "DivBackward0 ClampBackward1 HardtanhBackward0 NativeLayerNormBackward0".split()
)
"""What ends an output that cannot grow without end, as far as one can tell."""
_PICKS = ("GatherBackward0", "IndexBackward0")
_NEGATIVE = ("NllLossBackward0", "BinaryCrossEntropyWithLogitsBackward0", "BinaryCrossEntropyBackward0")
"""What makes negative log-probabilities of targets."""
_HINGES = ("ReluBackward0", "ThresholdBackward0", "SoftplusBackward0", "ClampMinBackward0")
"""What is never below 0, of a loss as a rule."""
_LOGARITHMS = ("LogSoftmaxBackward0", "LogBackward0")
_OF_DIFFERENCE = ("AbsBackward0", "CoshBackward0")
_HALF = (torch.float16, torch.bfloat16)
_HALF_OF, _SOME_OF = 0.5, 0.01
"""Of a loss, what must have no graph to be counted as most of it, and as a part."""
_MOST = 3000
"""Nodes of a graph that are looked at: an episode's log-probabilities have some each."""
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
    a ratio of probabilities has the very same ones above and below. surrogates: those in which the least of a ratio
    of probabilities times numbers and of the same ratio, cut, stands without a minus. reversed: by the name of the
    variable, those in which log-probabilities are multiplied with rewards and stand without a minus. crossed: by
    the shapes before and after, those in which outputs are spread over targets of another shape, so that each meets
    all. severed: those in which more than half of the loss has no graph; partly: those in which some of it has
    none, from least to most. underflown: those of half a precision that begin at 0, behind a number below 1 (scale,
    the last one).
    """

    def __init__(self) -> None:
        self.looked = self.enlarged = self.upturned = self.absolute = self.lowered = self.underflown = 0
        self.surrogates = self.overlapping = self.of_itself = self.of_logits = 0
        self.scale, self.smoothing = 1.0, 0.0
        self.subtracted: Counter[str] = Counter()
        self.added: Counter[str] = Counter()
        self.severed = self.partly = 0
        self.least, self.most = math.inf, -math.inf
        self.policies, self.opponents, self.weighed = Policies(), Opponents(), Weighed()
        self.reversed: Counter[str] = Counter()
        self.crossed: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()

    def see(self, loss: Tensor, outputs: Outputs) -> None:
        """A backward pass is about to begin here."""
        root = loss.grad_fn
        if root is None:
            return
        read = _read(root, outputs)
        weighted = read.weighted
        self.looked += 1
        self.crossed.update(read.crossed)
        self.subtracted.update({op for op, number in read.losses if number < 0})
        self.added.update({op for op, number in read.losses if number > 0})
        self.upturned += read.is_upturned
        self.absolute += read.is_upturned and not read.losses and not read.hinges
        if loss.dtype in _HALF and loss.is_cpu and loss.numel() == 1 and float(loss) == 0:
            scale = _scaled_by(root)
            if abs(scale) < 1:
                self.underflown, self.scale = self.underflown + 1, scale
        self.enlarged += any(number < 0 for number in read.squares)
        self.smoothing = max(self.smoothing, read.smoothing)
        self.of_logits += read.has_raw
        self.overlapping += bool(read.overlaps) and min(read.overlaps) > 0
        self._see_severed(loss)
        self.lowered += _are_lowered(weighted)
        itself = _of_itself(weighted)
        self.of_itself += itself
        self.surrogates += not itself and any(one.is_least and one.is_ratio and one.number > 0 for one in weighted)
        self._see_weighed(read)
        if read.scores:
            around = next(callers(), None)
            self.opponents.see_pass(
                read.scores, () if around is None else around.f_code.co_names + around.f_code.co_varnames
            )
        self.policies.see(read.shares, read.bonuses)
        multiplied = len(weighted) >= _FEWEST or any(one.factors is not None for one in weighted)
        caller = next(callers(), None) if multiplied and not itself else None
        name = None if caller is None else _rewarding(caller, weighted)
        if name is not None:
            self.reversed[name] += 1

    def _see_weighed(self, read: _Read) -> None:
        try:
            for node in read.weighed:
                self.weighed.see(node)
            for node in read.products_of_logs:
                self.weighed.see_product(node)
        except (RuntimeError, AttributeError):  # freed, or of another version of torch
            return

    def _see_severed(self, loss: Tensor) -> None:
        try:
            found = severed(loss)
        except (RuntimeError, AttributeError):  # freed, or of another version of torch
            return
        if found is not None and abs(found[0]) > _SOME_OF * abs(found[1]):
            self.partly += 1
            self.severed += abs(found[0]) > _HALF_OF * abs(found[1])
            self.least, self.most = min(self.least, found[0]), max(self.most, found[0])

    def told(self) -> dict[str, Any]:
        """For the coverage."""
        names = (
            "looked", "enlarged", "upturned", "absolute", "lowered", "surrogates", "of_itself", "of_logits",
            "overlapping", "underflown",
        )  # fmt: skip
        known = {name: getattr(self, name) for name in (*names, "scale", "smoothing")}
        known |= {name: dict(getattr(self, name)) for name in ("reversed", "subtracted", "added")}
        known |= self.weighed.told()
        if told := self.policies.told():
            known["policy"] = told
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


def _rewarding(frame: FrameType, weighted: list[Path]) -> str | None:
    """The variable that log-probabilities are multiplied with, and stand with a plus: where it is large they are made
    small; None where none is known, or another one tells the opposite."""
    code = frame.f_code
    names = [one for one in dict.fromkeys((*code.co_varnames, *code.co_names)) if _REWARDS.fullmatch(one)]
    signs = {}
    for name, value in zip(names, variables(frame, names), strict=True):
        numbers = _numbers(value)
        if numbers is not None:
            signs[name] = _sign(weighted, numbers)
    known = {name: sign for name, sign in signs.items() if sign}
    return next(iter(known)) if known and min(known.values()) > 0 else None


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


@dataclass
class _Read:
    """The numbers with which squares of outputs stand, the log-probabilities that are multiplied with numbers, the
    shapes of outputs that are spread, the losses and hinges with their numbers, the products of predictions and targets
    whose sum is an overlap, the numbers with which these stand, how far labels are smoothed, the numbers with which
    negative entropies stand, and how undecided policies are whose log-probabilities are weighed, outputs
    that stand as they are, losses, and products; others: whether there is more."""

    squares: list[float] = field(default_factory=list)
    weighted: list[Path] = field(default_factory=list)
    crossed: set[Any] = field(default_factory=set)
    losses: list[tuple[str, float]] = field(default_factory=list)
    hinges: list[float] = field(default_factory=list)
    products: set[Any] = field(default_factory=set)
    overlaps: list[float] = field(default_factory=list)
    absolutes: list[float] = field(default_factory=list)
    smoothing: float = 0.0
    has_raw: bool = False
    bonuses: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    scores: list[tuple[float, Any]] = field(default_factory=list)
    weighed: list[Any] = field(default_factory=list)
    products_of_logs: list[Any] = field(default_factory=list)
    others: bool = False

    @property
    def is_upturned(self) -> bool:
        """Whether nothing but losses, hinges and absolute values was found, and all with a minus."""
        numbers = [number for _, number in self.losses] + self.hinges + self.absolutes
        return bool(numbers) and not self.others and max(numbers) < 0


def _read(root: Any, outputs: Outputs) -> _Read:
    ahead, seen = [Path(root)], 0
    read = _Read()
    while ahead and seen < _MOST:
        path = ahead.pop()
        seen += 1
        if outputs.has(path.node) and path.node is not root:  # a model may put out its own loss
            read.others = True
            read.scores += [(path.number, path.node)] if path.factors is None else []
            continue
        try:
            ahead += _see(path, outputs, read)
        except (RuntimeError, AttributeError):  # freed, or changed in place since; or of another version of torch
            read.others = True
    read.others = read.others or bool(ahead)
    return read


def _see(path: Path, outputs: Outputs, read: _Read) -> list[Path]:
    """One node is read; what it is made of is yet to be."""
    squared = _square_of(path.node)
    op = loss_made_by(path.node) if path.factors is None else None
    if path.factors is None:
        read.crossed |= _spread(path.node, squared)
        if path.node.name() == "MulBackward0" and len(path.node.next_functions) == 2:
            read.products_of_logs.append(path.node)
        read.bonuses += [path.number] if is_entropy(path.node) else []
        read.smoothing = max(read.smoothing, smoothing(path.node) or 0.0)
        read.products |= set(overlaps(path.node))
        if path.node in read.products:
            read.overlaps.append(path.number)
            read.has_raw = read.has_raw or is_raw(path.node)
        if op is not None or path.node.name() == "CtcLossBackward0":
            read.weighed.append(path.node)
        if op is not None:
            read.losses.append((op, path.number))
        elif path.node.name() in (*_HINGES, "AbsBackward0"):
            (read.hinges if path.node.name() in _HINGES else read.absolutes).append(path.number)
            return []
        elif (tilted := pinball(path.node)) is not None:
            read.hinges.append(path.number * tilted[2])
            return []
    if squared is not None:
        read.others = True
        if path.factors is not None:  # of a normal density the logarithm holds minus a square
            read.weighted.append(replace(path, number=-path.number))
        elif not path.is_cut and _grows(squared, outputs):
            read.squares.append(path.number)
        return []
    if _is_log_probability(path.node):
        read.others = True
        read.weighted.append(path)
        share = entropy_share(path.node) if path.factors is not None and path.node.name() in _PICKS else None
        read.shares += [] if share is None else [share]
        return []
    if path.node.name() in _NEGATIVE:
        read.weighted.append(replace(path, number=-path.number))
        return []
    if op is not None:
        return []
    further = below(path)
    read.others = read.others or not further
    return further


def _spread(node: Any, squared: Any) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes of what is squared, taken absolute or tilted, or multiplied with numbers that are given, before and after
    it is spread over a dimension that it does not have, where these numbers do not have one of its own."""
    differs, difference = _difference_of(node, squared)
    if differs is not None:
        shapes = _shapes(differs)
        return {shapes} if shapes and difference.is_cpu and _adds_up(difference) else set()
    if squared is None and node.name() == "MulBackward0":
        given = [child is None for child, _ in node.next_functions]
        if given in ([True, False], [False, True]):
            factor, shapes = (node._saved_self if given[0] else node._saved_other), _shapes(node)
            if shapes and isinstance(factor, Tensor) and factor.numel() * len(factor) == math.prod(shapes[1]):
                return {shapes}
    return set()


def _difference_of(node: Any, squared: Any) -> tuple[Any, Any]:
    """The node of the difference of which this is the square, the absolute or the pinball loss, and the difference."""
    tilted = pinball(node)
    if tilted is not None:
        return tilted[0], tilted[1]
    child = node.next_functions[0][0] if node.name() in _OF_DIFFERENCE else squared
    return (child, node._saved_self) if child is not None and child.name() == "SubBackward0" else (None, None)


def _shapes(node: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Of the one side of a difference or product that has a graph, and of the result, where that is as many times as
    large as there are samples."""
    sides = [(child, place) for child, place in node.next_functions if child is not None]
    if len(sides) != 1:
        return None
    child, place = sides[0]
    before = tuple(int(one) for one in child._input_metadata[place].shape)
    after = tuple(int(one) for one in node._input_metadata[0].shape)
    if not before or before[0] < _FEWEST or math.prod(after) != before[0] * math.prod(before):
        return None
    return (before, after) if after[:2] == (before[0], before[0]) else None


def _adds_up(difference: Tensor) -> bool:
    """Whether D_ij = p_i - t_j, the differences of all from all."""
    corner = difference.detach()[:_FEWEST, :_FEWEST].double()
    rest = corner - corner[:1] - corner[:, :1] + corner[:1, :1]
    return bool(rest.abs().max() <= _SAME_NUMBERS * corner.abs().max())


def _square_of(node: Any) -> Any:
    """What is squared here, if anything is."""
    name = node.name()
    if name == "PowBackward0":
        return node.next_functions[0][0] if node._saved_exponent == 2 else None
    if name == "MulBackward0":
        one, other = (child for child, _ in node.next_functions)
        return one if one is not None and one is other else None
    return None


def _grows(node: Any, outputs: Outputs) -> bool:
    """Whether an output, or its difference from numbers that are given, can be as large as one likes."""
    while node is not None and not outputs.has(node):
        children = [child for child, _ in node.next_functions if child is not None]
        if node.name() not in _LINEAR or len(children) != 1:
            return False
        node = children[0]
    return node is not None and node.name() not in _BOUNDED


def _is_log_probability(node: Any) -> bool:
    """Whether of log-probabilities those of what was drawn, or of targets, are picked."""
    if node.name() not in _PICKS:
        return bool(node.name() == "LogSigmoidBackward0")
    under = through_views(node.next_functions[0][0])
    if under is None:
        return False
    children = [child.name() for child, _ in under.next_functions if child is not None]
    return under.name() in _LOGARITHMS or (under.name() == "SubBackward0" and children[-1:] == ["LogsumexpBackward0"])
