"""A CUDA tensor measured in one launch (Triton, which comes with torch for CUDA) rather than some forty.

The launch's programs take pieces of the tensor for the moments, blocks of units to see which are dead, and blocks of
features for the variance over samples. The program that is done last puts the parts together.
"""

from __future__ import annotations

import triton
import triton.language as tl

MOST_PIECES = 2048
"""Programs for the moments of one tensor."""
PART = tl.constexpr(8)
"""Numbers that are kept of a piece; after those of all pieces, two are of each block of features."""


@triton.jit
def _moments(x, t, parts, n, low, high, piece, pieces, COMPARES: tl.constexpr, WIDE: tl.constexpr, TILE: tl.constexpr):
    """One piece's count of finite elements, mean, sum of squared deviations, extremes, zeros and saturated.

    Sums are of the deviations from the mean of the piece's beginning, each lane its own until the end. Only they are
    in float64, which few GPUs are fast in, and what float32 does not hold: WIDE.
    """
    exact: tl.constexpr = tl.float64 if WIDE else tl.float32
    place = piece * TILE + tl.arange(0, TILE)
    inside = place < n
    v = tl.load(x + place, mask=inside, other=0.0).to(exact)
    finite = inside & (tl.abs(v) < float("inf"))
    first = tl.where(finite, v, 0.0).to(tl.float64)
    pilot = tl.sum(first) / tl.maximum(tl.sum(finite.to(tl.int32)).to(tl.float64), 1.0)
    counts = tl.zeros((TILE,), tl.int32)
    zeros = tl.zeros((TILE,), tl.int32)
    beyond = tl.zeros((TILE,), tl.int32)
    sums = tl.zeros((TILE,), tl.float64)
    squares = tl.zeros((TILE,), tl.float64)
    smallest = tl.full((TILE,), float("inf"), exact)
    largest = tl.full((TILE,), float("-inf"), exact)
    for start in range(piece * TILE, n, pieces * TILE):
        place = start + tl.arange(0, TILE)
        inside = place < n
        v = tl.load(x + place, mask=inside, other=0.0).to(exact)
        finite = inside & (tl.abs(v) < float("inf"))
        shifted = tl.where(finite, v.to(tl.float64) - pilot, 0.0)
        counts += finite.to(tl.int32)
        sums += shifted
        squares += shifted * shifted
        smallest = tl.minimum(smallest, tl.where(finite, v, float("inf")))
        largest = tl.maximum(largest, tl.where(finite, v, float("-inf")))
        zeros += (inside & (v == 0.0)).to(tl.int32)
        if COMPARES:
            w = tl.load(t + place, mask=inside, other=0.0).to(exact)
            beyond += (finite & ((w <= low) | (w >= high))).to(tl.int32)
    count = tl.sum(counts).to(tl.float64)
    total = tl.sum(sums)
    some = tl.maximum(count, 1.0)
    at = parts + piece * PART
    tl.store(at, count)
    tl.store(at + 1, pilot + total / some)
    tl.store(at + 2, tl.maximum(tl.sum(squares) - total * (total / some), 0.0))
    tl.store(at + 3, tl.min(smallest).to(tl.float64))
    tl.store(at + 4, tl.max(largest).to(tl.float64))
    tl.store(at + 5, tl.sum(zeros).to(tl.float64))
    tl.store(at + 6, tl.sum(beyond).to(tl.float64))


