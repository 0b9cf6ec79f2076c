"""How far labels are smoothed, read off the graph of a cross-entropy."""

from __future__ import annotations

from typing import Any

_SAME = 1e-3


def smoothing(node: Any) -> float | None:
    """The label smoothing e of a node that is (1 - e) nll_loss + e / C times minus the sum of all log-probabilities.

    Source: Szegedy et al. 2016, section 7
    """
    children = [child for child, _ in node.next_functions]
    if node.name() != "AddBackward0" or any(one is None or one.name() != "MulBackward1" for one in children):
        return None
    own, even = children
    below = own.next_functions[0][0]
    if below is None or below.name() not in ("NllLossBackward0", "NllLoss2DBackward0"):
        return None
    kept, classes = float(own._saved_other), below._saved_self.shape[1]
    found = 1 - kept
    return found if abs(float(even._saved_other) * classes - found) < _SAME else None
