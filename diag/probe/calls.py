"""How functions and attention are called, where that says more than what they return."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from diag.probe.pairing import argument

_OVER_CLASSES = ("softmax", "log_softmax")
TELLING = (*_OVER_CLASSES, "attention")
"""Operations whose calls say more than what they return."""
_TABLES = 3
"""Tables of attention at a place that are looked at."""
_SELF, _OTHER = ("query", "key"), ("attn_mask", "is_causal")

LOW = -1e4
"""What is added to attention scores that are to count for nothing."""

VIEWS = frozenset({"view", "reshape"})
"""What keeps the order of the numbers, whatever their shape."""

Place = tuple[int, str, str]
"""A model, the path of a module in it, and a suffix: what makes a site."""


class Calls:
    """viewed: by model and path, shapes before and after a view that has the same sizes in another order, and how
    often. over_first: softmaxes that run over the first dimension of several; over_one: softmaxes, and whether
    each call runs over a single entry. ahead: attention, and whether in each call a position may look at those that
    follow it."""

    def __init__(self) -> None:
        self.viewed: dict[tuple[int, str], tuple[list[int], list[int], int]] = {}
        self.over_first: set[Place] = set()
        self.over_one: dict[Place, bool] = {}
        self.ahead: dict[Place, bool] = {}
        self._tables: Counter[Place] = Counter()

    def see(self, place: Place, op: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """A torch function was called within a watched module."""
        if op in _OVER_CLASSES:
            given, dim = args[0] if args else None, argument(args, kwargs, 1, "dim")
            if isinstance(given, Tensor) and given.ndim > 1 and isinstance(dim, int):
                if dim in (0, -given.ndim):
                    self.over_first.add(place)
                self.over_one[place] = given.shape[dim] == 1 and self.over_one.get(place, True)
                if op == "softmax":
                    self.see_softmax(place, dim, output)
        elif op == "attention" and len(args) > 3 and isinstance(args[3], int):  # F.multi_head_attention_forward
            query, key = args[:2]
            if isinstance(query, Tensor) and isinstance(key, Tensor) and query.ndim == 3:
                mask, causal = kwargs.get("attn_mask"), kwargs.get("is_causal")
                self._see_attention(place, query.shape[0], key.shape[0], mask, causal, kept=False)
        elif op == "attention":
            query, key = (argument(args, kwargs, index, name) for index, name in enumerate(_SELF))
            if isinstance(query, Tensor) and isinstance(key, Tensor) and query.ndim > 1 and key.ndim > 1:
                mask, causal = argument(args, kwargs, 3, "attn_mask"), argument(args, kwargs, 5, "is_causal")
                self._see_attention(place, query.shape[-2], key.shape[-2], mask, causal, kept=True)

    def see_softmax(self, place: Place, dim: Any, output: Any) -> None:
        """What a softmax puts out: of a table of positions by positions, each row of which adds up to 1, whether the
        first position looks at the last. Of what lies on a device nothing is known."""
        if not isinstance(output, Tensor) or output.ndim < 3 or not output.is_cpu or dim not in (-1, output.ndim - 1):
            return
        if output.shape[-1] == output.shape[-2] > 1 and self._tables[place] < _TABLES:
            self._tables[place] += 1
            looks = bool((output[..., 0, -1] != 0).any())
            self.ahead[place] = looks and self.ahead.get(place, True)

    def see_view(self, root: int, path: str, args: tuple[Any, ...], output: Any) -> None:
        """Numbers of a watched module are given another shape."""
        given = args[0] if args else None
        if (
            not isinstance(given, Tensor)
            or not isinstance(output, Tensor)
            or given.ndim != output.ndim
            or given.ndim < 3
        ):
            return
        before, after = list(given.shape), list(output.shape)
        if [one for one in before if one != 1] != [one for one in after if one != 1] and sorted(before) == sorted(
            after
        ):
            count = self.viewed[root, path][2] if (root, path) in self.viewed else 0
            self.viewed[root, path] = before, after, count + 1

    def see_module(self, place: Place, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A watched module with what it was given: attention as torch has it."""
        if not isinstance(module, nn.MultiheadAttention):
            return
        query, key = (argument(args, kwargs, index, name) for index, name in enumerate(_SELF))
        if isinstance(query, Tensor) and isinstance(key, Tensor) and query.ndim > 1:
            time = 1 if query.ndim == 3 and module.batch_first else 0
            mask, causal = (argument(args, kwargs, index, name) for index, name in zip((5, 7), _OTHER, strict=True))
            self._see_attention(place, query.shape[time], key.shape[time], mask, causal, kept=False)

    def _see_attention(self, place: Place, queries: int, keys: int, mask: Any, causal: Any, *, kept: bool) -> None:
        """Of one sequence to itself, as far as its length tells. kept: whether a mask is true where one may look."""
        if queries != keys or queries < 2:
            return
        of_keys = isinstance(mask, Tensor) and mask.ndim > 1 and mask.shape[-2] == 1  # the same for every position
        looks = not causal and (mask is None or of_keys or _opens_ahead(mask, kept))
        self.ahead[place] = looks and self.ahead.get(place, True)


def _opens_ahead(mask: Any, kept: bool) -> bool:
    """Whether the first position may look at the last one; of what lies on a device nothing is known."""
    if not isinstance(mask, Tensor) or not mask.is_cpu or mask.ndim < 2 or mask.shape[-1] != mask.shape[-2]:
        return False
    corner = mask.reshape(-1, *mask.shape[-2:])[0, 0, -1]
    return bool(corner) == kept if mask.dtype is torch.bool else float(corner) > LOW
