"""Measure a tensor with torch operations alone: every device, dtype and layout."""

from __future__ import annotations

import math

import numpy as np
import torch

from diag.stats import cuda, device, host
from diag.stats.fields import COUNT, M2, MAX, MEAN, MIN, NONFINITE, WIDTH, ZEROS
from diag.stats.layout import Saturation
from diag.stats.merge import merge_rows
from diag.stats.plain import rounded, strided, without_autocast
from diag.stats.twins import twin_rows

__all__ = ["Saturation", "measure_into", "twin_rows"]

_WAYS = {"cpu": host, "cuda": cuda}
_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def measure_into(
    row: torch.Tensor,
    x: torch.Tensor,
    *,
    saturation: Saturation | None = None,
    unit_dim: int | None = None,
    sample_dim: int | None = None,
) -> torch.Tensor | None:
    """Write the measurement of x into row, without waiting for the device (sparse layouts excepted).

    Args:
        row: float64 [WIDTH] on the device of x; every number is overwritten, NaN where not measured.
        x: any dtype (complex by magnitude), layout and size; a meta tensor is only counted.
        saturation: (tensor of x's shape, low, high): elements <= low or >= high are saturated; an infinite bound is
            never met. The bounds are rounded to the tensor's dtype, as the activation's own are.
        unit_dim: the dimension whose entries are units.
        sample_dim: the dimension whose entries are samples.

    Returns:
        Which units are zero everywhere (bool [units], on the device of x; all True when x is empty, which is neutral
        to a conjunction over calls), or None without unit_dim.
    """
    with torch._C.DisableTorchFunction(), torch.no_grad(), without_autocast(x.device.type):
        if x.is_meta:
            row.fill_(math.nan)
            row[COUNT] = x.numel()
            return None
        x, saturation = x.detach(), _usable(saturation, x)
        if x.layout in _SPARSE and unit_dim is None and sample_dim is None and saturation is None:
            _measure_sparse(row, x)
            return None
        x = strided(x)
        if saturation is not None:
            saturation = (strided(saturation[0]), saturation[1], saturation[2])
        if x.ndim == 0:
            unit_dim = sample_dim = None
        way = _WAYS.get(x.device.type, device)
        return way.measure(row, x, saturation, unit_dim, sample_dim)


def _usable(saturation: Saturation | None, x: torch.Tensor) -> Saturation | None:
    """The saturation to measure, its bounds in the dtype of its tensor; None where its elements are not those of x."""
    if saturation is None or saturation[0].shape != x.shape or saturation[0].is_complex():
        return None
    tensor, low, high = saturation
    return tensor.detach(), rounded(low, tensor.dtype), rounded(high, tensor.dtype)


def _measure_sparse(row: torch.Tensor, x: torch.Tensor) -> None:
    """The stored values merged with the zeros that are not stored."""
    values = (x.coalesce() if x.is_sparse else x).values()
    stored = torch.empty(WIDTH, dtype=torch.float64, device=values.device)
    measure_into(stored, values)
    implicit = np.full(WIDTH, math.nan)
    absent = float(x.numel() - values.numel())
    implicit[[COUNT, MEAN, M2, MIN, MAX, ZEROS, NONFINITE]] = [absent, 0.0, 0.0, 0.0, 0.0, absent, 0.0]
    both = np.stack([stored.cpu().numpy(), implicit] if absent else [stored.cpu().numpy()])
    row.copy_(torch.from_numpy(merge_rows(both, np.zeros(len(both), dtype=np.intp), 1)[0]))
