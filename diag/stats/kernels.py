"""The numba kernels of the compiled path: one thread, blocks that stay in the first-level cache.

Nothing of diag is imported: numba keeps compiled code by the date of this file alone, constants of others included.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

BLOCK = 2048  # short enough for float32 sums, vector lanes apart, to stay within 3e-6
PROBED_ROWS = 16  # rows after which it is asked whether every unit has shown life; most have by then

# Sums may be reordered into vector lanes; NaN and infinities keep their meaning, since they are looked for.
_SUMS = {"reassoc", "contract"}


def _jit(function: Any) -> Any:
    """Compile on first use and keep the code on disk, where the disk can be written."""
    options: dict[str, Any] = {"nogil": True, "fastmath": _SUMS, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)


def _as_pointer(typingctx: Any, address: Any) -> Any:
    """An address as a pointer: to be given one costs a tenth of what it costs to be given an array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(address), codegen


_pointer: Any = intrinsic(_as_pointer)
_array: Any = numba.carray  # type: ignore[attr-defined]


@_jit
def _scan(x, bits, pilot):  # type: ignore[no-untyped-def]
    """Sum and sum of squares of x - pilot, least and greatest key, and zeros of a block, in x's precision.

    Comparing floats does not vectorize, comparing integers does: a key is a float's bits, made to order as it does.
    """
    one, none, still = x.dtype.type(1), x.dtype.type(0), bits.dtype.type(0)
    flip = bits.dtype.type((1 << (8 * x.itemsize - 1)) - 1)
    total, square, zeros = none, none, none
    least, most = flip, bits.dtype.type(-flip - 1)
    for i in range(x.size):
        v = x[i]
        d = v - pilot
        total += d
        square += d * d
        key = bits.dtype.type(bits[i] ^ (flip if bits[i] < still else still))
        least = min(least, key)
        most = max(most, key)
        zeros += one if v == none else none
    return np.float64(total), np.float64(square), least, most, np.float64(zeros)


@_jit
def _beyond(t, low, high):  # type: ignore[no-untyped-def]
    """How many elements of a block are at or below low, or at or above high."""
    one, none = t.dtype.type(1), t.dtype.type(0)
    count = none
    for i in range(t.size):
        count += one if (t[i] <= low) | (t[i] >= high) else none
    return np.float64(count)


@_jit
def _block_moments(x, pilot, total, square):  # type: ignore[no-untyped-def]
    """Mean and m2 of a block from its sums about the pilot, or anew in float64 where those have lost digits."""
    size = x.size
    m2 = square - total * total / size
    tiny = size * (1e-30 if x.itemsize == 4 else 1e-280)  # below it, squares underflow
    if np.isfinite(m2) and m2 > tiny and m2 > 0.5 * square:
        return pilot + total / size, m2
    pilot += total / size
    if not np.isfinite(pilot):
        pilot = 0.0
    pilot += _spread(x, pilot)[0] / size
    total, square = _spread(x, pilot)
    return pilot + total / size, max(0.0, square - total * total / size)


@_jit
def _spread(x, pilot):  # type: ignore[no-untyped-def]
    """Sum and sum of squares of x - pilot, in float64."""
    total, square = 0.0, 0.0
    for i in range(x.size):
        d = np.float64(x[i]) - pilot
        total += d
        square += d * d
    return total, square


@_jit
def _mark_dead(bits, outer, units, inner, dead):  # type: ignore[no-untyped-def]
    """dead[u] = 1 where unit u of [outer, units, inner] is +-0 everywhere; stops at the first sign of life."""
    if inner > 1:
        for u in range(units):
            dead[u] = 1
            for o in range(outer):
                seen = bits.dtype.type(0)
                start = (o * units + u) * inner
                for i in range(start, start + inner):
                    seen |= bits[i]
                if bits.dtype.type(seen << 1) != 0:
                    dead[u] = 0
                    break
        return
    seen_by_unit = np.zeros(units, dtype=bits.dtype)
    for start in range(0, outer, PROBED_ROWS):
        for o in range(start, min(outer, start + PROBED_ROWS)):
            row = bits[o * units : (o + 1) * units]
            for u in range(units):
                seen_by_unit[u] |= row[u]
        silent = 0
        for u in range(units):
            silent += 1 if bits.dtype.type(seen_by_unit[u] << 1) == 0 else 0
        if not silent:
            break
    for u in range(units):
        dead[u] = bits.dtype.type(seen_by_unit[u] << 1) == 0


@_jit
def _sample_variance(x, samples, features, adjacent):  # type: ignore[no-untyped-def]
    """Mean over features of the biased variance over samples, shifted by the first sample; both given by offset."""
    m = features.size
    first = np.empty(m)
    for j in range(m):
        first[j] = x[samples[0] + features[j]]
    total = np.zeros(m)
    square = 0.0
    for i in range(1, samples.size):
        if adjacent:
            part = x[samples[i] : samples[i] + m]
            for j in range(m):
                d = np.float64(part[j]) - first[j]
                total[j] += d
                square += d * d
        else:
            for j in range(m):
                d = np.float64(x[samples[i] + features[j]]) - first[j]
                total[j] += d
                square += d * d
    for j in range(m):
        square -= total[j] * total[j] / samples.size
    return max(0.0, square / (samples.size * m))


