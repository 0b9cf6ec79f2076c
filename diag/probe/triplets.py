"""A triplet loss that is written out, read off its graph: a hinge of one distance minus another."""

from __future__ import annotations

from typing import Any

from torch import Tensor

_HINGES = ("ReluBackward0", "ClampMinBackward0", "SoftplusBackward0")
_DISTANCES = ("NormBackward1", "LinalgVectorNormBackward0", "SqrtBackward0")
"""What makes distances, and keeps them."""
_SUMS, _SQUARE = ("SumBackward1", "MeanBackward1"), "PowBackward0"
_OF_ONE = {"AddBackward1": 1, "SubBackward1": 1, "NegBackward0": -1, "RsubBackward1": -1}
_OF_TWO = {"AddBackward0": 1, "SubBackward0": -1}
_MOST = 12
"""Nodes between the hinge and the distances."""


def triplets(node: Any) -> tuple[Tensor, Tensor] | None:
    """The distances to positives and to negatives of which a node is the hinge, both of one dimension, a number for
    each triplet; None for any other.

    Source: Schroff et al. 2015, 'FaceNet', equation 2
    """
    if not _is_hinge(node) or len(node._input_metadata[0].shape) != 1:
        return None
    ahead, found = [(node.next_functions[0][0], 1)], []
    for _ in range(_MOST):
        if not ahead:
            break
        one, sign = ahead.pop()
        if one is None:
            continue
        children = [child for child, _ in one.next_functions]
        if one.name() in _OF_ONE:
            ahead.append((children[0], sign * _OF_ONE[one.name()]))
        elif one.name() in _OF_TWO:
            ahead += [(children[0], sign), (children[1], sign * _OF_TWO[one.name()])]
        else:
            found.append((sign, _distance(one)))
    signs = sorted(sign for sign, _ in found)
    if ahead or signs != [-1, 1] or any(one is None for _, one in found):
        return None
    (_, negative), (_, positive) = sorted(found, key=lambda one: one[0])
    return (positive, negative) if positive.shape == negative.shape and positive.ndim == 1 else None


def _is_hinge(node: Any) -> bool:
    return node.name() in _HINGES or (node.name() == "ClampBackward1" and node._saved_max is None)


def _distance(node: Any) -> Any:
    """What a node has put out, if that is a distance or the square of one."""
    if node.name() in _DISTANCES:
        return node._saved_result
    below = node.next_functions[0][0]
    if node.name() in _SUMS and below is not None and below.name() == _SQUARE and below._saved_exponent == 2:
        square = below._saved_self.detach() ** 2
        return square.sum(-1) if square.ndim == 2 else None
    return None
