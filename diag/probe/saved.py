"""What the nodes of a graph keep for backward, as it is meant."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

REDUCTIONS = {1: "mean", 2: "sum"}
"""How torch numbers the reductions of a loss."""


def signed(number: Any) -> int:
    """A dimension, or a label to be ignored: a negative one is shown as if it had no sign."""
    kept = int(number)
    return kept - 2**64 if kept >= 2**63 else kept


def nll_loss(node: Any, reduction: str) -> Tensor:
    """The value of a `nll_loss`, worked out once more."""
    ignored = signed(node._saved_ignore_index)
    return F.nll_loss(
        node._saved_self, node._saved_target, node._saved_weight, ignore_index=ignored, reduction=reduction
    )
