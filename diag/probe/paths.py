"""Paths from a loss down its graph: with which number, and which factors, what lies there stands in the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from diag.probe.loss_graph import VIEWS

_SAME = VIEWS | frozenset(
    "MeanBackward0 MeanBackward1 SumBackward0 SumBackward1 StackBackward0 CatBackward0 AddBackward0 SelectBackward0 "
    "SliceBackward0 WhereBackward0 LogsumexpBackward0 IndexBackward0 IndexSelectBackward0 MaskedSelectBackward0".split()
)
"""What passes a sign on to all that it is made of."""
CUTS = ("MinimumBackward0", "ClampBackward1")
"""What passes it on as far as a bound."""
LARGE = 4096
"""Elements of a factor beyond which its signs are not looked at."""


@dataclass(frozen=True)
class Path:
    """To one node: the number, with its sign, and the factors that it is multiplied with on its way to the loss; there
    it may be cut, be the least of two, and be a ratio of probabilities."""

    node: Any
    number: float = 1.0
    factors: Tensor | None = None
    is_cut: bool = False
    is_least: bool = False
    is_ratio: bool = False


def below(path: Path) -> list[Path]:
    """What a node is made of, with their signs; nothing where they are not known."""
    node = path.node
    name, children = node.name(), [child for child, _ in node.next_functions]
    if name in _SAME or name in CUTS:
        cut = path.is_cut or name in CUTS
        least = path.is_least or name == CUTS[0]
        return [replace(path, node=one, is_cut=cut, is_least=least) for one in children if one is not None]
    if name in ("NegBackward0", "RsubBackward1"):
        return [replace(path, node=children[0], number=-path.number)]
    if name == "SubBackward0":
        signed = zip(children, (path.number, -path.number), strict=True)
        return [replace(path, node=one, number=number) for one, number in signed if one is not None]
    if name == "ExpBackward0":  # as a ratio of probabilities is; a square in it has an end
        return [replace(path, node=children[0], is_ratio=True)] if path.factors is not None else []
    if name in ("MulBackward1", "DivBackward1") and isinstance(node._saved_other, (int, float)) and node._saved_other:
        by = float(node._saved_other) if name == "MulBackward1" else 1 / float(node._saved_other)
        return [replace(path, node=children[0], number=path.number * by)]
    if name in ("MulBackward0", "DivBackward0"):
        return _of_product(path, children, name == "DivBackward0")
    return []


def _of_product(path: Path, children: list[Any], divided: bool) -> list[Path]:
    found = []
    first, second = children if len(children) == 2 else (children[0], None)
    if first is not None:
        found.append(_multiplied(path, first, path.node._saved_other, second is None, divided))
    if second is not None and not divided:
        found.append(_multiplied(path, second, path.node._saved_self, first is None, False))
    return [one for one in found if one is not None]


def _multiplied(path: Path, child: Any, factor: Any, given: bool, divided: bool) -> Path | None:
    """The path on to one side of a product. given: whether the other side is no function of the model."""
    if not isinstance(factor, Tensor) or not factor.is_cpu or factor.is_complex() or factor.numel() > LARGE:
        return None
    if factor.numel() == 1:
        number = float(factor)
        if not math.isfinite(number) or number == 0:
            return None
        return replace(path, node=child, number=path.number * (1 / number if divided else number))
    if bool((factor >= 0).all()) and (divided or not given):
        return replace(path, node=child)
    if given and not divided:
        both = factor.detach() if path.factors is None else _together(path.factors, factor.detach())
        return None if both is None else replace(path, node=child, factors=both)
    return None


def _together(one: Tensor, other: Tensor) -> Tensor | None:
    """What two factors, such as a reward and a mask, come to; None where they are no numbers of the same things."""
    sizes = zip(reversed(one.shape), reversed(other.shape), strict=False)
    alike = all(mine == theirs or 1 in (mine, theirs) for mine, theirs in sizes)
    return one * other if alike and max(one.numel(), other.numel()) <= LARGE else None


def square_of(node: Any) -> Any:
    """What is squared here, if anything is."""
    name = node.name()
    if name == "PowBackward0":
        return node.next_functions[0][0] if node._saved_exponent == 2 else None
    if name == "MulBackward0":
        one, other = (child for child, _ in node.next_functions)
        return one if one is not None and one is other else None
    return None
