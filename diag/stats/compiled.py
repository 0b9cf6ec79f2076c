"""Measure a CPU tensor in one pass over memory (numba, extra `fast`); what does not suit it goes to the torch path."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diag.stats import kernels, torch_path
from diag.stats.fields import WIDTH
from diag.stats.layout import in_memory_order, sample_steps
from diag.stats.plain import rounded
from diag.stats.torch_path import Saturation

if WIDTH != 12:
    raise ImportError("the kernels write rows of 12 numbers")  # pragma: no cover

_KERNELS = {torch.float32: kernels.measure32, torch.float64: kernels.measure64}
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_NOTHING = np.empty(0, dtype=np.int64)
_NO_BOUNDS = math.nan, math.nan


class _Plan(NamedTuple):
    """What there is to know of all tensors of one shape, strides and dtype: nothing has to be found out in a step."""

    kernel: Callable[..., int]
    outer: int
    units: int
    inner: int
    samples: NDArray[np.int64]
    features: NDArray[np.int64]
    samples_at: int
    features_at: int
    adjacent: bool


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
    with torch._C.DisableTorchFunction():
        if _plain(x) and row.is_cpu and row.dtype is torch.float64 and row.is_contiguous():
            plan = _plan(x.shape, x.stride(), x.dtype, unit_dim, sample_dim)
            if plan is not None:
                done, mask = _measure(row, x, plan, saturation, unit_dim)
                if done:
                    return mask
    return torch_path.measure_into(row, x, saturation=saturation, unit_dim=unit_dim, sample_dim=sample_dim)


def _plain(x: torch.Tensor) -> bool:
    return type(x) in _PLAIN and x.is_cpu and x.layout is torch.strided and not x.is_neg()


def _measure(
    row: torch.Tensor, x: torch.Tensor, plan: _Plan, saturation: Saturation | None, unit_dim: int | None
) -> tuple[bool, torch.Tensor | None]:
    place, compared, (low, high) = x.data_ptr(), 0, _NO_BOUNDS
    if saturation is not None and saturation[0].shape == x.shape:
        t = saturation[0]
        if not (t is x or (_plain(t) and t.dtype is x.dtype and t.stride() == x.stride())):
            return False, None
        compared, (low, high) = t.data_ptr(), _limits(saturation[1], saturation[2], x.dtype)
    mask = None if unit_dim is None else torch.empty(plan.units, dtype=torch.bool, device="cpu")
    dead = plan.kernel(
        place, compared, low, high, plan.outer, plan.units, plan.inner, 0 if mask is None else mask.data_ptr(),
        plan.samples_at, plan.samples.size, plan.features_at, plan.features.size, plan.adjacent, row.data_ptr(),
    )  # fmt: skip
    return dead >= 0, mask


@lru_cache(maxsize=1024)
def _limits(low: float, high: float, dtype: torch.dtype) -> tuple[float, float]:
    """The bounds in the tensor's precision; nan for one that is never met."""
    low, high = rounded(low, dtype), rounded(high, dtype)
    return math.nan if low == -math.inf else low, math.nan if high == math.inf else high


@lru_cache(maxsize=4096)
def _plan(
    shape: torch.Size, strides: tuple[int, ...], dtype: torch.dtype, unit_dim: int | None, sample_dim: int | None
) -> _Plan | None:
    """None for tensors that the kernels do not read: other dtypes, no elements, or elements that do not fill one
    stretch of memory, in whatever order of the dimensions."""
    if dtype not in _KERNELS or not shape or 0 in shape:
        return None
    like = torch.empty_strided(shape, strides, dtype=dtype, device="meta")
    if not (like.is_contiguous() or torch.ops.aten.is_non_overlapping_and_dense(like)):
        return None
    outer, units, inner = in_memory_order(like, unit_dim)[0].shape
    samples, features, adjacent = _NOTHING, _NOTHING, False
    if sample_dim is not None:
        samples, features, adjacent = _offsets(shape, strides, sample_dim)
    return _Plan(
        _KERNELS[dtype], outer, units, inner, samples, features, samples.ctypes.data, features.ctypes.data, adjacent
    )


def _offsets(
    shape: tuple[int, ...], strides: tuple[int, ...], sample_dim: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Where the elements that `layout.subsample` takes lie in memory: offsets of samples, and of features in a sample.

    The third value says that the features lie side by side.
    """
    dims = list(range(len(shape)))
    place = dims.pop(sample_dim)
    samples, features = shape[place], math.prod(shape[dim] for dim in dims)
    if samples < 2:
        return _NOTHING, _NOTHING, False
    sample_step, feature_step = sample_steps(samples, features)
    rest = np.arange(0, features, feature_step, dtype=np.int64)
    offsets = np.zeros_like(rest)
    for dim in reversed(dims):
        offsets += rest % shape[dim] * strides[dim]
        rest = rest // shape[dim]
    starts = np.arange(0, samples, sample_step, dtype=np.int64) * strides[place]
    return starts, offsets, bool(np.array_equal(offsets, np.arange(offsets.size)))