@_jit
def _infinite_keys(x, bits):  # type: ignore[no-untyped-def]
    """The keys of -inf and inf; those of NaN lie beyond."""
    ends = np.array([-np.inf, np.inf]).astype(x.dtype).view(bits.dtype)
    flip = bits.dtype.type((1 << (8 * x.itemsize - 1)) - 1)
    return bits.dtype.type(ends[0] ^ flip), ends[1]


@_jit
def _from_keys(least, most, x, bits):  # type: ignore[no-untyped-def]
    """The floats whose keys these are."""
    ends = np.array([least, most]).astype(bits.dtype)
    flip = bits.dtype.type((1 << (8 * x.itemsize - 1)) - 1)
    for i in range(2):
        ends[i] ^= (ends[i] >> bits.dtype.type(8 * x.itemsize - 1)) & flip
    floats = ends.view(x.dtype)
    return np.float64(floats[0]) + 0.0, np.float64(floats[1]) + 0.0


@_jit
def _measure(  # type: ignore[no-untyped-def]
    x, bits, t, low, high, outer, units, inner, dead, samples, features, adjacent, row
):
    """See `measure32`. x, bits (the same memory as integers) and t are flat; t, dead and samples may be empty."""
    n = x.size
    lowest, highest = _infinite_keys(x, bits)
    least, most = highest, lowest
    mean, m2, zeros, saturated = 0.0, 0.0, 0.0, 0.0
    pilot = x.dtype.type(x[: min(n, 64)].mean())
    # Of ReLU's output, where nothing is below 0, the saturated elements are the zeros.
    at_zero = t.size and t.ctypes.data == x.ctypes.data and low == 0.0 and np.isnan(high)
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        part = x[start:stop]
        total, square, low_key, high_key, no = _scan(part, bits[start:stop], pilot)
        if low_key <= lowest or high_key >= highest:
            return -1
        least, most = min(least, low_key), max(most, high_key)
        zeros += no
        if at_zero and low_key >= 0:
            saturated += no
        elif t.size:
            saturated += _beyond(t[start:stop], low, high)
        center, spread = _block_moments(part, np.float64(pilot), total, square)
        share = (stop - start) / stop
        delta = center - mean
        mean += delta * share
        m2 += spread + delta * delta * (start * share)
        pilot = x.dtype.type(center)
    smallest, largest = _from_keys(least, most, x, bits)
    if smallest == largest:
        mean, m2 = smallest, 0.0
    elif not n * 1e-280 < m2 < np.inf:
        return -1
    row[:] = np.nan
    row[0], row[1], row[2], row[3], row[4] = n, mean, m2, smallest, largest
    row[5], row[7] = zeros, 0.0
    if t.size:
        row[6] = saturated
    found = 0
    if dead.size:
        if zeros * units < n:  # too few zeros for a single dead unit
            dead[:] = 0
        else:
            _mark_dead(bits, outer, units, inner, dead)
            found = dead.sum()
        row[8], row[9] = units, found
    if samples.size:
        row[10] = _sample_variance(x, samples, features, adjacent)
    return found


@_jit
def measure32(  # type: ignore[no-untyped-def]
    x, t, low, high, outer, units, inner, dead, samples, n_samples, features, n_features, adjacent, row
):
    """Measure finite float32 values; returns how many units are dead, or -1 for values that need the careful path:
    non-finite ones, or squares beyond float64.

    x, t (to be compared with low and high), dead (bool [units], filled), samples, features (offsets, int64) and row
    (float64, in the order of `fields`, filled) are addresses; t, dead and samples are 0 where they are not wanted.
    x is [outer, units, inner] in the order of memory; adjacent features are 0, 1, 2, ...
    """
    n = outer * units * inner
    return _measure(
        _array(_pointer(x), n, np.float32), _array(_pointer(x), n, np.int32),
        _array(_pointer(t), n if t else 0, np.float32), np.float32(low), np.float32(high), outer, units, inner,
        _array(_pointer(dead), units if dead else 0, np.bool_),
        _array(_pointer(samples), n_samples, np.int64), _array(_pointer(features), n_features, np.int64),
        adjacent, _array(_pointer(row), 12, np.float64),
    )  # fmt: skip


@_jit
def measure64(  # type: ignore[no-untyped-def]
    x, t, low, high, outer, units, inner, dead, samples, n_samples, features, n_features, adjacent, row
):
    """As `measure32`, of float64."""
    n = outer * units * inner
    return _measure(
        _array(_pointer(x), n, np.float64), _array(_pointer(x), n, np.int64),
        _array(_pointer(t), n if t else 0, np.float64), low, high, outer, units, inner,
        _array(_pointer(dead), units if dead else 0, np.bool_),
        _array(_pointer(samples), n_samples, np.int64), _array(_pointer(features), n_features, np.int64),
        adjacent, _array(_pointer(row), 12, np.float64),
    )  # fmt: skip
