"""What a loss is made of, read off the graph that backward is about to walk."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from diag.probe.loss_graph import VIEWS, Outputs, loss_made_by, pinball, through_views
from diag.probe.overlap import is_raw, overlaps
from diag.probe.paths import Path, below, square_of
from diag.probe.policies import entropy_share, is_entropy
from diag.probe.smoothing import smoothing
from diag.trace.schema import BINARY

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
_ONE_SIDED = 0.2
"""How far from even the only target of a batch is that pushes all scores one way."""
_MOST = 3000
"""Nodes of a graph that are looked at: an episode's log-probabilities have some each."""
_FEWEST, _SAME_NUMBERS = 5, 1e-4
"""Samples that are several; of the largest, what numbers differ by that are the same."""


@dataclass
class Read:
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


def read(root: Any, outputs: Outputs) -> Read:
    """Everything that is told of a loss, from its end down to the models' outputs."""
    ahead, seen = [Path(root)], 0
    found = Read()
    while ahead and seen < _MOST:
        path = ahead.pop()
        seen += 1
        if outputs.has(path.node) and path.node is not root:  # a model may put out its own loss
            found.others = True
            found.scores += [(path.number, path.node)] if path.factors is None else []
            continue
        try:
            ahead += _see(path, outputs, found)
        except (RuntimeError, AttributeError):  # freed, or changed in place since; or of another version of torch
            found.others = True
    found.others = found.others or bool(ahead)
    return found


def _see(path: Path, outputs: Outputs, read: Read) -> list[Path]:
    """One node is read; what it is made of is yet to be."""
    squared = square_of(path.node)
    op = loss_made_by(path.node) if path.factors is None else None
    if path.factors is None:
        read.crossed |= _spread(path.node, squared)
        product = _summed_up(path.node)
        read.products_of_logs += [] if product is None else [product]
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
            read.scores += _pushed(path, op, outputs)
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


def _pushed(path: Path, op: str, outputs: Outputs) -> list[tuple[float, Any]]:
    """Scores of which all are to be 1, or near it where labels are smoothed, or all 0, as those of a critic that tells
    what is real: the loss falls where they rise, or where they fall."""
    if op not in BINARY:
        return []
    target, below = path.node._saved_target, through_views(path.node.next_functions[0][0], outputs)
    if below is None or not outputs.has(below) or not target.is_cpu or not target.numel():
        return []
    first = float(target.reshape(-1)[0])
    if abs(first - 0.5) < _ONE_SIDED or not bool((target == first).all()):
        return []
    return [(path.number * math.copysign(1.0, 0.5 - first), below)]


def _summed_up(node: Any) -> Any:
    """The product of which cross_entropy takes the negative sum, over samples and classes, where its targets are shares
    of the classes: what is written out divides by each sample's own number of positives, as a contrast does."""
    for name in ("NegBackward0", "SumBackward0"):
        if node is None or node.name() != name:
            return None
        node = node.next_functions[0][0]
    product = node is not None and node.name() == "MulBackward0" and len(node.next_functions) == 2
    return node if product else None


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
