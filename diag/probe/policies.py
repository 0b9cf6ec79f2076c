"""How undecided a policy is, and what it gets for that, read off the graph of its loss."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from diag.probe.loss_graph import through_views

_PROBABILITIES = ("SoftmaxBackward0", "ExpBackward0")
_LOGARITHMS = ("LogSoftmaxBackward0", "SubBackward0", "LogBackward0")
_BOUNDS = ("ClampBackward0", "ClampBackward1", "ClampMinBackward0")
_EACH = 3
"""Passes at the start of which the first is told."""


class Policies:
    """passes: backward passes that weigh log-probabilities of actions. shares: for each, the entropy of the policy over
    the largest that there is, log(actions). bonuses: numbers with which entropies stand in the loss."""

    def __init__(self) -> None:
        self._shares: list[float] = []
        self._bonuses: list[float] = []

    def see(self, shares: list[float], bonuses: list[float]) -> None:
        """One such pass."""
        if shares:
            self._shares.append(sum(shares) / len(shares))
            self._bonuses.append(max(bonuses, key=abs, default=0.0))

    def told(self) -> dict[str, Any]:
        """For the coverage: of the first passes and of the last third."""
        if not self._shares:
            return {}
        first, last = self._shares[:_EACH], self._shares[-max(1, len(self._shares) // 3) :]
        return {
            "passes": len(self._shares),
            "first": sum(first) / len(first),
            "last": sum(last) / len(last),
            "bonus": sorted(self._bonuses)[len(self._bonuses) // 2],
        }


def entropy_share(node: Any) -> float | None:
    """Of the log-probabilities that a node picks: the mean entropy -sum p log p over log(classes)."""
    under = through_views(node.next_functions[0][0])
    logits: Tensor | None = None
    if under is not None and under.name() == "LogSoftmaxBackward0":
        logits = under._saved_result
    elif under is not None and under.name() == "SubBackward0":
        whole = under.next_functions[1][0]
        logits = whole._saved_self if whole is not None and whole.name() == "LogsumexpBackward0" else None
    if logits is None or not logits.is_cpu or not logits.ndim or logits.shape[-1] < 2:
        return None
    logarithms = logits.detach().double().log_softmax(-1)
    entropy = -(logarithms.exp() * logarithms).nan_to_num(0.0).sum(-1).mean()
    return float(entropy) / math.log(logits.shape[-1])


def is_entropy(node: Any) -> bool:
    """Whether a node multiplies probabilities with their own logarithms."""
    children = [child for child, _ in node.next_functions]
    if node.name() != "MulBackward0" or len(children) != 2 or any(one is None for one in children):
        return False
    names = []
    for one in children:
        bounded = one.next_functions[0][0] if one.name() in _BOUNDS else one
        names.append("" if bounded is None else bounded.name())
    return any(a in _PROBABILITIES and b in _LOGARITHMS for a, b in (names, names[::-1]))
