"""Measure a CUDA tensor in two launches (Triton, which comes with torch for CUDA) rather than some forty.

The first launch does everything that reads the tensor: its programs take pieces of it for the moments, blocks of units
to see which are dead, and blocks of features for the variance over samples. The second puts the parts together.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl

from diag.stats.fields import WIDTH
from diag.stats.layout import MAX_SAMPLES, Saturation, in_memory_order, sample_grid

if WIDTH != 12:
    raise ImportError("the kernels write rows of 12 numbers")  # pragma: no cover

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TILE = 1024
MOST_PIECES = 512
LARGEST = 2**31 - TILE * (MOST_PIECES + 1)
"""Elements whose places, and one step beyond, fit 32 bits."""
_UNITS = 64
_FEATURES = 32


@triton.jit
def _merge(n0, mean0, square0, n1, mean1, square1):
    """Count, mean and sum of squared deviations of two parts together (Chan, Golub and LeVeque 1979)."""
    n = n0 + n1
    some = tl.maximum(n, 1.0)
    delta = mean1 - mean0
    return n, mean0 + delta * (n1 / some), square0 + square1 + delta * delta * (n0 * (n1 / some))


@triton.jit
def _of_nothing():
    """Count, mean, sum of squared deviations, extremes, zeros and saturated of no elements."""
    zero = tl.zeros((), tl.float64)
    smallest = tl.full((), float("inf"), tl.float64)
    largest = tl.full((), float("-inf"), tl.float64)
    return zero, zero, zero, smallest, largest, zero, zero


@triton.jit
def _moments(x, t, parts, n, low, high, piece, pieces, COMPARES: tl.constexpr, TILE: tl.constexpr):
    """One piece's count of finite elements, mean, sum of squared deviations, extremes, zeros and saturated."""
    count, mean, square, smallest, largest, zeros, beyond = _of_nothing()
    for start in range(piece * TILE, n, pieces * TILE):
        place = start + tl.arange(0, TILE)
        inside = place < n
        v = tl.load(x + place, mask=inside, other=0.0).to(tl.float64)
        finite = inside & (tl.abs(v) < float("inf"))
        here = tl.sum(finite.to(tl.float64))
        clean = tl.where(finite, v, 0.0)
        center = tl.sum(clean) / tl.maximum(here, 1.0)
        shifted = tl.where(finite, clean - center, 0.0)
        rest = tl.sum(shifted)
        spread = tl.maximum(tl.sum(shifted * shifted) - rest * (rest / tl.maximum(here, 1.0)), 0.0)
        center += rest / tl.maximum(here, 1.0)
        count, mean, square = _merge(count, mean, square, here, center, spread)
        smallest = tl.minimum(smallest, tl.min(tl.where(finite, v, float("inf"))))
        largest = tl.maximum(largest, tl.max(tl.where(finite, v, float("-inf"))))
        zeros += tl.sum((inside & (v == 0.0)).to(tl.float64))
        if COMPARES:
            w = tl.load(t + place, mask=inside, other=0.0).to(tl.float64)
            beyond += tl.sum((finite & ((w <= low) | (w >= high))).to(tl.float64))
    at = parts + piece * 8
    tl.store(at, count)
    tl.store(at + 1, mean)
    tl.store(at + 2, square)
    tl.store(at + 3, smallest)
    tl.store(at + 4, largest)
    tl.store(at + 5, zeros)
    tl.store(at + 6, beyond)


@triton.jit
def _dead(x, dead, outer, units, inner, block, UNITS: tl.constexpr, INNER: tl.constexpr):
    """Which of a block of units of [outer, units, inner] are zero everywhere; ends at their last sign of life."""
    u = block * UNITS + tl.arange(0, UNITS)
    real = u < units
    alive = tl.zeros((UNITS,), tl.int32)
    wanted = tl.sum(real.to(tl.int32))
    o = block * 0
    while (o < outer) & (tl.sum(alive) < wanted):
        for start in range(0, inner, INNER):
            i = start + tl.arange(0, INNER)
            place = (o * units + u)[:, None] * inner + i[None, :]
            v = tl.load(x + place, mask=real[:, None] & (i < inner)[None, :], other=0.0).to(tl.float64)
            alive = tl.maximum(alive, tl.max((v != 0.0).to(tl.int32), axis=1))
        o += 1
    tl.store(dead + u, (alive == 0).to(tl.int8), mask=real)


@triton.jit
def _spread(x, spreads, samples, features, sample_stride, feature_stride, block,
            SAMPLES: tl.constexpr, FEATURES: tl.constexpr):  # fmt: skip
    """Sum of the variances over samples of a block of features that are finite throughout, and how many those are."""
    s = tl.arange(0, SAMPLES)
    f = block * FEATURES + tl.arange(0, FEATURES)
    there = (s < samples)[:, None] & (f < features)[None, :]
    v = tl.load(x + s[:, None] * sample_stride + f[None, :] * feature_stride, mask=there, other=0.0).to(tl.float64)
    first = tl.load(x + f * feature_stride, mask=f < features, other=0.0).to(tl.float64)
    bad = tl.sum((there & ~(tl.abs(v) < float("inf"))).to(tl.int32), axis=0)
    good = (bad == 0) & (f < features)
    shifted = tl.where(there & good[None, :], v - first[None, :], 0.0)
    mean = tl.sum(shifted, axis=0) / samples
    apart = tl.where(there & good[None, :], shifted - mean[None, :], 0.0)
    tl.store(spreads + block * 2, tl.sum(apart * apart) / samples)
    tl.store(spreads + block * 2 + 1, tl.sum(good.to(tl.float64)))


