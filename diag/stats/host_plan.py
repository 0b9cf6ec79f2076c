"""What measures one CPU tensor after the other of the same kind: what is known of the kind is found out once."""

from __future__ import annotations

import math
from typing import Literal

import torch

from diag.stats.fields import DEAD_UNITS, SAMPLE_VAR, UNITS, WIDTH, ZEROS
from diag.stats.host import dead_mask, numbers_of, spread
from diag.stats.layout import Saturation, in_memory_order, sample_steps, subsample
from diag.stats.plain import rounded

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_PLAIN = (torch.Tensor, torch.nn.Parameter)


class HostPlan:
    """`host.measure` for tensors of one shape, strides and dtype.

    Called with what `measure_into` takes, it returns what that returns; or False, and the row untouched, for a tensor
    of another kind.
    """

    __slots__ = ("_alive", "_bounds", "_cube", "_dtype", "_limits", "_sample_dim", "_samples", "_shape", "_size",
                 "_strides", "_unit_dim")  # fmt: skip

    def __init__(
        self, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
    ) -> None:
        self._dtype, self._shape, self._strides, self._size = x.dtype, x.shape, x.stride(), (x.numel(),)
        self._unit_dim, self._sample_dim = unit_dim, sample_dim
        self._bounds = None if saturation is None else saturation[1:]
        low, high = (-math.inf, math.inf) if saturation is None else saturation[1:]
        self._limits = rounded(low, x.dtype), rounded(high, x.dtype)
        self._cube = tuple(in_memory_order(x.detach(), unit_dim)[0].shape)
        self._alive = torch.zeros(self._cube[1], dtype=torch.bool, device="cpu")
        self._samples = None if sample_dim is None else _samples(x, sample_dim)

    def __call__(
        self,
        row: torch.Tensor,
        x: torch.Tensor,
        saturation: Saturation | None,
        unit_dim: int | None,
        sample_dim: int | None,
    ) -> torch.Tensor | Literal[False] | None:
        """Measure x, if the plan is for its kind."""
        if not (self._suits(x) and unit_dim == self._unit_dim and sample_dim == self._sample_dim):
            return False
        x = x.detach()
        flat = x.as_strided(self._size, (1,))
        compared = None if saturation is None else flat
        if saturation is not None:
            if saturation[1:] != self._bounds or not self._suits(saturation[0]):
                return False
            if saturation[0].data_ptr() != x.data_ptr():
                compared = saturation[0].detach().as_strided(self._size, (1,))
        numbers = numbers_of(flat, compared, *self._limits)
        mask = None
        if unit_dim is not None:
            if numbers[ZEROS] * self._cube[1] < numbers[0]:
                mask, numbers[UNITS], numbers[DEAD_UNITS] = self._alive, float(self._cube[1]), 0.0
            else:
                mask = dead_mask(flat.view(self._cube), numbers)
        if sample_dim is not None:
            part = subsample(x, sample_dim) if self._samples is None else x.as_strided(*self._samples)
            numbers[SAMPLE_VAR] = math.nan if part is None else spread(part)
        row.numpy()[:] = numbers
        return mask

    def _suits(self, x: torch.Tensor) -> bool:
        return (
            x.dtype is self._dtype
            and x.shape == self._shape
            and type(x) in _PLAIN
            and x.is_cpu
            and x.layout is torch.strided
            and not x.is_neg()
            and x.stride() == self._strides
        )


def _samples(x: torch.Tensor, sample_dim: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Size and strides of `layout.subsample` where it is an even grid."""
    if sample_dim % x.ndim or not x.is_contiguous() or x.shape[0] < 2:
        return None
    samples, features = x.shape[0], x.numel() // x.shape[0]
    sample_step, feature_step = sample_steps(samples, features)
    size = -(-samples // sample_step), -(-features // feature_step)
    return size, (features * sample_step, feature_step)


def plan_for(
    row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> HostPlan | None:
    """The plan for tensors like x; None for those that need more than a look: of other dtypes, layouts or devices,
    empty, or with elements that do not fill one stretch of memory."""
    if row.shape != (WIDTH,) or not row.is_cpu or row.dtype is not torch.float64:
        return None
    if type(x) not in _PLAIN or not x.is_cpu or x.layout is not torch.strided or x.is_neg() or x.dtype not in _DTYPES:
        return None
    if x.ndim == 0 or x.numel() == 0 or not torch.ops.aten.is_non_overlapping_and_dense(x):
        return None
    if saturation is not None and (saturation[0].shape != x.shape or saturation[0].dtype is not x.dtype):
        return None
    return HostPlan(x, saturation, unit_dim, sample_dim)
