"""Measure a tensor with torch operations alone: every device, dtype and layout.

On the CPU, reading a number costs nothing, so blocks that fit the cache take the fast kernels and only a block that
needs it (non-finite values, squares that leave the range of float32) is measured again with care. On other devices
nothing may wait for a number, so every block takes the careful way, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

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
    WIDTH,
    ZEROS,
)
from diag.stats.layout import in_memory_order, subsample
from diag.stats.merge import merge_rows
from diag.stats.plain import real, rounded, strided, without_autocast
from diag.stats.twins import twin_rows

__all__ = ["Saturation", "measure_into", "twin_rows"]

Saturation = tuple[torch.Tensor, float, float]

HOST_BLOCK = 1 << 16  # elements; 256 KiB of float32 stay in the second-level cache over all passes
DEVICE_BLOCK = 1 << 25  # elements; bounds the float64 copies to some hundred MiB
SMALLEST_SQUARE = 1e-30  # mean square below which float32 squares lose digits to underflow
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
        measure = _measure_host if x.device.type == "cpu" else _measure_device
        return measure(row, x, saturation, unit_dim, sample_dim)


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


def _blocks(x: torch.Tensor, t: torch.Tensor | None, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Flat pieces of x and of t, the tensor to compare, in step."""
    for start in range(0, x.numel(), size):
        yield x[start : start + size], None if t is None else t[start : start + size]


def _aligned(
    saturation: Saturation | None, x: torch.Tensor, flat: torch.Tensor, order: list[int] | None
) -> torch.Tensor | None:
    """The tensor to compare, flat, in the element order of flat (x itself, most of the time)."""
    if saturation is None:
        return None
    tensor = saturation[0]
    if tensor is x:
        return flat
    return (tensor if order is None else tensor.permute(order)).reshape(-1)


# ---------------------------------------------------------------------------------------------------------- host


def _measure_host(
    row: torch.Tensor,
    x: torch.Tensor,
    saturation: Saturation | None,
    unit_dim: int | None,
    sample_dim: int | None,
) -> torch.Tensor | None:
    cube, order = in_memory_order(x, unit_dim)
    flat = cube.view(-1)
    compared = _aligned(saturation, x, flat, order)
    low, high = saturation[1:] if saturation is not None else (-math.inf, math.inf)
    parts = [
        _host_block(real(v), None if t is None else real(t), low, high) for v, t in _blocks(flat, compared, HOST_BLOCK)
    ]
    if len(parts) == 1:
        numbers = parts[0]
    elif parts:
        numbers = merge_rows(np.array(parts), np.zeros(len(parts), dtype=np.intp), 1)[0].tolist()
    else:
        numbers = _empty(saturation is not None)
    mask = None
    if unit_dim is not None:
        mask = _host_mask(cube, numbers)
        numbers[UNITS] = float(cube.shape[1])
        numbers[DEAD_UNITS] = float(np.count_nonzero(mask.numpy())) if x.numel() else math.nan
    if sample_dim is not None:
        numbers[SAMPLE_VAR] = _host_sample_var(x, sample_dim)
    row.copy_(torch.from_numpy(np.array(numbers, dtype=np.float64)))  # ten times as fast as torch.tensor
    return mask


def _empty(with_saturation: bool) -> list[float]:
    numbers = [math.nan] * WIDTH
    for field in (COUNT, M2, ZEROS, NONFINITE) + ((SATURATED,) if with_saturation else ()):
        numbers[field] = 0.0
    return numbers


def _host_block(v: torch.Tensor, t: torch.Tensor | None, low: float, high: float) -> list[float]:
    """The row of one flat block of float32 or float64."""
    n = v.numel()
    smallest, largest = v.amin().item(), v.amax().item()
    if not math.isfinite(smallest + largest):
        return _host_block_careful(v, t, low, high)
    pilot = v.sum().item() / n
    if smallest == largest:
        pilot, total, square = smallest, 0.0, 0.0
    else:
        if not math.isfinite(pilot):
            return _host_block_careful(v, t, low, high)
        if v.dtype is torch.float32:
            pilot = float(np.float32(pilot))
        shifted = v - pilot
        # torch.dot is faster but strays by 1e-5 over a block; sum adds in a cascade.
        total, square = shifted.sum().item(), shifted.square_().sum().item()
        if not n * SMALLEST_SQUARE < square < math.inf:
            return _host_block_careful(v, t, low, high)
    numbers = [math.nan] * WIDTH
    numbers[COUNT], numbers[NONFINITE] = float(n), 0.0
    numbers[MEAN] = pilot + total / n
    numbers[M2] = max(0.0, square - total * total / n)
    numbers[MIN], numbers[MAX] = smallest + 0.0, largest + 0.0
    numbers[ZEROS] = 0.0 if smallest > 0 or largest < 0 else float(np.count_nonzero(v.numpy() == 0))
    if t is not None:
        numbers[SATURATED] = _beyond(t, low, high)
    return numbers


