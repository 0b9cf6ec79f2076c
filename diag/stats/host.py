"""Measure a tensor on the CPU with torch and numpy: reading a number costs nothing there, so what is needed is asked.

Blocks that fit the cache take the fast way; only a block that needs it (non-finite values, squares that leave the range
of float32) is measured again with care.
"""

from __future__ import annotations

import math
import threading

import numpy as np
import torch
from numpy.typing import NDArray

from diag.stats.device import sample_var
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
from diag.stats.layout import Saturation, blocks, laid_out, subsample
from diag.stats.merge import merge_rows
from diag.stats.plain import real

HOST_BLOCK = 1 << 16  # elements; 256 KiB of float32 stay in the second-level cache over all passes
_MOST_ROOMS = 64
SMALLEST_SQUARE = 1e-30  # mean square below which float32 squares lose digits to underflow


class _Rooms(threading.local):
    """Where a thread keeps what it computes of a block, so that it stays in the cache: memory that is asked for and
    given back each time has often to be fetched from the system."""

    def __init__(self) -> None:
        self.whole: dict[torch.dtype, torch.Tensor] = {}
        self.parts: dict[tuple[int, torch.dtype], torch.Tensor] = {}


_rooms = _Rooms()


def room_for(size: int, dtype: torch.dtype) -> torch.Tensor:
    """Memory for so many elements, at most a block; until it is asked for the next time by the same thread."""
    room = _rooms.parts.get((size, dtype))
    if room is None:
        if len(_rooms.parts) >= _MOST_ROOMS:
            _rooms.parts.clear()
        if dtype not in _rooms.whole:
            with torch.inference_mode(False):  # what is made in that mode cannot be written outside of it
                _rooms.whole[dtype] = torch.empty(HOST_BLOCK, dtype=dtype, device="cpu")
        room = _rooms.parts[size, dtype] = _rooms.whole[dtype][:size]
    return room


def measure(
    row: torch.Tensor,
    x: torch.Tensor,
    saturation: Saturation | None,
    unit_dim: int | None,
    sample_dim: int | None,
) -> torch.Tensor | None:
    """`torch_path.measure_into` for a strided tensor without a graph."""
    cube, flat, compared, low, high = laid_out(x, saturation, unit_dim)
    numbers = numbers_of(flat, compared, low, high)
    mask = None
    if unit_dim is not None:
        mask = dead_mask(cube, numbers)
    if sample_dim is not None:
        part = subsample(x, sample_dim)
        numbers[SAMPLE_VAR] = math.nan if part is None else spread(part)
    row.copy_(torch.from_numpy(np.array(numbers, dtype=np.float64)))  # ten times as fast as torch.tensor
    return mask


def numbers_of(flat: torch.Tensor, compared: torch.Tensor | None, low: float, high: float) -> list[float]:
    """The row of a flat tensor; of compared, the elements beyond the bounds are counted."""
    if 0 < flat.numel() <= HOST_BLOCK:
        v = real(flat)
        return _block(v, v if compared is flat else None if compared is None else real(compared), low, high)
    parts = []
    for piece, other in blocks(flat, compared, HOST_BLOCK):
        v = real(piece)
        parts.append(_block(v, v if compared is flat else None if other is None else real(other), low, high))
    if not parts:
        return _empty(compared is not None)
    return _together(parts)


def _together(parts: list[list[float]]) -> list[float]:
    """`merge_rows` of the blocks of one tensor: of a few rows plain numbers are faster than arrays."""
    if any(one[NONFINITE] for one in parts):
        merged: list[float] = merge_rows(np.array(parts), np.zeros(len(parts), dtype=np.intp), 1)[0].tolist()
        return merged
    numbers = parts[0]
    for one in parts[1:]:
        total = numbers[COUNT] + one[COUNT]
        share, shift = one[COUNT] / total, one[MEAN] - numbers[MEAN]
        numbers[M2] += one[M2] + shift * shift * (numbers[COUNT] * share)
        numbers[MEAN] += shift * share
        numbers[COUNT] = total
        numbers[MIN], numbers[MAX] = min(numbers[MIN], one[MIN]), max(numbers[MAX], one[MAX])
        numbers[ZEROS] += one[ZEROS]
        numbers[SATURATED] += one[SATURATED]
    return numbers


def _empty(with_saturation: bool) -> list[float]:
    numbers = [math.nan] * WIDTH
    for field in (COUNT, M2, ZEROS, NONFINITE) + ((SATURATED,) if with_saturation else ()):
        numbers[field] = 0.0
    return numbers


