"""The plain definition of every number, in float64 numpy: what the fast paths are held to."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from diag.stats.layout import MAX_FEATURES, MAX_SAMPLES
from diag.stats.tensor_stats import TensorStats

Values = NDArray[np.float64]


def measure(
    x: torch.Tensor,
    *,
    saturation: tuple[torch.Tensor, float, float] | None = None,
    unit_dim: int | None = None,
    sample_dim: int | None = None,
) -> tuple[TensorStats, NDArray[np.bool_] | None]:
    """The measurement of x and which of its units are zero everywhere; arguments as in `torch_path.measure_into`."""
    if x.is_meta:
        return TensorStats(count=x.numel()), None
    values = _float64(x)
    finite = np.isfinite(values)
    kept = values[finite]
    numbers = {"count": float(values.size), "nonfinite": float(values.size - kept.size)}
    numbers |= {"m2": 0.0, "zeros": float(np.sum(kept == 0))}
    if kept.size:
        numbers |= {"min": float(kept.min()) + 0.0, "max": float(kept.max()) + 0.0} | _moments(kept)
    if saturation is not None and saturation[0].shape == x.shape and not saturation[0].is_complex():
        tensor, low, high = saturation
        t = _float64(tensor)
        flat = np.zeros(t.shape, dtype=bool)
        if low > -math.inf:
            flat |= t <= _held(low, tensor.dtype)
        if high < math.inf:
            flat |= t >= _held(high, tensor.dtype)
        numbers["saturated"] = float(np.sum(flat & finite))
    mask = None
    if unit_dim is not None and values.ndim:
        by_unit = np.moveaxis(values, unit_dim, 0)
        mask = np.all(by_unit.reshape(len(by_unit), values.size // max(1, len(by_unit))) == 0, axis=1)
        numbers["units"] = float(mask.size)
        if values.size:
            numbers["dead_units"] = float(mask.sum())
    if sample_dim is not None and values.ndim:
        numbers["sample_var"] = _sample_var(np.moveaxis(values, sample_dim, 0))
    return TensorStats(**numbers), mask


def _float64(x: torch.Tensor) -> Values:
    x = x.detach()
    x = x if x.layout is torch.strided else x.to_dense()
    x = x.to(torch.complex128).abs() if x.is_complex() else x.to(torch.float64)
    return np.asarray(x.cpu().numpy())


def _held(bound: float, dtype: torch.dtype) -> float:
    """The bound as a tensor of this dtype holds it."""
    return torch.tensor(bound, dtype=torch.float64).to(dtype).item() if dtype.is_floating_point else bound


def _moments(kept: Values) -> dict[str, float]:
    """Mean and sum of squared deviations; scaled, so that float64's largest and least values have them too."""
    scale = float(np.abs(kept).max()) or 1.0
    unit = kept / scale
    mean = float(unit.mean())
    mean += float((unit - mean).mean())
    m2 = float(np.square(unit - mean).sum())
    return {"mean": mean * scale, "m2": m2 * scale * scale}


def _sample_var(values: Values) -> float:
    """Variance over samples averaged over the features that are finite throughout, of a bounded strided part."""
    samples = len(values)
    if samples < 2 or values.size == 0:
        return math.nan
    table = values.reshape(samples, -1)
    features = table.shape[1]
    feature_step = 1 if features <= MAX_FEATURES else math.ceil(features / MAX_FEATURES) // 2 * 2 + 1
    part = table[:: math.ceil(samples / MAX_SAMPLES), ::feature_step]
    part = part[:, np.isfinite(part).all(axis=0)]
    return float((part - part[0]).var(axis=0).mean()) if part.size else math.nan
