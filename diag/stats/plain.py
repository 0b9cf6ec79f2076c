"""Tensors and bounds as the measuring code wants them: strided, real, in a float that holds them exactly."""

from __future__ import annotations

import contextlib
import math
from functools import lru_cache

import torch

_WIDE_INTEGERS = (torch.int32, torch.int64, torch.uint32, torch.uint64)


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[object]:
    """A context in which operations keep the dtype they are given."""
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


@lru_cache(maxsize=1024)
def rounded(bound: float, dtype: torch.dtype) -> float:
    """The bound as a tensor of this dtype would hold it; integers hold it as it is."""
    if math.isinf(bound) or not dtype.is_floating_point or dtype == torch.float64:
        return bound
    return torch.tensor(bound, dtype=torch.float64, device="cpu").to(dtype).double().item()


def strided(x: torch.Tensor) -> torch.Tensor:
    """x with all its elements in place: quantized, sparse and other layouts made dense."""
    if x.is_quantized:
        return x.dequantize()
    return x if x.layout is torch.strided else x.to_dense()


def real(x: torch.Tensor) -> torch.Tensor:
    """x as float32 or float64, exact; complex by magnitude."""
    if x.dtype is torch.float32 or x.dtype is torch.float64:
        return x
    if x.is_complex():
        return x.to(torch.complex128).abs()
    return x.double() if x.dtype in _WIDE_INTEGERS else x.float()