def _beyond(t: torch.Tensor, low: float, high: float) -> float:
    values, hits = t.numpy(), 0
    if low >= high:
        return float(np.count_nonzero(~np.isnan(values)))
    if low > -math.inf:
        hits += int(np.count_nonzero(values <= values.dtype.type(low)))
    if high < math.inf:
        hits += int(np.count_nonzero(values >= values.dtype.type(high)))
    return float(hits)


def _host_block_careful(v: torch.Tensor, t: torch.Tensor | None, low: float, high: float) -> list[float]:
    """The same in float64, over the finite elements; scaled, so that no square leaves the range."""
    count = v.numel()
    finite = torch.isfinite(v)
    v = v[finite].double()
    n = v.numel()
    numbers = _empty(t is not None)
    numbers[COUNT], numbers[NONFINITE] = float(count), float(count - n)
    if not n:
        return numbers
    numbers[MIN], numbers[MAX] = v.amin().item() + 0.0, v.amax().item() + 0.0
    scale = _power_of_two(max(abs(numbers[MIN]), abs(numbers[MAX])))
    unit = v / scale
    pilot = unit.mean()
    shifted = unit - pilot
    total = shifted.sum()
    numbers[MEAN] = (pilot + total / n).item() * scale
    numbers[M2] = (torch.dot(shifted, shifted) - total * total / n).clamp(min=0).item() * scale * scale
    numbers[ZEROS] = float((v == 0).sum().item())
    if t is not None:
        numbers[SATURATED] = _beyond(t[finite], low, high)
    return numbers


def _power_of_two(size: float) -> float:
    """A scale that brings numbers up to this size near 1 without touching their digits."""
    return math.ldexp(1.0, max(-1000, math.frexp(size)[1] - 1)) if size else 1.0


def _host_mask(cube: torch.Tensor, numbers: list[float]) -> torch.Tensor:
    """Which units of [outer, units, inner] are zero everywhere."""
    units = cube.shape[1]
    if cube.numel() == 0:
        return torch.ones(units, dtype=torch.bool)
    if numbers[ZEROS] * units < cube.numel():
        return torch.zeros(units, dtype=torch.bool)
    if not cube.is_floating_point() or cube.dtype.itemsize == 1:
        cube = real(cube).abs()
    alive = _by_unit("amax", cube) != 0
    if numbers[MIN] < 0 or numbers[NONFINITE]:
        alive |= _by_unit("amin", cube) != 0
    return torch.from_numpy(~alive)


def _by_unit(reduction: str, cube: torch.Tensor) -> NDArray[np.floating]:
    """amax or amin per unit; one dimension at a time, which is six times as fast as both at once."""
    inner = cube.squeeze(2) if cube.shape[2] == 1 else getattr(cube, reduction)(2)
    return real(getattr(inner, reduction)(0)).numpy()


def _host_sample_var(x: torch.Tensor, sample_dim: int) -> float:
    part = subsample(x, sample_dim)
    if part is None:
        return math.nan
    values = real(part).numpy().astype(np.float64)  # numpy: small arrays, half the cost per operation
    first = values[0].copy()
    with np.errstate(invalid="ignore", over="ignore"):
        values -= first
        total = values.sum(axis=0)
        flat = values.reshape(-1)
        value = float(np.dot(flat, flat) - np.dot(total, total) / len(values)) / values.size
    return max(0.0, value) if math.isfinite(value) else float(_sample_var(real(part).double()).item())


def _sample_var(part: torch.Tensor) -> torch.Tensor:
    """Mean over the features that are finite throughout of the biased variance over samples; no branch on a value."""
    finite = torch.isfinite(part).all(0)
    shifted = torch.where(finite, part - part[0], 0.0)
    variance = (shifted - shifted.mean(0)).square().mean(0)
    return variance.sum() / finite.sum()


# -------------------------------------------------------------------------------------------------------- device


def _measure_device(
    row: torch.Tensor,
    x: torch.Tensor,
    saturation: Saturation | None,
    unit_dim: int | None,
    sample_dim: int | None,
) -> torch.Tensor | None:
    cube, order = in_memory_order(x, unit_dim)
    flat = cube.view(-1)
    compared = _aligned(saturation, x, flat, order)
    low, high = saturation[1:] if saturation is not None else (-math.inf, math.inf)
    row.fill_(math.nan)
    row[COUNT] = x.numel()
    if x.numel():
        parts = torch.stack([_device_block(v, t, low, high) for v, t in _blocks(flat, compared, DEVICE_BLOCK)])
        row[MEAN:UNITS] = _device_merge(parts)
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
            row[SAMPLE_VAR] = _sample_var(real(part).double())
    return mask


def _device_block(v: torch.Tensor, t: torch.Tensor | None, low: float, high: float) -> torch.Tensor:
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


def _device_merge(parts: torch.Tensor) -> torch.Tensor:
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
