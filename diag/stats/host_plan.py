"""What measures one CPU tensor after the other of the same kind: what is known of the kind is found out once."""

from __future__ import annotations

import math

import torch

from diag.stats.fields import DEAD_UNITS, SAMPLE_VAR, UNITS, WIDTH, ZEROS
from diag.stats.host import dead_mask, numbers_of, spread
from diag.stats.kind import Kind, Measured, Places, Quick, is_plain
from diag.stats.layout import Saturation, in_memory_order, sample_grid, subsample
from diag.stats.plain import rounded

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class HostPlan(Kind):
    """`host.measure` for tensors of one shape, strides and dtype.

    Called with what `measure_into` takes, it returns what that returns; or False, and the row untouched, for a tensor
    of another kind.
    """

    __slots__ = ("_alive", "_cube", "_grid", "_limits", "_size")

    def __init__(
        self, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
    ) -> None:
        super().__init__(x, saturation, unit_dim, sample_dim)
        self._size = (x.numel(),)
        low, high = (-math.inf, math.inf) if saturation is None else saturation[1:]
        self._limits = rounded(low, x.dtype), rounded(high, x.dtype)
        self._cube = tuple(in_memory_order(x.detach(), unit_dim)[0].shape)
        self._alive = torch.zeros(self._cube[1], dtype=torch.bool, device="cpu")
        even = sample_dim is not None and not sample_dim % x.ndim and x.is_contiguous() and x.shape[0] >= 2
        self._grid = sample_grid(x) if even else None

    def __call__(
        self,
        row: torch.Tensor,
        x: torch.Tensor,
        saturation: Saturation | None,
        unit_dim: int | None,
        sample_dim: int | None,
    ) -> Measured:
        """Measure x, if the plan is for its kind."""
        if not self._holds(x, saturation, unit_dim, sample_dim):
            return False
        x = x.detach()
        flat = x.as_strided(self._size, (1,))
        compared = None if saturation is None else flat
        if saturation is not None and saturation[0].data_ptr() != x.data_ptr():
            compared = saturation[0].detach().as_strided(self._size, (1,))
        mask, numbers = self._measured(x, flat, compared)
        row.numpy()[:] = numbers
        return mask

    def _measured(
        self, x: torch.Tensor, flat: torch.Tensor, compared: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, list[float]]:
        """The mask and the row of a tensor of the kind."""
        numbers = numbers_of(flat, compared, *self._limits)
        mask = None
        if self._unit_dim is not None:
            if numbers[ZEROS] * self._cube[1] < numbers[0]:
                mask, numbers[UNITS], numbers[DEAD_UNITS] = self._alive, float(self._cube[1]), 0.0
            else:
                mask = dead_mask(flat.view(self._cube), numbers)
        if self._sample_dim is not None:
            part = subsample(x, self._sample_dim) if self._grid is None else x.as_strided(*self._grid)
            numbers[SAMPLE_VAR] = math.nan if part is None else spread(part)
        return mask, numbers

    def quick(self, places: Places) -> Quick | None:
        """The same for `kind.Quick`."""
        is_of, measured, rows = self._is_of, self._measured, places.arrays
        compares = self._bounds is not None

        def measure(x: torch.Tensor, index: int) -> Measured:
            if not is_of(x):
                return False
            x = x.detach()
            flat = x.view(-1)
            mask, rows[index][:] = measured(x, flat, flat if compares else None)
            return mask

        return measure if self._is_contiguous else None


def plan_for(
    row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> HostPlan | None:
    """The plan for tensors like x; None for those that need more than a look: of other dtypes, layouts or devices,
    empty, or with elements that do not fill one stretch of memory."""
    if row.shape != (WIDTH,) or not row.is_cpu or row.dtype is not torch.float64:
        return None
    if not (x.is_cpu and is_plain(x)) or x.dtype not in _DTYPES or x.numel() == 0:
        return None
    if x.ndim == 0 and not (unit_dim is None and sample_dim is None):
        return None
    if not torch.ops.aten.is_non_overlapping_and_dense(x):
        return None
    if saturation is not None and (saturation[0].shape != x.shape or saturation[0].dtype is not x.dtype):
        return None
    return HostPlan(x, saturation, unit_dim, sample_dim)
