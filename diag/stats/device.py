"""Measure a tensor on its own device with torch operations: float64 throughout, and nothing waits for a number."""

from __future__ import annotations

import math

import torch

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
from diag.stats.layout import Saturation, blocks, laid_out, subsample
from diag.stats.plain import real

DEVICE_BLOCK = 1 << 25  # elements; bounds the float64 copies to some hundred MiB


def measure(
    row: torch.Tensor,
    x: torch.Tensor,
    saturation: Saturation | None,
    unit_dim: int | None,
    sample_dim: int | None,
) -> torch.Tensor | None:
    """`torch_path.measure_into` for a strided tensor without a graph."""
    cube, flat, compared, low, high = laid_out(x, saturation, unit_dim)
    row.fill_(math.nan)
    # Not by an assignment, for which a device waits.
    row[COUNT].fill_(x.numel())
    if x.numel():
        parts = torch.stack([_block(v, t, low, high) for v, t in blocks(flat, compared, DEVICE_BLOCK)])
        row[MEAN:UNITS] = _merge(parts)
    else:
        for place in (M2, ZEROS, NONFINITE, *((SATURATED,) if saturation is not None else ())):
            row[place].fill_(0.0)
    mask = None
    if unit_dim is not None:
        mask = ~(real(cube) != 0).any(2).any(0)
        row[UNITS].fill_(cube.shape[1])
        if x.numel():
            row[DEAD_UNITS] = mask.sum()
    if sample_dim is not None:
        part = subsample(x, sample_dim)
        if part is not None:
            row[SAMPLE_VAR] = sample_var(real(part).double())
    return mask


def sample_var(part: torch.Tensor) -> torch.Tensor:
    """Mean over the features that are finite throughout of the biased variance over samples; no branch on a value."""
    finite = torch.isfinite(part).all(0)
    shifted = torch.where(finite, part - part[0], 0.0)
    variance = (shifted - shifted.mean(0)).square().mean(0)
    return variance.sum() / finite.sum()


def _block(v: torch.Tensor, t: torch.Tensor | None, low: float, high: float) -> torch.Tensor:
    """The fields from finite count (in the place of COUNT) to NONFINITE of one flat block, float64."""
    v = real(v)
    wide = v.dtype is torch.float64
    v = v.double()
    finite = torch.isfinite(v)
    n = finite.sum().double()
    clean = torch.where(finite, v, 0.0)
    smallest = torch.where(finite, v, math.inf).amin()
    largest = torch.where(finite, v, -math.inf).amax()
    scale = torch.ones_like(n)
    if wide:  # the squares of float32 fit float64; those of float64 may not
        scale = torch.exp2(torch.frexp(clean.abs().amax()).exponent.double().sub(1).clamp(min=-1000.0))
        clean = clean / scale
    some = n.clamp(min=1.0)
    pilot = clean.sum() / some
    shifted = torch.where(finite, clean - pilot, 0.0)
    total = shifted.sum()
    mean = torch.where(n > 0, (pilot + total / some) * scale, math.nan)
    m2 = (shifted.square().sum() - total * total / some).clamp(min=0.0) * scale * scale
    zeros = (v == 0).sum().double()
    saturated = torch.full_like(n, math.nan)
    if t is not None:
        t = real(t)
        hits = torch.zeros_like(finite)
        hits = hits | (t <= low) if low > -math.inf else hits
        hits = hits | (t >= high) if high < math.inf else hits
        saturated = (hits & finite).sum().double()
    smallest = torch.where(n > 0, smallest + 0.0, math.nan)
    largest = torch.where(n > 0, largest + 0.0, math.nan)
    return torch.stack([n, mean, m2, smallest, largest, zeros, saturated, v.numel() - n])


def _merge(parts: torch.Tensor) -> torch.Tensor:
    """MEAN to NONFINITE of all blocks: `merge_rows` for one group, where the rows are (on the device, all measured)."""
    if len(parts) == 1:
        return parts[0, 1:]
    n = parts[:, 0]
    total = n.sum()
    means = torch.where(n > 0, parts[:, MEAN], 0.0)
    mean = (means * (n / total.clamp(min=1.0))).sum()
    m2 = (parts[:, M2] + n * (means - mean).square()).sum()
    smallest = torch.where(n > 0, parts[:, MIN], math.inf).amin()
    largest = torch.where(n > 0, parts[:, MAX], -math.inf).amax()
    mean, smallest, largest = (torch.where(total > 0, one, math.nan) for one in (mean, smallest, largest))
    return torch.cat([torch.stack([mean, m2, smallest, largest]), parts[:, ZEROS:UNITS].sum(0)])
