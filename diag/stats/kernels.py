"""The numba kernels of the compiled path: one thread, blocks that stay in the first-level cache.

Nothing of diag is imported: numba keeps compiled code by the date of this file alone, constants of others included.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

ASKED = np.dtype([("place", np.int64, 9), ("bounds", np.float64, 2)])
"""What is known of a tensor beforehand. place: it is [outer, units, inner] in the order of memory; the addresses of
dead (bool [units], filled; 0: not wanted), of the samples' offsets and how many (0: not wanted), of their features'
offsets and how many, and whether those are 0, 1, 2, ..."""
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


def _extreme(sign: str) -> Any:
    """The lesser or the greater of two floats, or either where one is NaN: only so is it found in vectors."""

    def either(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            free = ("nnan", "nsz")
            return builder.select(builder.fcmp_ordered(sign, *args, flags=free), *args, flags=free)

        return a(a, b), codegen

    return intrinsic(either)


_lesser: Any = _extreme("<")
_greater: Any = _extreme(">")


@_jit
def _scan(x, pilot):  # type: ignore[no-untyped-def]
    """Sum and sum of squares of x - pilot, least and greatest, and zeros of a block, in x's precision.

    Where the sum is not finite the extremes are not to be trusted.
    """
    one, none = x.dtype.type(1), x.dtype.type(0)
    total, square, zeros = none, none, none
    least, most = x[0], x[0]
    for i in range(x.size):
        v = x[i]
        d = v - pilot
        total += d
        square += d * d
        least = _lesser(v, least)
        most = _greater(v, most)
        zeros += one if v == none else none
    return np.float64(total), np.float64(square), least, most, np.float64(zeros)


@_jit
def _is_finite(bits):  # type: ignore[no-untyped-def]
    """Whether a block holds neither NaN nor infinities."""
    exponent = bits.dtype.type(0x7F800000 if bits.itemsize == 4 else 0x7FF0000000000000)
    for i in range(bits.size):  # noqa: SIM110 # which is not compiled
        if bits[i] & exponent == exponent:
            return False
    return True


@_jit
def _ends(x):  # type: ignore[no-untyped-def]
    """Least and greatest of a finite block."""
    return np.float64(x.min()), np.float64(x.max())


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
def _fast_variance(x, samples, m):  # type: ignore[no-untyped-def]
    """`_sample_variance` of adjacent features in x's precision; -1 where too few digits of it would be left."""
    first = x[samples[0] : samples[0] + m]
    total = np.zeros(m, dtype=x.dtype)
    square = 0.0
    for i in range(1, samples.size):
        part = x[samples[i] : samples[i] + m]
        of_row = x.dtype.type(0)
        for j in range(m):
            d = part[j] - first[j]
            total[j] += d
            of_row += d * d
        square += of_row
    excess = square
    for j in range(m):
        excess -= np.float64(total[j]) * np.float64(total[j]) / samples.size
    size = samples.size * m
    tiny = size * (1e-30 if x.itemsize == 4 else 1e-280)
    return excess / size if tiny < square < np.inf and excess > 0.1 * square else -1.0


@_jit
def _sample_variance(x, samples, features, adjacent):  # type: ignore[no-untyped-def]
    """Mean over features of the biased variance over samples, shifted by the first sample; both given by offset."""
    m = features.size
    if adjacent:
        found = _fast_variance(x, samples, m)
        if found >= 0:
            return found
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
def _measure(  # type: ignore[no-untyped-def]
    x, bits, t, low, high, outer, units, inner, dead, samples, features, adjacent, row
):
    """See `measure32`. x, bits (the same memory as integers) and t are flat; t, dead and samples may be empty."""
    n = x.size
    least, most = np.inf, -np.inf
    mean, m2, zeros, saturated = 0.0, 0.0, 0.0, 0.0
    pilot = x.dtype.type(x[: min(n, 64)].mean())
    # Of ReLU's output, where nothing is below 0, the saturated elements are the zeros.
    at_zero = t.size and t.ctypes.data == x.ctypes.data and low == 0.0 and np.isnan(high)
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        part = x[start:stop]
        total, square, lowest, highest, no = _scan(part, pilot)
        if not np.isfinite(total):
            if not _is_finite(bits[start:stop]):
                return -1
            lowest, highest = _ends(part)
        least, most = min(least, np.float64(lowest)), max(most, np.float64(highest))
        zeros += no
        if at_zero and lowest >= 0:
            saturated += no
        elif t.size:
            saturated += _beyond(t[start:stop], low, high)
        center, spread = _block_moments(part, np.float64(pilot), total, square)
        share = (stop - start) / stop
        delta = center - mean
        mean += delta * share
        m2 += spread + delta * delta * (start * share)
        pilot = x.dtype.type(center)
    smallest, largest = least + 0.0, most + 0.0
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
def _unpacked(asked):  # type: ignore[no-untyped-def]
    """What stands at the address of an `ASKED`."""
    place = _array(_pointer(asked), 9, np.int64)
    known = place[0], place[1], place[2], place[3], place[4], place[5], place[6], place[7], place[8] != 0
    return known, _array(_pointer(asked + 72), 2, np.float64)


@_jit
def measure32(x, t, asked, row):  # type: ignore[no-untyped-def]
    """Measure finite float32 values; returns how many units are dead, or -1 for values that need the careful path:
    non-finite ones, or squares beyond float64.

    All are addresses, since each argument costs the caller time: of x, of t (to be compared with the bounds; 0: not
    wanted), of an `ASKED` and of a row (float64, in the order of `fields`, filled).
    """
    (outer, units, inner, dead, samples, n_samples, features, n_features, adjacent), bounds = _unpacked(asked)
    n = outer * units * inner
    return _measure(
        _array(_pointer(x), n, np.float32), _array(_pointer(x), n, np.int32),
        _array(_pointer(t), n if t else 0, np.float32), np.float32(bounds[0]), np.float32(bounds[1]),
        outer, units, inner,
        _array(_pointer(dead), units if dead else 0, np.bool_),
        _array(_pointer(samples), n_samples, np.int64), _array(_pointer(features), n_features, np.int64),
        adjacent, _array(_pointer(row), 12, np.float64),
    )  # fmt: skip


@_jit
def measure64(x, t, asked, row):  # type: ignore[no-untyped-def]
    """As `measure32`, of float64."""
    (outer, units, inner, dead, samples, n_samples, features, n_features, adjacent), bounds = _unpacked(asked)
    n = outer * units * inner
    return _measure(
        _array(_pointer(x), n, np.float64), _array(_pointer(x), n, np.int64),
        _array(_pointer(t), n if t else 0, np.float64), bounds[0], bounds[1], outer, units, inner,
        _array(_pointer(dead), units if dead else 0, np.bool_),
        _array(_pointer(samples), n_samples, np.int64), _array(_pointer(features), n_features, np.int64),
        adjacent, _array(_pointer(row), 12, np.float64),
    )  # fmt: skip
