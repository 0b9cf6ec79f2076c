"""How a tensor lies in memory, and which of its elements stand for its samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

Saturation = tuple[torch.Tensor, float, float]
"""A tensor and two bounds: its elements <= the first or >= the second are saturated."""

MAX_SAMPLES = 64
MAX_FEATURES = 256


def in_memory_order(x: torch.Tensor, unit_dim: int | None) -> tuple[torch.Tensor, list[int] | None]:
    """View x as [outer, units, inner] in the order of its memory; copies only what is not dense.

    Returns the contiguous view (units = 1 without unit_dim) and the permutation it took (None: none).
    """
    order: list[int] | None = None
    if not x.is_contiguous():
        strides = x.stride()
        order = sorted(range(x.ndim), key=lambda dim: -strides[dim])
        x = x.permute(order).contiguous()
    if unit_dim is None or x.ndim == 0:
        return x.reshape(1, 1, x.numel()), order
    place = unit_dim % x.ndim
    if order is not None:
        place = order.index(place)
    shape = x.shape
    return x.reshape(math.prod(shape[:place]), shape[place], math.prod(shape[place + 1 :])), order


@lru_cache(maxsize=4096)
def sample_steps(samples: int, features: int) -> tuple[int, int]:
    """Strides of the subsample: at most MAX_SAMPLES samples and MAX_FEATURES features of the flattened rest.

    The feature stride is odd, so that it does not walk down one column of an image whose sides are powers of two.
    """
    feature_step = -(-features // MAX_FEATURES)
    return max(1, -(-samples // MAX_SAMPLES)), max(1, feature_step | 1)


def sample_grid(x: torch.Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size and strides of the subsample [samples, features] of a contiguous tensor whose samples come first."""
    samples, features = x.shape[0], x.numel() // x.shape[0]
    sample_step, feature_step = sample_steps(samples, features)
    return (-(-samples // sample_step), -(-features // feature_step)), (features * sample_step, feature_step)


def subsample(x: torch.Tensor, sample_dim: int) -> torch.Tensor | None:
    """A bounded [samples, features] part of x; None where no variance over samples exists."""
    if x.ndim == 0 or x.numel() == 0 or x.shape[sample_dim] < 2:
        return None
    x = x.movedim(sample_dim, 0) if sample_dim % x.ndim else x
    if x.is_contiguous():
        return x.as_strided(*sample_grid(x))
    samples, features = x.shape[0], x.numel() // x.shape[0]
    sample_step, feature_step = sample_steps(samples, features)
    x = x[::sample_step]
    rest = torch.arange(0, features, feature_step, device=x.device)
    index: list[slice | torch.Tensor] = []
    for size in reversed(x.shape[1:]):
        index.append(rest % size)
        rest = rest // size
    everything: list[slice | torch.Tensor] = [slice(None)]
    return x[tuple(everything + index[::-1])] if index else x.unsqueeze(1)


def sample_offsets(
    shape: tuple[int, ...], strides: tuple[int, ...], sample_dim: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Where the elements that `subsample` takes lie in memory: offsets of samples, and of features in a sample.

    The third value says that the features lie side by side.
    """
    dims = list(range(len(shape)))
    place = dims.pop(sample_dim)
    samples, features = shape[place], math.prod(shape[dim] for dim in dims)
    if samples < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64), False
    sample_step, feature_step = sample_steps(samples, features)
    rest = np.arange(0, features, feature_step, dtype=np.int64)
    offsets = np.zeros_like(rest)
    for dim in reversed(dims):
        offsets += rest % shape[dim] * strides[dim]
        rest = rest // shape[dim]
    starts = np.arange(0, samples, sample_step, dtype=np.int64) * strides[place]
    return starts, offsets, bool(np.array_equal(offsets, np.arange(offsets.size)))


def laid_out(
    x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, float, float]:
    """x as [outer, units, inner] and flat in the order of its memory; what to compare with it, and which bounds."""
    cube, order = in_memory_order(x, unit_dim)
    flat = cube.view(-1)
    low, high = saturation[1:] if saturation is not None else (-math.inf, math.inf)
    return cube, flat, aligned(saturation, x, flat, order), low, high


def blocks(x: torch.Tensor, t: torch.Tensor | None, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Flat pieces of x and of t, the tensor to compare, in step."""
    for start in range(0, x.numel(), size):
        yield x[start : start + size], None if t is None else t[start : start + size]


def aligned(
    saturation: Saturation | None, x: torch.Tensor, flat: torch.Tensor, order: list[int] | None
) -> torch.Tensor | None:
    """The tensor to compare, flat, in the element order of flat (x itself, most of the time)."""
    if saturation is None:
        return None
    tensor = saturation[0]
    if tensor is x:
        return flat
    return (tensor if order is None else tensor.permute(order)).reshape(-1)
