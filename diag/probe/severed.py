"""Which part of a loss has no graph: what was added to it as a number, or was detached."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from diag.probe.saved import REDUCTIONS, nll_loss

_MOST = 64
"""Terms that are looked at."""
_LOSSES: dict[str, Callable[[Any, str], Tensor]] = {
    "NllLossBackward0": nll_loss,
    "MseLossBackward0": lambda node, how: F.mse_loss(node._saved_self, node._saved_target, reduction=how),
    "BinaryCrossEntropyBackward0": lambda node, how: F.binary_cross_entropy(
        node._saved_self, node._saved_target, node._saved_weight, reduction=how
    ),
    "BinaryCrossEntropyWithLogitsBackward0": lambda node, how: F.binary_cross_entropy_with_logits(
        node._saved_self,
        node._saved_target,
        node._saved_weight,
        pos_weight=node._saved_pos_weight,
        reduction=how,
    ),
}
_SUMS = {"AddBackward0": 1.0, "SubBackward0": -1.0}
_ARRANGED = frozenset("ViewBackward0 ReshapeAliasBackward0 SqueezeBackward0 SqueezeBackward1 ToCopyBackward0".split())


def severed(loss: Tensor, given: Collection[int] = ()) -> tuple[float, float] | None:
    """What of a loss of one number has no graph, and the loss: the loss less the sum of its terms that have one. None
    where nothing was added without a graph, and where the value of a term is not known.

    given: the ids of what models are given and derivatives are taken of. A graph that leads to nothing else is none.
    """
    if loss.numel() != 1 or not loss.is_cpu or loss.is_complex() or not _is_severed(loss.grad_fn, given):
        return None
    value, whole = _value_of(loss.grad_fn, _MOST, given), float(loss.detach())
    return None if value is None or not math.isfinite(whole) else (whole - value, whole)


def _is_single(node: Any) -> bool:
    return node is not None and math.prod(node._input_metadata[0].shape) == 1


def _is_without(node: Any, given: Collection[int]) -> bool:
    """Whether this has no graph, or one that leads to nothing but what models are given."""
    if node is None or not given:
        return node is None
    ahead, seen = [node], {node}
    while ahead:
        one = ahead.pop()
        if hasattr(one, "variable") and id(one.variable) not in given:
            return False
        further = {child for child, _ in one.next_functions if child is not None} - seen
        seen |= further
        ahead += further
        if len(seen) > _MOST:
            return False
    return True


def _is_severed(root: Any, given: Collection[int]) -> bool:
    """Whether anything is added to one number, on its way, that has no graph."""
    ahead, seen = [root], 0
    while ahead and seen < _MOST:
        node = ahead.pop()
        seen += 1
        if not _is_single(node) or node.name() in _LOSSES:
            continue
        children = [child for child, _ in node.next_functions]
        if node.name() in _SUMS and any(_is_without(child, given) for child in children):
            return True
        ahead += children
    return False


def _value_of(node: Any, left: int, given: Collection[int]) -> float | None:
    """The value of what has a graph below a node of one number; None where that is not known."""
    if not left or not _is_single(node):
        return None
    name, children, left = node.name(), [child for child, _ in node.next_functions], left - 1
    if name in _LOSSES:
        how = REDUCTIONS.get(node._saved_reduction)
        return None if how is None else float(_LOSSES[name](node, how))
    if name in _SUMS:
        values = [0.0 if _is_without(child, given) else _value_of(child, left, given) for child in children]
        if len(values) != 2 or values[0] is None or values[1] is None:
            return None
        return values[0] + _SUMS[name] * values[1]
    if name == "NegBackward0":
        return _times(-1.0, _value_of(children[0], left, given))
    if name == "DivBackward0" and children[1:] == [None]:
        by = _number(node._saved_other)
        return _times(1 / by if by else None, _value_of(children[0], left, given))
    if name == "MulBackward0" and children[1:] == [None]:
        return _times(_number(node._saved_other), _value_of(children[0], left, given))
    if name == "MulBackward0" and children[:1] == [None]:
        return _times(_number(node._saved_self), _value_of(children[1], left, given))
    if name in ("MeanBackward0", "SumBackward0"):
        return _of_elements(children[0], name == "MeanBackward0")
    return _value_of(children[0], left, given) if name in _ARRANGED else None


def _of_elements(node: Any, mean: bool) -> float | None:
    """The mean or the sum of squares or absolute values."""
    name = "" if node is None else node.name()
    if name == "PowBackward0" and node._saved_exponent == 2:
        values = node._saved_self.square()
    elif name == "AbsBackward0":
        values = node._saved_self.abs()
    else:
        return None
    return float(values.mean() if mean else values.sum())


def _number(factor: Any) -> float | None:
    return float(factor) if isinstance(factor, Tensor) and factor.numel() == 1 and factor.is_cpu else None


def _times(factor: float | None, value: float | None) -> float | None:
    return None if factor is None or value is None else factor * value
