"""What a loss is told of its classes: one that it is to ignore, and how much more positive samples count."""

from __future__ import annotations

from typing import Any

from torch import Tensor

_LARGE = 2**22
"""Targets beyond which none are counted."""


class Weighed:
    """ignored: the label that a cross-entropy of single predictions ignores, in how many passes, the share that has it,
    and the predictions of a pass. pos_weight: of a binary cross-entropy, what positive samples count, and how much more
    that is than what evens them out with the others, (1 - p) / p with a share of p; the median over passes.
    """

    def __init__(self) -> None:
        self._ignored: dict[int, list[float]] = {}
        self._count = 0
        self._weights: list[tuple[float, float]] = []

    def see(self, node: Any) -> None:
        """A loss, in the graph of what is differentiated."""
        if node.name() == "NllLossBackward0":
            self._see_ignored(int(node._saved_ignore_index), node._saved_target)
        elif node.name() == "BinaryCrossEntropyWithLogitsBackward0" and node._saved_pos_weight is not None:
            self._see_weight(node._saved_pos_weight, node._saved_target)

    def _see_ignored(self, label: int, target: Tensor) -> None:
        if label >= 2**63 or not target.is_cpu or not 0 < target.numel() <= _LARGE:  # as a negative one is shown
            return
        self._count = target.numel()
        self._ignored.setdefault(label, []).append(float((target == label).float().mean()))

    def _see_weight(self, weight: Tensor, target: Tensor) -> None:
        if not (weight.is_cpu and target.is_cpu and weight.numel() == 1 and 0 < target.numel() <= _LARGE):
            return
        share = float(target.float().mean())
        if 0 < share < 1:
            self._weights.append((float(weight) * share / (1 - share), float(weight)))

    def told(self) -> dict[str, Any]:
        """For the coverage."""
        known: dict[str, Any] = {}
        for label, shares in self._ignored.items():
            known["ignored"] = {
                "label": label,
                "passes": len(shares),
                "share": sum(shares) / len(shares),
                "predictions": self._count,
            }
        if self._weights:
            excess, weight = sorted(self._weights)[len(self._weights) // 2]
            known["pos_weight"] = {"weight": weight, "excess": excess, "passes": len(self._weights)}
        return known
