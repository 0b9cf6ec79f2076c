"""Pairs of samples whose distance a loss makes smaller or larger: whether it is those alike that are drawn together."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from diag.probe.tensors import is_measurable

_FEWEST, _MOST, _SEEN = 8, 4096, 256
"""Pairs of a batch, from and to; so many of them, the first ones, are looked at."""
_EACH, _FEATURES = 3, 1024
"""Pairs that are drawn together, and pushed apart, at the least; numbers of a sample that are compared."""
_OPPOSITE = 1e-3
"""Of the largest gradient: how far those of the two halves of a pair are from being opposite."""


class Pairs:
    """Of models that are given two batches and put out two tables of features, in one call or in two.

    A loss of the distances between them has opposite gradients for both; its sign along their difference says whether a
    pair is drawn together. passes: those in which some were and others were not. z: the sum over these passes of the
    standardized sum of the inputs' distances of pairs drawn together, among all ways to choose as many.
    """

    def __init__(self) -> None:
        self.passes, self.z = 0, 0.0
        self._last: tuple[int, weakref.ref[Tensor], weakref.ref[Tensor]] | None = None
        self._calls = 0

    def clear(self) -> None:
        """The step has ended."""
        self._last, self._calls = None, 0

    def see(self, root: int, args: Sequence[Any], output: Any) -> None:
        """A model returns from a pass of training."""
        given = [one for one in args if _is_batch(one)]
        made = [one for one in (output if isinstance(output, (tuple, list)) else [output]) if _is_table(one)]
        if len(given) == len(made) == 2:
            self._pair(given, made)
        elif len(given) == len(made) == 1:
            self._calls += 1
            last, self._last = self._last, (root, weakref.ref(given[0]), weakref.ref(made[0]))
            if last is not None and last[0] == root and self._calls == 2:
                before = last[1](), last[2]()  # whoever waits for the second half holds the first
                if before[0] is not None and before[1] is not None:
                    self._pair([before[0], given[0]], [before[1], made[0]])

    def _pair(self, given: list[Tensor], made: list[Tensor]) -> None:
        """Wait for the gradients of both halves."""
        count = len(given[0])
        if given[0].shape != given[1].shape or made[0].shape != made[1].shape or len(made[0]) != count:
            return
        with torch.no_grad():
            one, other = (half.detach()[:_SEEN].flatten(1)[:, :_FEATURES].double() for half in given)
            apart = (one - other).square().mean(1)
            between = (made[0] - made[1]).detach()[:_SEEN].double()
        gradients: dict[int, Tensor] = {}

        def seer(half: int) -> Callable[[Tensor], None]:
            def see(gradient: Tensor) -> None:
                gradients[half] = gradient.detach()[:_SEEN].double()
                if len(gradients) == 2:
                    self._judge(apart, between, gradients.pop(0), gradients.pop(1))

            return see

        for half in (0, 1):
            made[half].register_hook(seer(half))

    def _judge(self, apart: Tensor, between: Tensor, one: Tensor, other: Tensor) -> None:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            largest = float(one.abs().max())
            if not (math.isfinite(largest) and largest > 0) or float((one + other).abs().max()) > _OPPOSITE * largest:
                return
            pull = (one * between).sum(1)
            asked = pull != 0
            drawn, distances = pull[asked] > 0, apart[asked]
            count, chosen = len(drawn), int(drawn.sum())
            deviations = distances - distances.mean()
            spread = float(deviations.square().sum())
            if min(chosen, count - chosen) < _EACH or not spread > 0:
                return
            variance = chosen * (count - chosen) / (count * (count - 1)) * spread
            self.passes += 1
            self.z += float(deviations[drawn].sum()) / math.sqrt(variance)

    def told(self) -> dict[str, Any] | None:
        """For the coverage; None where there were none."""
        return {"passes": self.passes, "z": self.z / math.sqrt(self.passes)} if self.passes else None


def _is_batch(value: Any) -> bool:
    plain = isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1 and value.is_cpu
    return plain and not value.requires_grad and _FEWEST <= len(value) <= _MOST and is_measurable(value)


def _is_table(value: Any) -> bool:
    plain = type(value) is Tensor and value.is_floating_point() and value.ndim == 2
    return plain and 1 < value.shape[1] <= _FEATURES and value.is_cpu and value.requires_grad and is_measurable(value)
