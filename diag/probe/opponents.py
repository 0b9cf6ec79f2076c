"""Networks that judge what others make, as critics do: with which sign their scores stand in the losses."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from diag.probe.tensors import find_tensors, is_measurable

OWN, COPY, MADE = "own", "copy", "made"
"""What a network is given: data; what another network made, without its graph; and with it."""
_KEPT, _ELEMENTS = 8, 8
"""Outputs that are remembered, and of each so many elements, by which it is known again."""
REWARDS = re.compile(r"(?:\w+_)?(?:r|rew|rews|rewards?|returns?)(?:_\w+)?")
"""Names of what is to be large."""


class Opponents:
    """judged: by the number of a network and the sign with which its scores of what is made without a graph stand, in
    how many passes they stand beside its scores of data, which have the other one. fooled: the same of its scores of
    what is made with a graph. rewarded: of these with a plus, those in which a variable is named as a reward is.
    """

    def __init__(self) -> None:
        self._made: deque[tuple[int, Tensor]] = deque(maxlen=_KEPT)
        self._scores: dict[int, tuple[int, str]] = {}
        self._origin = OWN
        self._open: dict[int, dict[str, set[int]]] = {}
        self._told: set[int] = set()
        self.judged: Counter[tuple[int, int]] = Counter()
        self.fooled: Counter[tuple[int, int]] = Counter()
        self.rewarded: Counter[int] = Counter()

    def clear(self) -> None:
        """Forget the step that has ended."""
        self._made.clear()
        self._scores.clear()
        self._open.clear()
        self._told.clear()

    def see_call(self, root: int, args: Iterable[Any]) -> None:
        """A network is about to be called with this."""
        given = next((one for one in args if isinstance(one, Tensor)), None)
        self._origin = OWN
        if given is None or not given.is_floating_point():
            return
        if given.grad_fn is not None:
            self._origin = MADE
            return
        own = _sample(given)
        if own is not None and any(other != root and _is_same(one, own) for other, one in self._made):
            self._origin = COPY

    def see_output(self, root: int, value: Any, trained: Sequence[Tensor]) -> None:
        """It has returned this. trained: what of it has a graph, by which scores are known again in a loss."""
        for _, one in find_tensors(value):
            sample = _sample(one)
            if sample is not None:
                self._made.append((root, sample))
            break
        for one in trained:
            if one.grad_fn is not None and one.ndim:  # what is a single number is a loss of its own, and no score
                self._scores[one.grad_fn._sequence_nr()] = root, self._origin

    def see_pass(self, scores: Sequence[tuple[float, Any]], names: Iterable[str]) -> None:
        """A backward pass begins: the numbers with which outputs stand in its loss, and the nodes that made them; the
        names of variables around it."""
        signs: dict[int, dict[str, set[int]]] = {}
        for number, node in scores:
            known = self._scores.get(node._sequence_nr())
            if known is not None:
                signs.setdefault(known[0], {}).setdefault(known[1], set()).add(1 if number > 0 else -1)
        for root, by_origin in signs.items():
            if MADE not in by_origin and root not in self._told:  # data and what is made may have passes of their own
                before = self._open.setdefault(root, {})
                for origin, own in by_origin.items():
                    before.setdefault(origin, set()).update(own)
                by_origin = before
            if set(by_origin) == {OWN, COPY} and by_origin[OWN] | by_origin[COPY] == {1, -1}:
                if len(by_origin[OWN]) == len(by_origin[COPY]) == 1:
                    self.judged[root, min(by_origin[COPY])] += 1
                    self._told.add(root)
            elif set(by_origin) == {MADE} and len(by_origin[MADE]) == 1:
                sign = min(by_origin[MADE])
                self.fooled[root, sign] += 1
                self.rewarded[root] += sign > 0 and any(REWARDS.fullmatch(one) for one in names)

    def told(self) -> list[dict[str, int]]:
        """For the coverage: by the number of a network, in how many passes each sign was seen."""
        roots = sorted({root for root, _ in (*self.judged, *self.fooled)})
        return [
            {
                "root": root,
                "judged_up": self.judged[root, -1],
                "judged_down": self.judged[root, 1],
                "fooled_up": self.fooled[root, -1],
                "fooled_down": self.fooled[root, 1],
                "rewarded_down": self.rewarded[root],
            }
            for root in roots
        ]


def _sample(tensor: Tensor) -> Tensor | None:
    """Some elements of what lies on the host; to look elsewhere would wait."""
    if not (tensor.is_cpu and type(tensor) is Tensor and tensor.is_floating_point() and is_measurable(tensor)):
        return None
    if tensor.numel() < _ELEMENTS:
        return None
    with torch.no_grad():
        return tensor.detach().reshape(-1)[:_ELEMENTS].clone()


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)