def _block(v: torch.Tensor, t: torch.Tensor | None, low: float, high: float) -> list[float]:
    """The row of one flat block of float32 or float64."""
    n = v.numel()
    smallest, largest = v.amin().item(), v.amax().item()  # `aminmax` takes longer than both
    if not math.isfinite(smallest + largest):
        return _careful_block(v, t, low, high)
    if smallest == largest:
        pilot, total, square = smallest, 0.0, 0.0
    else:
        pilot, total, square = _sums(v, largest - smallest)
        if not n * SMALLEST_SQUARE < square < math.inf:
            return _careful_block(v, t, low, high)
    numbers = [math.nan] * WIDTH
    numbers[COUNT], numbers[NONFINITE] = float(n), 0.0
    numbers[MEAN] = pilot + total / n
    numbers[M2] = max(0.0, square - total * total / n)
    numbers[MIN], numbers[MAX] = smallest + 0.0, largest + 0.0
    numbers[ZEROS] = 0.0 if smallest > 0 or largest < 0 else float(np.count_nonzero(v.numpy() == 0))
    if t is v:
        numbers[SATURATED] = _beyond_own(v, low, high, numbers)
    elif t is not None:
        numbers[SATURATED] = _beyond(t, low, high)
    return numbers


def _sums(v: torch.Tensor, extent: float) -> tuple[float, float, float]:
    """A number near the mean, or 0, and the sums of the deviations from it and of their squares.

    torch.dot is faster but strays by 1e-5 over a block; sum adds in a cascade.
    """
    total = v.sum().item()
    pilot = total / v.numel()
    room = room_for(v.numel(), v.dtype)
    # A spread that is small beside the mean is what the subtraction below would leave of few digits.
    if 2 * abs(pilot) < extent:
        square = torch.mul(v, v, out=room).sum().item()
        if square - total * pilot > 0.5 * square:
            return 0.0, total, square
    if not math.isfinite(pilot):
        return pilot, math.nan, math.nan
    if v.dtype is torch.float32:
        pilot = float(np.float32(pilot))
    shifted = torch.sub(v, pilot, out=room)
    total = shifted.sum().item()
    return pilot, total, shifted.square_().sum().item()


def _beyond(t: torch.Tensor, low: float, high: float) -> float:
    values, hits = t.numpy(), 0
    if low >= high:
        return float(np.count_nonzero(~np.isnan(values)))
    if low > -math.inf:
        hits += int(np.count_nonzero(values <= values.dtype.type(low)))
    if high < math.inf:
        hits += int(np.count_nonzero(values >= values.dtype.type(high)))
    return float(hits)


def _beyond_own(v: torch.Tensor, low: float, high: float, numbers: list[float]) -> float:
    """`_beyond` of a block whose extremes and zeros are known: a bound that no element reaches needs no look."""
    if low < numbers[MIN]:
        low = -math.inf
    if high > numbers[MAX]:
        high = math.inf
    if low == numbers[MIN] == 0 and high == math.inf:
        return numbers[ZEROS]
    return _beyond(v, low, high)


def _careful_block(v: torch.Tensor, t: torch.Tensor | None, low: float, high: float) -> list[float]:
    """The same in float64, over the finite elements; scaled, so that no square leaves the range."""
    count = v.numel()
    finite = torch.isfinite(v)
    numbers = _empty(t is not None)
    if t is not None:
        numbers[SATURATED] = _beyond(t[finite], low, high)
    v = v[finite].double()
    n = v.numel()
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
    return numbers


def _power_of_two(size: float) -> float:
    """A scale that brings numbers up to this size near 1 without touching their digits."""
    return math.ldexp(1.0, max(-1000, math.frexp(size)[1] - 1)) if size else 1.0


def dead_mask(cube: torch.Tensor, numbers: list[float]) -> torch.Tensor:
    """Which units of [outer, units, inner] are zero everywhere; writes how many there are of both into the row."""
    units = cube.shape[1]
    numbers[UNITS] = float(units)
    if cube.numel() == 0:
        return torch.ones(units, dtype=torch.bool)
    numbers[DEAD_UNITS] = 0.0
    if numbers[ZEROS] * units < cube.numel():
        return torch.zeros(units, dtype=torch.bool)
    if not cube.is_floating_point() or cube.dtype.itemsize == 1:
        cube = real(cube).abs()
    alive = _by_unit("amax", cube) != 0
    if numbers[MIN] < 0 or numbers[NONFINITE]:
        alive |= _by_unit("amin", cube) != 0
    numbers[DEAD_UNITS] = float(units - np.count_nonzero(alive))
    return torch.from_numpy(~alive)


def _by_unit(reduction: str, cube: torch.Tensor) -> NDArray[np.floating]:
    """amax or amin per unit; one dimension at a time, which is six times as fast as both at once."""
    inner = cube.view(cube.shape[:2]) if cube.shape[2] == 1 else getattr(cube, reduction)(2)
    return real(getattr(inner, reduction)(0)).numpy()


def spread(part: torch.Tensor) -> float:
    """Mean over features of the biased variance over samples, of [samples, features]."""
    values = real(part)
    shifted = torch.sub(values, values[0], out=room_for(values.numel(), values.dtype).view(values.shape))
    total = shifted.sum(0)
    square = shifted.square_().sum().item()
    excess = square - torch.dot(total, total).item() / len(values)
    # Where the first sample lies far from the others, their variance is what the subtraction leaves of few digits.
    if values.numel() * SMALLEST_SQUARE < square < math.inf and excess > 0.1 * square:
        return float(excess / values.numel())
    return float(sample_var(values.double()).item())
