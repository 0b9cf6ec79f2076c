"""Tensors of one kind, of which what is to be known has to be found out only once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from diag.stats.layout import Saturation

Measured = torch.Tensor | None | Literal[False]
"""Which units are zero everywhere, None where there are none; False for a tensor that has not been measured."""
Quick = Callable[[torch.Tensor, int], Measured]
"""Measures a plain tensor into the row of an index, if it is of the plan's kind and compared with nothing but itself.

What a plan is asked in every step costs as much as a small tensor's numbers: to be asked of it are only these two."""

_PLAIN = (torch.Tensor, torch.nn.Parameter)


class Places(Protocol):
    """Rows of the host: where they lie, and as arrays."""

    addresses: list[int]
    arrays: list[NDArray[np.float64]]


def is_plain(x: torch.Tensor) -> bool:
    """Whether its elements simply lie in memory, the host's or a GPU's."""
    return type(x) in _PLAIN and x.layout is torch.strided and (x.is_cpu or x.is_cuda) and not x.is_neg()


class Kind:
    """Plain tensors of one shape, strides, dtype and place, with what is to be measured of them."""

    __slots__ = ("_bounds", "_dtype", "_is_contiguous", "_sample_dim", "_shape", "_strides", "_unit_dim", "_where")

    def __init__(
        self, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
    ) -> None:
        self._dtype, self._shape, self._strides = x.dtype, x.shape, x.stride()
        self._is_contiguous = x.is_contiguous()
        self._where = x.get_device()  # -1: the host
        self._unit_dim, self._sample_dim = unit_dim, sample_dim
        self._bounds = None if saturation is None else saturation[1:]

    def _holds(
        self, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
    ) -> bool:
        """Whether it is x's kind, and the same is asked of it; without a saturation there is less to measure."""
        if not (unit_dim == self._unit_dim and sample_dim == self._sample_dim and self._is_of(x)):
            return False
        if saturation is None:
            return True
        return saturation[1:] == self._bounds and (saturation[0] is x or self._is_of(saturation[0]))

    def _is_of(self, x: torch.Tensor) -> bool:
        return (
            x.dtype is self._dtype
            and x.shape == self._shape
            and x.get_device() == self._where
            and is_plain(x)
            and x.stride() == self._strides
        )