@triton.jit
def _see_alive(x, alive, outer, units, inner, block, share, shares,
               OUTER: tl.constexpr, UNITS: tl.constexpr, INNER: tl.constexpr):  # fmt: skip
    """Mark which of a block of units of [outer, units, inner] are not zero somewhere in a share of the tensor."""
    u = block * UNITS + tl.arange(0, UNITS)
    real = u < units
    seen = tl.zeros((UNITS,), tl.int32)
    wanted = tl.sum(real.to(tl.int32))
    across = tl.cdiv(inner, INNER)
    tiles = tl.cdiv(outer, OUTER) * across
    tile = share
    while (tile < tiles) & (tl.sum(seen) < wanted):
        o = (tile // across) * OUTER + tl.arange(0, OUTER)
        i = (tile % across) * INNER + tl.arange(0, INNER)
        place = (o[:, None, None] * units + u[None, :, None]) * inner + i[None, None, :]
        inside = (o < outer)[:, None, None] & real[None, :, None] & (i < inner)[None, None, :]
        v = tl.load(x + place, mask=inside, other=0.0)
        seen = tl.maximum(seen, tl.max(tl.max((v != 0.0).to(tl.int32), axis=2), axis=0))
        tile += shares
    tl.store(alive + u, seen, mask=real & (seen > 0))


@triton.jit
def _spread(x, offsets, spreads, samples, features, block, SAMPLES: tl.constexpr, FEATURES: tl.constexpr):
    """Sum of the variances over samples of a block of features that are finite throughout, and how many those are.

    offsets: where the features lie in a sample; before them, where the samples begin.
    """
    s = tl.arange(0, SAMPLES)
    f = block * FEATURES + tl.arange(0, FEATURES)
    there = (s < samples)[:, None] & (f < features)[None, :]
    at_sample = tl.load(offsets + s, mask=s < samples, other=0)
    at_feature = tl.load(offsets + SAMPLES + f, mask=f < features, other=0)
    v = tl.load(x + at_sample[:, None] + at_feature[None, :], mask=there, other=0.0).to(tl.float64)
    first = tl.load(x + at_feature, mask=f < features, other=0.0).to(tl.float64)
    bad = tl.sum((there & ~(tl.abs(v) < float("inf"))).to(tl.int32), axis=0)
    good = (bad == 0) & (f < features)
    shifted = tl.where(there & good[None, :], v - first[None, :], 0.0)
    mean = tl.sum(shifted, axis=0) / samples
    apart = tl.where(there & good[None, :], shifted - mean[None, :], 0.0)
    tl.store(spreads + block * 2, tl.sum(apart * apart) / samples)
    tl.store(spreads + block * 2 + 1, tl.sum(good.to(tl.float64)))


@triton.jit
def _put_together(row, dead, parts, spreads, alive, n, pieces, units, blocks, COMPARES: tl.constexpr,
                  HAS_UNITS: tl.constexpr, PIECES: tl.constexpr, TILE: tl.constexpr, BLOCKS: tl.constexpr):  # fmt: skip
    """The row from all parts (of moments: Chan, Golub and LeVeque 1979), and the marks of units set back to zero."""
    nothing = float("nan")
    p = tl.arange(0, PIECES)
    at = parts + p * PART
    real = p < pieces
    counts = tl.load(at, mask=real, other=0.0, cache_modifier=".cg")
    means = tl.load(at + 1, mask=real, other=0.0, cache_modifier=".cg")
    squares = tl.load(at + 2, mask=real, other=0.0, cache_modifier=".cg")
    smallest = tl.min(tl.load(at + 3, mask=real, other=float("inf"), cache_modifier=".cg"))
    largest = tl.max(tl.load(at + 4, mask=real, other=float("-inf"), cache_modifier=".cg"))
    zeros = tl.sum(tl.load(at + 5, mask=real, other=0.0, cache_modifier=".cg"))
    beyond = tl.sum(tl.load(at + 6, mask=real, other=0.0, cache_modifier=".cg"))
    some = counts > 0
    count = tl.sum(counts)
    # From one of the means, so that pieces that are all alike have exactly that one.
    anchor = tl.max(tl.where(some, means, float("-inf")))
    anchor = tl.where(count > 0, anchor, 0.0)
    mean = anchor + tl.sum(tl.where(some, counts * (means - anchor), 0.0)) / tl.maximum(count, 1.0)
    gap = tl.where(some, means - mean, 0.0)
    size = tl.zeros((), tl.float64) + n
    tl.store(row, size)
    tl.store(row + 1, tl.where(count > 0, mean, nothing))
    tl.store(row + 2, tl.sum(squares + counts * gap * gap))
    tl.store(row + 3, tl.where(count > 0, smallest + 0.0, nothing))
    tl.store(row + 4, tl.where(count > 0, largest + 0.0, nothing))
    tl.store(row + 5, zeros)
    tl.store(row + 6, beyond if COMPARES else nothing)
    tl.store(row + 7, size - count)
    silent = tl.zeros((TILE,), tl.int32)
    if HAS_UNITS:
        for start in range(0, units, TILE):
            u = start + tl.arange(0, TILE)
            died = tl.load(alive + u, mask=u < units, other=1, cache_modifier=".cg") == 0
            tl.debug_barrier()  # a mark may be set back by another thread than the one that reads it
            tl.store(dead + u, died.to(tl.int8), mask=u < units)
            tl.store(alive + u, tl.zeros((TILE,), tl.int32), mask=u < units)
            silent += died.to(tl.int32)
    tl.store(row + 8, tl.zeros((), tl.float64) + units if HAS_UNITS else nothing)
    tl.store(row + 9, tl.sum(silent).to(tl.float64) if HAS_UNITS else nothing)
    b = tl.arange(0, BLOCKS)
    total = tl.sum(tl.load(spreads + b * 2, mask=b < blocks, other=0.0, cache_modifier=".cg"))
    good = tl.sum(tl.load(spreads + b * 2 + 1, mask=b < blocks, other=0.0, cache_modifier=".cg"))
    tl.store(row + 10, tl.where(good > 0, total / tl.maximum(good, 1.0), nothing))
    tl.store(row + 11, nothing)


# Compiled for every shape anew otherwise.
@triton.jit(do_not_specialize=(
    "n", "low", "high", "programs", "pieces", "outer", "units", "inner", "unit_blocks", "shares", "samples",
    "features", "blocks"))  # fmt: skip
def measure(x, t, row, dead, offsets, parts, alive, counter, n, low, high, programs, pieces, outer, units, inner,
            unit_blocks, shares, samples, features, blocks,
            COMPARES: tl.constexpr, HAS_UNITS: tl.constexpr, WIDE: tl.constexpr, TILE: tl.constexpr,
            PIECES: tl.constexpr,
            OUTER: tl.constexpr, UNITS: tl.constexpr, INNER: tl.constexpr,
            SAMPLES: tl.constexpr, FEATURES: tl.constexpr, BLOCKS: tl.constexpr):  # fmt: skip
    """What this program is to do, by its number; and the row, if it is the last one to be done."""
    program = tl.program_id(0)
    spreads = parts + PIECES * PART
    unit_programs = unit_blocks * shares
    if program < pieces:
        _moments(x, t, parts, n, low, high, program, pieces, COMPARES, WIDE, TILE)
    elif program < pieces + unit_programs:
        place = program - pieces
        _see_alive(x, alive, outer, units, inner, place // shares, place % shares, shares, OUTER, UNITS, INNER)
    else:
        _spread(x, offsets, spreads, samples, features, program - pieces - unit_programs, SAMPLES, FEATURES)
    tl.debug_barrier()  # all of this program's numbers are written before it is counted
    if tl.atomic_add(counter, 1, sem="acq_rel") == programs - 1:
        _put_together(row, dead, parts, spreads, alive, n, pieces, units, blocks,
                      COMPARES, HAS_UNITS, PIECES, TILE, BLOCKS)  # fmt: skip
        tl.store(counter, 0)
