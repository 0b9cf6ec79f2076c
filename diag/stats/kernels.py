"""The numba kernels of the compiled path: one thread, blocks that stay in the first-level cache.

Nothing of diag is imported: numba keeps compiled code by the date of this file alone, constants of others included.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

BLOCK = 2048  # short enough for float32 sums, vector lanes apart, to stay within 3e-6
PROBED_ROWS = 16  # rows looked at unit by unit before whole rows are; most living units show by then

# Sums may be reordered into vector lanes; NaN and infinities keep their meaning, since they are looked for.
_SUMS = {"reassoc", "contract"}


def _jit(function: Any) -> Any:
    """Compile on first use and keep the code on disk, where the disk can be written."""
    options: dict[str, Any] = {"nogil": True, "fastmath": _SUMS, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)


@_jit
def _scan(x, bits, t, low, high, pilot):  # type: ignore[no-untyped-def]
    """Sum and sum of squares of x - pilot, least and greatest key, zeros and saturated of a block, in x's precision.

    Comparing floats does not vectorize, comparing integers does: a key is a float's bits, made to order as it does.
    """
    one, none = x.dtype.type(1), x.dtype.type(0)
    shift = bits.dtype.type(8 * x.itemsize - 1)
    flip = bits.dtype.type((1 << (8 * x.itemsize - 1)) - 1)
    total, square, zeros, saturated = none, none, none, none
    least, most = flip, bits.dtype.type(-flip - 1)
    for i in range(x.size):
        v = x[i]
        d = v - pilot
        total += d
        square += d * d
        key = bits.dtype.type(bits[i] ^ ((bits[i] >> shift) & flip))
        least = min(least, key)
        most = max(most, key)
        zeros += one if v == none else none
        saturated += one if (t[i] <= low) | (t[i] >= high) else none
    return np.float64(total), np.float64(square), least, most, np.float64(zeros), np.float64(saturated)


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
    silent = np.arange(units)
    left = units
    for o in range(min(outer, PROBED_ROWS)):
        kept = 0
        for j in range(left):
            u = silent[j]
            if bits.dtype.type(bits[o * units + u] << 1) == 0:
                silent[kept] = u
                kept += 1
        left = kept
    if left:
        for o in range(PROBED_ROWS, outer):
            for u in range(units):
                seen_by_unit[u] |= bits[o * units + u]
    dead[:] = 0
    for j in range(left):
        dead[silent[j]] = 1 if bits.dtype.type(seen_by_unit[silent[j]] << 1) == 0 else 0


@_jit
def _sample_variance(x, samples, features, adjacent):  # type: ignore[no-untyped-def]
    """Mean over features of the biased variance over samples, shifted by the first sample; both given by offset."""
    m = features.size
    total = np.zeros(m)
    square = np.zeros(m)
    first = np.empty(m)
    for j in range(m):
        first[j] = x[samples[0] + features[j]]
    for i in range(1, samples.size):
        if adjacent:
            part = x[samples[i] : samples[i] + m]
            for j in range(m):
                d = np.float64(part[j]) - first[j]
                total[j] += d
                square[j] += d * d
        else:
            for j in range(m):
                d = np.float64(x[samples[i] + features[j]]) - first[j]
                total[j] += d
                square[j] += d * d
    result = 0.0
    for j in range(m):
        result += square[j] - total[j] * total[j] / samples.size
    return max(0.0, result / (samples.size * m))


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
    return ends.view(x.dtype)


@_jit
def measure_flat(  # type: ignore[no-untyped-def]
    x, bits, t, low, high, outer, units, inner, dead, samples, features, adjacent
):
    """Fill dead and return (mean, m2, min, max, zeros, saturated, dead units, sample variance) of finite values.

    A NaN mean says that the values need the careful path: non-finite ones, or squares out of float64.

    x, bits (the same memory as integers) and t (to be compared with low and high) are flat, in the order of
    memory: [outer, units, inner]. dead is empty without units; samples and features are offsets, empty if
    not wanted; adjacent features are 0, 1, 2, ...
    """
    n = x.size
    nan = np.nan
    refused = (nan, nan, nan, nan, nan, nan, nan, nan)
    lowest, highest = _infinite_keys(x, bits)
    least, most = highest, lowest
    mean, m2, zeros, saturated = 0.0, 0.0, 0.0, 0.0
    pilot = x.dtype.type(x[: min(n, 64)].mean())
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        part = x[start:stop]
        total, square, low_key, high_key, no, flat = _scan(part, bits[start:stop], t[start:stop], low, high, pilot)
        if low_key <= lowest or high_key >= highest:
            return refused
        least, most = min(least, low_key), max(most, high_key)
        zeros += no
        saturated += flat
        center, spread = _block_moments(part, np.float64(pilot), total, square)
        share = (stop - start) / stop
        delta = center - mean
        mean += delta * share
        m2 += spread + delta * delta * (start * share)
        pilot = x.dtype.type(center)
    ends = _from_keys(least, most, x, bits)
    if ends[0] == ends[1]:
        mean, m2 = np.float64(ends[0]), 0.0
    elif not n * 1e-280 < m2 < np.inf:
        return refused
    dead_units, sample_variance = nan, nan
    if dead.size:
        if zeros * units < n:  # too few zeros for a single dead unit
            dead[:] = 0
            dead_units = 0.0
        else:
            _mark_dead(bits, outer, units, inner, dead)
            dead_units = np.float64(dead.sum())
    if samples.size:
        sample_variance = _sample_variance(x, samples, features, adjacent)
    least_value, most_value = np.float64(ends[0]) + 0.0, np.float64(ends[1]) + 0.0
    return mean, m2, least_value, most_value, zeros, saturated, dead_units, sample_variance
