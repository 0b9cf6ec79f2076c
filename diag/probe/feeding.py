"""How a loss's prediction came to be, by the graph right before it: squashed already, or reshaped across classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from diag.probe.calls import Place
from diag.probe.loss_graph import odd_axis, through_views
from diag.trace.schema import INDEXED

_SQUASHES = {"SigmoidBackward0": "sigmoid", "SoftmaxBackward0": "softmax"}
_CLAMPS = {"ClampBackward1": ("min", "max"), "HardtanhBackward0": ("min_val", "max_val")}
"""What cuts, and what its bounds are called."""
_OF_LOGITS = ("cross_entropy", "binary_cross_entropy_with_logits")
_PICKS = ("GatherBackward0", "IndexBackward0")
_AVERAGES = ("MeanBackward0", "MeanBackward1", "SumBackward0", "SumBackward1", "SqueezeBackward0", "SqueezeBackward1")
_SCALINGS = ("DivBackward0", "MulBackward0")
_FEW = 6
"""Nodes between what is differentiated and what picks the targets' log-probabilities."""
_RESHAPES = ("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0")


class Feeding:
    """odd: of losses whose log-probabilities are none over the classes, the dimension they add up over, and the shape.
    squashed: losses of logits that are given what a function has squashed. scrambled: losses of classes whose
    prediction was reshaped so that the numbers of one class stand among those of others: shape before and after.
    scaled: losses of logits, and the number that these were multiplied with last; clamped: those that were cut, and
    between which numbers.
    minimized: how often the mean log-probability of targets was differentiated as it is, without a minus.
    """

    def __init__(self) -> None:
        self.minimized = 0
        self.odd: dict[Place, tuple[int, list[int]]] = {}
        self.squashed: dict[Place, str] = {}
        self.scrambled: dict[Place, tuple[list[int], list[int]]] = {}
        self.scaled: dict[Place, float] = {}
        self.clamped: dict[Place, list[float]] = {}

    def see(self, place: Place, op: str, node: Any, shape: tuple[int, ...]) -> None:
        """A loss is computed. node: of the graph, what made its prediction, which has this shape."""
        name = "" if node is None else node.name()
        if op in _OF_LOGITS:
            behind = through_views(node)
            if behind is not None and behind.name() in _SQUASHES:
                self.squashed[place] = _SQUASHES[behind.name()]
            self.scaled[place] = _scaled_by(node)
            if behind is not None and behind.name() in _CLAMPS:
                low, high = (getattr(behind, f"_saved_{name}") for name in _CLAMPS[behind.name()])
                if isinstance(low, (int, float)) and isinstance(high, (int, float)):
                    self.clamped[place] = [float(low), float(high)]
        if op == "nll_loss" and (odd := odd_axis(node)) is not None:
            self.odd[place] = odd
        if op in INDEXED and name in _RESHAPES:
            before = tuple(int(one) for one in node._saved_self_sym_sizes)
            if _is_scrambled(before, tuple(shape)):
                self.scrambled[place] = list(before), list(shape)

    def see_root(self, node: Any) -> None:
        """Of the graph, what made the number that is differentiated."""
        for _ in range(_FEW):
            name = "" if node is None else node.name()
            if name in _PICKS:
                below = node.next_functions[0][0]
                self.minimized += below is not None and below.name() == "LogSoftmaxBackward0"
                return
            if name not in _AVERAGES and not (_factor(node) or 0.0) > 0:  # as of passes whose gradients add up
                return
            node = node.next_functions[0][0]


def _scaled_by(node: Any) -> float:
    """The product of the numbers that something was multiplied with, or divided by, last."""
    product = 1.0
    for _ in range(_FEW):
        node = through_views(node)
        factor = _factor(node)
        if not factor:
            break
        product *= 1 / factor if node.name() == "DivBackward0" else factor
        node = node.next_functions[0][0]
    return product


def _factor(node: Any) -> float | None:
    """The number of a product or quotient with one, on the host; None of anything else."""
    if node is None or node.name() not in _SCALINGS or len(node.next_functions) != 2:
        return None
    factor = node._saved_other if node.next_functions[1][0] is None else None
    return float(factor) if isinstance(factor, Tensor) and factor.is_cpu and factor.numel() == 1 else None


def _is_scrambled(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether classes, which were in the second dimension, are read off the last one; or the other way."""
    if len(before) < 3 or before[1] == before[-1]:
        return False
    if len(after) == 2:
        return after[1] == before[1] and after[0] != before[0]  # or there is one place alone
    if len(after) == len(before) + 1 and after[2] == 1:  # as cross_entropy hands a sequence on
        after = after[:2] + after[3:]
    swapped = (before[0], before[-1], *before[1:-1])
    return len(after) == len(before) and after != before and after in (swapped, (before[0], *before[2:], before[1]))
