"""The compiled path put off until it is worth the second that loading it takes: most checks end before."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from diag.stats import backend
from diag.stats.torch_path import Saturation

_LOADING = 0.8
"""Seconds that importing numba and loading the kernels takes."""
_EACH, _PER_ELEMENT = 45e-6, 3e-9
"""Seconds that torch's operations take longer, for a tensor and for each of its elements."""


class Deferred:
    """`backend.measure_and_plan` of one trace: by torch at first, then as is chosen.

    What is counted is work, not time, so that the same training is measured in the same way each time.
    """

    def __init__(self) -> None:
        self._lost = 0.0
        self.waits = backend.choice() == "auto" and importlib.util.find_spec("numba") is not None

    def name(self) -> str:
        """What measures, as in `backend.backend_name`."""
        return "torch" if self.waits else backend.backend_name()

    def __call__(
        self, row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None,
        sample_dim: int | None,
    ) -> tuple[torch.Tensor | None, Callable[..., Any] | None]:  # fmt: skip
        """Measure x; and what measures more like it."""
        if not self.waits or x.is_cuda:
            return backend.measure_and_plan(row, x, saturation, unit_dim, sample_dim)
        mask, plan = backend.by_torch(row, x, saturation, unit_dim, sample_dim)
        cost = _EACH + _PER_ELEMENT * x.numel()
        self.count(cost)
        return mask, None if plan is None else _Counted(plan, self, cost)

    def count(self, cost: float) -> bool:
        """Take in what one more measurement lost; whether to go on with torch."""
        self._lost += cost
        self.waits = self.waits and self._lost < _LOADING
        return self.waits


class _Counted:
    """A plan that gives up, as for a tensor of another kind, once the compiled path would have paid."""

    __slots__ = ("_cost", "_deferred", "_plan")

    def __init__(self, plan: Callable[..., Any], deferred: Deferred, cost: float) -> None:
        self._plan, self._deferred, self._cost = plan, deferred, cost

    def __call__(self, *arguments: Any) -> Any:
        return self._plan(*arguments) if self._deferred.count(self._cost) else False
