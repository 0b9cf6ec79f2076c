"""What a loss is told of its classes: one that it is to ignore, and how much more positive samples count."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from diag.probe.saved import signed

_LARGE = 2**22
"""Targets beyond which none are counted."""


class Weighed:
    """ignored: the label that a cross-entropy of single predictions ignores, in how many passes, the share that has it,
    and the predictions of a pass. pos_weight: of a binary cross-entropy, what positive samples count, and how much more
    that is than what evens them out with the others, (1 - p) / p with a share of p; the median over passes.
    class_weights: what classes count, and how often each occurs. read: the largest share of its time steps that CTC is
    told to read. last: of the label that most batches end with, as sequences do with padding, in how many passes, the
    share that has it, unless it is ignored. several: of targets that are shares of classes, of how many samples
    several are 1.
    """

    def __init__(self) -> None:
        self._ignored: dict[int, list[float]] = {}
        self._count = 0
        self._weights: list[tuple[float, float]] = []
        self._counts: Tensor | None = None
        self._by_class: Tensor | None = None
        self._read: list[float] = []
        self._several: list[float] = []
        self._last: dict[int, list[float]] = {}

    def see(self, node: Any) -> None:
        """A loss, in the graph of what is differentiated."""
        if node.name() == "NllLossBackward0":
            self._see_ignored(signed(node._saved_ignore_index), node._saved_target)
            self._see_classes(node._saved_weight, node._saved_target)
            self._see_last(signed(node._saved_ignore_index), node._saved_target)
        elif node.name() == "CtcLossBackward0":
            self._read.append(max(node._saved_input_lengths, default=0) / max(1, len(node._saved_log_probs)))
        elif node.name() == "BinaryCrossEntropyWithLogitsBackward0" and node._saved_pos_weight is not None:
            self._see_weight(node._saved_pos_weight, node._saved_target)

    def _see_ignored(self, label: int, target: Tensor) -> None:
        if label < 0 or not target.is_cpu or not 0 < target.numel() <= _LARGE:
            return
        self._count = target.numel()
        self._ignored.setdefault(label, []).append(float((target == label).float().mean()))

    def _see_last(self, ignored: int, target: Tensor) -> None:
        if not target.is_cpu or not 1 < target.numel() <= _LARGE:
            return
        label = int(target.reshape(-1)[-1])
        if label != ignored and label >= 0:
            self._last.setdefault(label, []).append(float((target == label).float().mean()))

    def see_product(self, node: Any) -> None:
        """Of a cross-entropy whose targets are given as shares of the classes, or any other: whether these name several
        classes, each whole, for a sample."""
        log_softmax, given = node.next_functions[0][0], node._saved_other
        if log_softmax is None or log_softmax.name() != "LogSoftmaxBackward0" or node.next_functions[1][0] is not None:
            return
        if not isinstance(given, Tensor) or not given.is_cpu or given.ndim != 2 or given.numel() > _LARGE:
            return
        if tuple(given.shape) == tuple(log_softmax._saved_result.shape):
            whole = bool(((given == 0) | (given == 1)).all())
            self._several.append(float((given.sum(1) > 1).float().mean()) if whole else 0.0)

    def _see_classes(self, weight: Tensor | None, target: Tensor) -> None:
        if weight is None or not (weight.is_cpu and target.is_cpu) or target.numel() > _LARGE:
            return
        counts = target[(target >= 0) & (target < len(weight))].bincount(minlength=len(weight))
        self._counts = counts if self._counts is None or len(self._counts) != len(counts) else self._counts + counts
        self._by_class = weight.detach().clone()

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
        if self._counts is not None and self._by_class is not None:
            known["class_weights"] = {"weights": self._by_class.tolist(), "counts": self._counts.tolist()}
        if self._last:
            label, shares = max(self._last.items(), key=lambda one: len(one[1]))
            known["last"] = {"label": label, "passes": len(shares), "share": sum(shares) / len(shares)}
        if self._read:
            known["read"] = {"share": max(self._read), "passes": len(self._read)}
        if self._several:
            known["several"] = {"share": sum(self._several) / len(self._several), "passes": len(self._several)}
        if self._weights:
            excess, weight = sorted(self._weights)[len(self._weights) // 2]
            known["pos_weight"] = {"weight": weight, "excess": excess, "passes": len(self._weights)}
        return known
