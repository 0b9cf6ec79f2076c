"""Measure a CPU tensor in one pass over memory (numba, extra `fast`); what does not suit it goes to the torch path."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diag.stats import kernels, torch_path
from diag.stats.fields import WIDTH
from diag.stats.kind import Kind, Measured, Places, Quick, is_plain
from diag.stats.layout import in_memory_order, sample_offsets
from diag.stats.plain import rounded
from diag.stats.torch_path import Saturation

if WIDTH != 12:
    raise ImportError("the kernels write rows of 12 numbers")  # pragma: no cover

_KERNELS = {torch.float32: kernels.measure32, torch.float64: kernels.measure64}
_NOTHING = np.empty(0, dtype=np.int64)


class Plan(Kind):
    """Measures tensors of one shape, strides and dtype, for one caller at a time: all else is known beforehand.

    Called with what `measure_into` takes, it returns what that returns; or False, and the row untouched, for a tensor
    that is of another kind or needs care.
    """

    __slots__ = ("_alive", "_asked", "_at", "_kept", "_kernel", "_mask")

    def __init__(
        self,
        x: torch.Tensor,
        place: _Place,
        saturation: Saturation | None,
        unit_dim: int | None,
        sample_dim: int | None,
    ) -> None:
        super().__init__(x, saturation, unit_dim, sample_dim)
        self._kernel = _KERNELS[x.dtype]
        self._kept = place  # whose addresses are in use
        self._alive = torch.zeros(place.units, dtype=torch.bool, device="cpu")
        self._mask = torch.empty(place.units, dtype=torch.bool, device="cpu")
        self._asked = np.zeros(1, kernels.ASKED)
        self._asked["place"] = (
            place.outer, place.units, place.inner, 0 if unit_dim is None else self._mask.data_ptr(),
            place.samples.ctypes.data, place.samples.size, place.features.ctypes.data, place.features.size,
            place.adjacent,
        )  # fmt: skip
        self._asked["bounds"] = (math.nan, math.nan) if self._bounds is None else _limits(*self._bounds, x.dtype)
        self._at = self._asked.ctypes.data

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
        compared = 0 if saturation is None else saturation[0].data_ptr()
        return self._found(self._kernel(x.data_ptr(), compared, self._at, row.data_ptr()))

    def _found(self, dead: int) -> Measured:
        if dead < 0:
            return False
        if self._unit_dim is None:
            return None
        return self._mask.clone() if dead else self._alive

    def quick(self, places: Places) -> Quick | None:
        """The same for `kind.Quick`: all that is known of the kind is bound, not looked up."""
        dtype, shape, strided, kernel, asked, found = (
            self._dtype, self._shape, torch.strided, self._kernel, self._at, self._found
        )  # fmt: skip
        rows, compares = places.addresses, self._bounds is not None
        nothing = None if self._unit_dim is None else self._alive
        if not self._is_contiguous:
            return None

        def measure(x: torch.Tensor, index: int) -> Measured:
            if not (
                x.dtype is dtype
                and x.is_cpu
                and x.layout is strided
                and x.shape == shape
                and x.is_contiguous()
                and not x.is_neg()
            ):
                return False
            at = x.data_ptr()
            dead = kernel(at, at if compares else 0, asked, rows[index])
            return found(dead) if dead else nothing

        return measure


def _plan_for(
    x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> Plan | None:
    place = _place(x.shape, x.stride(), x.dtype, unit_dim, sample_dim) if x.is_cpu and is_plain(x) else None
    return None if place is None else Plan(x, place, saturation, unit_dim, sample_dim)


def measure_into(
    row: torch.Tensor,
    x: torch.Tensor,
    *,
    saturation: Saturation | None = None,
    unit_dim: int | None = None,
    sample_dim: int | None = None,
) -> torch.Tensor | None:
    """Write the measurement of x into row; arguments and result as in `torch_path.measure_into`.

    Dense float32 and float64 tensors in any order of dimensions go through the kernels; all others, and values that
    need care (non-finite, or with squares beyond float64), through torch.
    """
    return measure_and_plan(row, x, saturation, unit_dim, sample_dim)[0]


def measure_and_plan(
    row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> tuple[torch.Tensor | None, Plan | None]:
    """`measure_into`, and the plan for further tensors like x; None where the kernels do not read them."""
    plan = None
    with torch._C.DisableTorchFunction():
        if saturation is not None and saturation[0].shape != x.shape:
            saturation = None
        if row.is_cpu and row.dtype is torch.float64 and row.is_contiguous():
            plan = _plan_for(x, saturation, unit_dim, sample_dim)
            mask = False if plan is None else plan(row, x, saturation, unit_dim, sample_dim)
            if mask is not False:
                return mask, plan
    mask = torch_path.measure_into(row, x, saturation=saturation, unit_dim=unit_dim, sample_dim=sample_dim)
    return mask, plan


@lru_cache(maxsize=1024)
def _limits(low: float, high: float, dtype: torch.dtype) -> tuple[float, float]:
    """The bounds in the tensor's precision; nan for one that is never met."""
    low, high = rounded(low, dtype), rounded(high, dtype)
    return math.nan if low == -math.inf else low, math.nan if high == math.inf else high


class _Place(NamedTuple):
    """How elements lie in memory: [outer, units, inner]; where the samples begin, and where their features lie."""

    outer: int
    units: int
    inner: int
    samples: NDArray[np.int64]
    features: NDArray[np.int64]
    adjacent: bool


@lru_cache(maxsize=4096)
def _place(
    shape: torch.Size, strides: tuple[int, ...], dtype: torch.dtype, unit_dim: int | None, sample_dim: int | None
) -> _Place | None:
    """None for tensors that the kernels do not read: other dtypes, no elements, or elements that do not fill one
    stretch of memory, in whatever order of the dimensions."""
    if dtype not in _KERNELS or 0 in shape or not (shape or (unit_dim is None and sample_dim is None)):
        return None
    like = torch.empty_strided(shape, strides, dtype=dtype, device="meta")
    if not (like.is_contiguous() or torch.ops.aten.is_non_overlapping_and_dense(like)):
        return None
    outer, units, inner = in_memory_order(like, unit_dim)[0].shape
    if sample_dim is None:
        return _Place(outer, units, inner, _NOTHING, _NOTHING, False)
    return _Place(outer, units, inner, *sample_offsets(shape, strides, sample_dim))
