"""The overlap of predictions and targets, which is to be made large: 2 |p t| / (|p| + |t|) of Dice, and its like."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from diag.probe.paths import square_of

_SUMS = ("SumBackward0", "SumBackward1", "MeanBackward0", "MeanBackward1")
_ON = frozenset(
    "AddBackward0 MulBackward0 DivBackward0 SubBackward0 RsubBackward1 ViewBackward0 UnsafeViewBackward0 "
    "SelectBackward0 SliceBackward0 ToCopyBackward0 SqueezeBackward1 SqueezeBackward0 ClampMinBackward0 "
    "ClampBackward1".split()
)
"""What numbers are made of sums with."""
_PROBABILITIES = ("SigmoidBackward0", "SoftmaxBackward0", "ExpBackward0")
_RAW = ("AddmmBackward0", "ConvolutionBackward0", "MmBackward0")
"""What a last layer puts out, of any sign and size."""
_VIEWS = frozenset(
    "ViewBackward0 UnsafeViewBackward0 ReshapeAliasBackward0 SelectBackward0 SliceBackward0 SqueezeBackward0 "
    "SqueezeBackward1 UnsqueezeBackward0 CloneBackward0 PermuteBackward0 TransposeBackward0 ToCopyBackward0 "
    "IndexBackward0 SplitBackward0 UnbindBackward0 ClampBackward1".split()
)
_MOST = 40
"""Nodes that are looked at."""


def overlaps(node: Any) -> list[Any]:
    """The products of predictions and targets of which a node divides the sum by a sum of the same predictions, and
    more; none where it does not.

    The predictions are what a sigmoid or softmax gave; the targets are given, and of the same shape.

    Source: Milletari et al. 2016, 'V-Net', section 3; Dice 1945
    """
    if node.name() != "DivBackward0" or len(node.next_functions) != 2:
        return []
    above, below = (child for child, _ in node.next_functions)
    products = [one for one in _summed(above) if _is_met(one)] if above is not None and below is not None else []
    predicted = {_source(child) for one in products for child, _ in one.next_functions if child is not None}
    if not predicted or any(one is None or one.name() not in (*_PROBABILITIES, *_RAW) for one in predicted):
        return []
    beside = _summed(below)
    alone = {_source(square_of(one) or one) for one in beside}
    return products if predicted <= alone else []


def is_raw(product: Any) -> bool:
    """Whether the predictions of such a product are no probabilities, but what a layer puts out."""
    return any(_source(child).name() in _RAW for child, _ in product.next_functions if child is not None)


def _summed(node: Any) -> list[Any]:
    """What is summed up in what a node is made of."""
    ahead, found, seen = [node], [], 0
    while ahead and seen < _MOST:
        one = ahead.pop()
        seen += 1
        children = [child for child, _ in one.next_functions if child is not None]
        if one.name() in _SUMS:
            child = children[0]
            while child.name() in _SUMS:
                child = child.next_functions[0][0]
            found.append(child)
        elif one.name() in _ON:
            ahead += children
    return found


def _is_met(node: Any) -> bool:
    """Whether something is multiplied with numbers that are given, one for each of its own."""
    if node.name() != "MulBackward0" or len(node.next_functions) != 2:
        return False
    given = [child is None for child, _ in node.next_functions]
    if given not in ([True, False], [False, True]):
        return False
    factor = node._saved_self if given[0] else node._saved_other
    whole = tuple(int(size) for size in node._input_metadata[0].shape)
    return isinstance(factor, Tensor) and factor.numel() > 1 and tuple(factor.shape) == whole


def _source(node: Any) -> Any:
    """What made the numbers that views have arranged anew."""
    while node is not None and node.name() in _VIEWS:
        node = node.next_functions[0][0]
    return node
