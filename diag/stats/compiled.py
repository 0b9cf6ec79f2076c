"""Measure a CPU tensor in one pass over memory (numba, extra `fast`); what does not suit it goes to the torch path."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from diag.stats import kernels, torch_path
from diag.stats.fields import (
    COUNT,
    DEAD_UNITS,
    M2,
    MAX,
    MEAN,
    MIN,
    NONFINITE,
    SAMPLE_VAR,
    SATURATED,
    UNITS,
    ZEROS,
)
from diag.stats.layout import in_memory_order, sample_steps
from diag.stats.plain import rounded
from diag.stats.torch_path import Saturation

_INTEGERS = {torch.float32: np.int32, torch.float64: np.int64}
_FLOATS = {torch.float32: np.float32, torch.float64: np.float64}
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_NOTHING = np.empty(0, dtype=np.int64)
_NO_UNITS = np.empty(0, dtype=np.bool_)


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
        if _applies(row, x, saturation):
            done, mask = _measure(row, x, saturation, unit_dim, sample_dim)
            if done:
                return mask
    return torch_path.measure_into(row, x, saturation=saturation, unit_dim=unit_dim, sample_dim=sample_dim)


def _applies(row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None) -> bool:
    if not (_plain(x) and x.dtype in _INTEGERS and x.ndim > 0 and x.numel() > 0 and _dense(x)):
        return False
    if not (row.device.type == "cpu" and row.dtype is torch.float64 and row.is_contiguous()):
        return False
    if saturation is None or saturation[0] is x or saturation[0].shape != x.shape:
        return True
    t = saturation[0]
    return _plain(t) and t.dtype is x.dtype and t.stride() == x.stride()


def _plain(x: torch.Tensor) -> bool:
    return type(x) in _PLAIN and x.device.type == "cpu" and x.layout is torch.strided and not x.is_neg()


def _dense(x: torch.Tensor) -> bool:
    """Whether the elements fill one stretch of memory, in any order of the dimensions."""
    return x.is_contiguous() or torch.ops.aten.is_non_overlapping_and_dense(x)


def _measure(
    row: torch.Tensor,
    x: torch.Tensor,
    saturation: Saturation | None,
    unit_dim: int | None,
    sample_dim: int | None,
) -> tuple[bool, torch.Tensor | None]:
    x = x.detach()
    cube, order = in_memory_order(x, unit_dim)
    values = cube.view(-1).numpy()
    compared, low, high = values, math.nan, math.nan
    judged = saturation is not None and saturation[0].shape == x.shape
    if saturation is not None and judged:
        low, high = (rounded(bound, x.dtype) for bound in saturation[1:])
        low, high = math.nan if low == -math.inf else low, math.nan if high == math.inf else high  # never met
        if saturation[0].data_ptr() != x.data_ptr():
            t = saturation[0].detach()
            compared = (t if order is None else t.permute(order)).reshape(-1).numpy()
    samples = features = _NOTHING
    adjacent = False
    if sample_dim is not None:
        samples, features, adjacent = _offsets(tuple(x.shape), x.stride(), sample_dim)
    outer, units, inner = cube.shape
    dead = _NO_UNITS if unit_dim is None else np.empty(units, dtype=np.bool_)
    number = _FLOATS[x.dtype]
    mean, m2, least, most, zeros, saturated, dead_units, sample_var = kernels.measure_flat(
        values, values.view(_INTEGERS[x.dtype]), compared, number(low), number(high),
        outer, units, inner, dead, samples, features, adjacent,
    )  # fmt: skip
    if math.isnan(mean):
        return False, None
    target = row.numpy()
    target[:] = math.nan
    target[COUNT], target[MEAN], target[M2], target[MIN], target[MAX] = values.size, mean, m2, least, most
    target[ZEROS], target[NONFINITE], target[SAMPLE_VAR] = zeros, 0.0, sample_var
    if judged:
        target[SATURATED] = saturated
    if unit_dim is None:
        return True, None
    target[UNITS], target[DEAD_UNITS] = units, dead_units
    return True, torch.from_numpy(dead)


@lru_cache(maxsize=4096)
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
