"""Measure a tensor on its own device: float64 throughout, and nothing waits for a number.

On CUDA two kernels do it where Triton is, which comes with torch there; else some forty operations, which for a small
tensor take longer to launch than to run.
"""

from __future__ import annotations

import math
import os
import warnings
from types import ModuleType

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
from diag.stats.layout import Saturation, aligned, blocks, in_memory_order, subsample
from diag.stats.plain import real

VARIABLE = "DIAG_BACKEND"
"""Environment variable: auto, compiled or torch."""
DEVICE_BLOCK = 1 << 25  # elements; bounds the float64 copies to some hundred MiB


def measure(
    row: torch.Tensor,
    x: torch.Tensor,
    saturation: Saturation | None,
    unit_dim: int | None,
    sample_dim: int | None,
) -> torch.Tensor | None:
    """`torch_path.measure_into` for a strided tensor without a graph."""
    kernels = _Kernels.load() if x.is_cuda else None
    if kernels is not None and kernels.suits(row, x, saturation, unit_dim, sample_dim):
        try:
            mask: torch.Tensor | None = kernels.measure(row, x, saturation, unit_dim, sample_dim)
            return mask
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of Triton, its compiler or the driver: what it raises is not documented
            _Kernels.give_up(error)
    return measure_by_operations(row, x, saturation, unit_dim, sample_dim)


class _Kernels:
    """The module of the kernels, looked for once; None where there is no Triton, or it does not work."""

    found: ModuleType | None = None
    looked = False

    @classmethod
    def load(cls) -> ModuleType | None:
        if not cls.looked:
            cls.looked = True
            if os.environ.get(VARIABLE) != "torch":
                try:
                    from diag.stats import fused
                except ImportError:
                    return None
                cls.found = fused
        return cls.found

    @classmethod
    def give_up(cls, error: Exception) -> None:
        cls.found = None
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(
            f"diag measures with torch operations, which takes longer: its Triton kernels failed ({text}); "
            f"{VARIABLE}=torch leaves them out from the start",
            RuntimeWarning,
            stacklevel=2,
        )


def measure_by_operations(
    row: torch.Tensor,
    x: torch.Tensor,
    saturation: Saturation | None,
    unit_dim: int | None,
    sample_dim: int | None,
) -> torch.Tensor | None:
    """The same with torch operations alone."""
    cube, order = in_memory_order(x, unit_dim)
    flat = cube.view(-1)
    compared = aligned(saturation, x, flat, order)
    low, high = saturation[1:] if saturation is not None else (-math.inf, math.inf)
    row.fill_(math.nan)
    row[COUNT] = x.numel()
    if x.numel():
        parts = torch.stack([_block(v, t, low, high) for v, t in blocks(flat, compared, DEVICE_BLOCK)])
        row[MEAN:UNITS] = _merge(parts)
    else:
        row[[M2, ZEROS, NONFINITE] + ([SATURATED] if saturation is not None else [])] = 0.0
    mask = None
    if unit_dim is not None:
        mask = ~(real(cube) != 0).any(2).any(0)
        row[UNITS] = cube.shape[1]
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
    known = torch.stack([mean, m2, smallest, largest])
    known[[0, 2, 3]] = torch.where(total > 0, known[[0, 2, 3]], math.nan)
    return torch.cat([known, parts[:, ZEROS:UNITS].sum(0)])