@triton.jit
def _read(x, t, parts, dead, spreads, n, low, high, pieces, outer, units, inner, unit_blocks,
          samples, features, sample_stride, feature_stride,
          COMPARES: tl.constexpr, TILE: tl.constexpr, UNITS: tl.constexpr, INNER: tl.constexpr,
          SAMPLES: tl.constexpr, FEATURES: tl.constexpr):  # fmt: skip
    """What this program is to do, by its number."""
    program = tl.program_id(0)
    if program < pieces:
        _moments(x, t, parts, n, low, high, program, pieces, COMPARES, TILE)
    elif program < pieces + unit_blocks:
        _dead(x, dead, outer, units, inner, program - pieces, UNITS, INNER)
    else:
        _spread(x, spreads, samples, features, sample_stride, feature_stride, program - pieces - unit_blocks,
                SAMPLES, FEATURES)  # fmt: skip


@triton.jit
def _put_together(parts, dead, spreads, row, n, pieces, units, blocks,
                  COMPARES: tl.constexpr, HAS_UNITS: tl.constexpr, HAS_SAMPLES: tl.constexpr,
                  TILE: tl.constexpr):  # fmt: skip
    """The row from all parts."""
    nothing = float("nan")
    count, mean, square, smallest, largest, zeros, beyond = _of_nothing()
    for piece in range(pieces):
        at = parts + piece * 8
        count, mean, square = _merge(count, mean, square, tl.load(at), tl.load(at + 1), tl.load(at + 2))
        smallest = tl.minimum(smallest, tl.load(at + 3))
        largest = tl.maximum(largest, tl.load(at + 4))
        zeros += tl.load(at + 5)
        beyond += tl.load(at + 6)
    size = tl.zeros((), tl.float64) + n
    tl.store(row, size)
    tl.store(row + 1, tl.where(count > 0, mean, nothing))
    tl.store(row + 2, square)
    tl.store(row + 3, tl.where(count > 0, smallest + 0.0, nothing))
    tl.store(row + 4, tl.where(count > 0, largest + 0.0, nothing))
    tl.store(row + 5, zeros)
    tl.store(row + 6, beyond if COMPARES else nothing)
    tl.store(row + 7, size - count)
    silent = tl.zeros((), tl.float64)
    if HAS_UNITS:
        for start in range(0, units, TILE):
            u = start + tl.arange(0, TILE)
            silent += tl.sum(tl.load(dead + u, mask=u < units, other=0).to(tl.float64))
    tl.store(row + 8, tl.zeros((), tl.float64) + units if HAS_UNITS else nothing)
    tl.store(row + 9, silent if HAS_UNITS else nothing)
    total = tl.zeros((), tl.float64)
    good = tl.zeros((), tl.float64)
    if HAS_SAMPLES:
        for block in range(blocks):
            total += tl.load(spreads + block * 2)
            good += tl.load(spreads + block * 2 + 1)
    tl.store(row + 10, tl.where(good > 0, total / tl.maximum(good, 1.0), nothing))
    tl.store(row + 11, nothing)


def suits(
    row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> bool:
    """Whether the kernels read such a tensor: float32 or half, dense, not too large; samples first."""
    dense = x.numel() and x.ndim and torch.ops.aten.is_non_overlapping_and_dense(x)
    if not dense or x.dtype not in DTYPES or x.is_neg() or x.numel() > LARGEST or row.dtype is not torch.float64:
        return False
    if sample_dim is not None and x.shape[sample_dim] >= 2 and (sample_dim % x.ndim or not x.is_contiguous()):
        return False
    if saturation is None:
        return True
    t = saturation[0]
    return t.dtype in DTYPES and t.shape == x.shape and t.stride() == x.stride() and not t.is_neg()


def measure(
    row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> torch.Tensor | None:
    """`torch_path.measure_into` for a tensor that suits the kernels."""
    cube, _ = in_memory_order(x, unit_dim)
    outer, units, inner = cube.shape
    n = x.numel()
    pieces = min(MOST_PIECES, -(-n // (4 * TILE)))
    unit_blocks = 0 if unit_dim is None else -(-units // _UNITS)
    samples = features = blocks = sample_stride = feature_stride = 0
    if sample_dim is not None and x.shape[0] >= 2:
        (samples, features), (sample_stride, feature_stride) = sample_grid(x)
        blocks = -(-features // _FEATURES)
    compared, low, high = (x, -math.inf, math.inf) if saturation is None else saturation
    scratch = torch.empty(pieces * 8 + max(1, blocks) * 2, dtype=torch.float64, device=x.device)
    parts, spreads = scratch[: pieces * 8], scratch[pieces * 8 :]
    dead = torch.empty(max(1, units if unit_blocks else 1), dtype=torch.int8, device=x.device)
    compares = saturation is not None
    kernel: Any = _read
    kernel[(pieces + unit_blocks + blocks,)](
        x, compared, parts, dead, spreads, n, low, high, pieces, outer, units, inner, unit_blocks,
        samples, features, sample_stride, feature_stride,
        COMPARES=compares, TILE=TILE, UNITS=_UNITS, INNER=min(64, triton.next_power_of_2(inner)),
        SAMPLES=MAX_SAMPLES, FEATURES=_FEATURES,
    )  # fmt: skip
    kernel = _put_together
    kernel[(1,)](
        parts, dead, spreads, row, n, pieces, units, blocks,
        COMPARES=compares, HAS_UNITS=unit_blocks > 0, HAS_SAMPLES=blocks > 0, TILE=TILE,
    )  # fmt: skip
    return dead.view(torch.bool) if unit_blocks else None
