"""What measures one CUDA tensor after the other of the same kind by the kernel of `fused`, at little cost to the host.

Most steps on a GPU are as long as the host takes to launch them. So all that a launch is told is found out once, and
the compiled kernel is called by itself: Triton's own way looks at every argument again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diag.stats import fused
from diag.stats.fields import WIDTH
from diag.stats.kind import Kind, is_plain
from diag.stats.layout import MAX_FEATURES, MAX_SAMPLES, Saturation, in_memory_order, sample_offsets
from diag.stats.plain import rounded

if WIDTH != 12:
    raise ImportError("the kernel writes rows of 12 numbers")  # pragma: no cover

TILE = 1024
LARGEST = 2**31 - TILE * (fused.MOST_PIECES + 1)
"""Elements whose places, and one step beyond, fit 32 bits."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32)
_FEATURES = 32
_BLOCKS = MAX_FEATURES // _FEATURES
_FLAT = {"OUTER": 32, "UNITS": 64, "INNER": 1}
_DEEP = {"OUTER": 1, "UNITS": 16, "INNER": 128}
"""Tiles in which units are looked at, without and with further dimensions behind them."""
_TILES_EACH, _MOST_SHARES = 8, 64
_FEW_PIECES = 64
_nowhere = np.empty(0, np.int64), np.empty(0, np.int64), False
_ALIGNED = 15
"""Bits that are zero in the address of a tensor for which the kernel was compiled."""


class _Workspace(NamedTuple):
    """Memory of one stream, whose launches follow each other: parts; marks of units and a counter, between launches
    zero."""

    parts: torch.Tensor
    alive: torch.Tensor
    counter: torch.Tensor


_workspaces: dict[tuple[int, int], _Workspace] = {}


def _workspace(device: torch.device, stream: int, units: int) -> _Workspace:
    key = device.index, stream
    known = _workspaces.get(key)
    if known is None or len(known.alive) < units:
        size = fused.MOST_PIECES * fused.PART.value + 2 * _BLOCKS
        known = _workspaces[key] = _Workspace(
            torch.empty(size, dtype=torch.float64, device=device),
            torch.zeros(max(4096, 2 * units), dtype=torch.int32, device=device),
            torch.zeros(1, dtype=torch.int32, device=device),
        )
    return known


def _table(starts: NDArray[np.int64], places: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """Offsets of samples and features as the kernel reads them, sent without waiting."""
    table = torch.zeros(MAX_SAMPLES + _BLOCKS * _FEATURES, dtype=torch.int32, device="cpu")
    table[: len(starts)] = torch.from_numpy(starts)
    table[MAX_SAMPLES : MAX_SAMPLES + len(places)] = torch.from_numpy(places)
    return table if device.type == "cpu" else table.pin_memory().to(device, non_blocking=True)


def _stream(index: int) -> int:
    """The stream on which this thread works; 0 on the host, whose tensors Triton interprets.

    Launches go to the current device: of another device's tensor it is none, -1.
    """
    if index < 0:
        return 0
    if torch.cuda.current_device() != index:
        return -1
    stream: int = torch._C._cuda_getCurrentRawStream(index)
    return stream


class CudaPlan(Kind):
    """`torch_path.measure_into` for tensors of one shape, strides, dtype and device, on one stream.

    Called with what `measure_into` takes, it returns what that returns; or False, and the row untouched, for a tensor
    of another kind.
    """

    __slots__ = (
        "_compares", "_constants", "_direct", "_grid", "_here", "_launch", "_memory", "_numbers", "_places", "_units"
    )  # fmt: skip

    def __init__(
        self, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
    ) -> None:
        super().__init__(x, saturation, unit_dim, sample_dim)
        outer, units, inner = in_memory_order(x.detach(), unit_dim)[0].shape
        n, has_units = x.numel(), unit_dim is not None
        tiles = _DEEP if inner > 1 else _FLAT
        pieces = min(fused.MOST_PIECES, -(-n // (4 * TILE)))
        unit_blocks = -(-units // tiles["UNITS"]) if has_units else 0
        all_tiles = -(-outer // tiles["OUTER"]) * -(-inner // tiles["INNER"])
        shares = min(_MOST_SHARES, -(-all_tiles // _TILES_EACH))
        starts, places, _ = _nowhere if sample_dim is None else sample_offsets(x.shape, x.stride(), sample_dim)
        samples, features = len(starts), len(places)
        blocks = -(-features // _FEATURES)
        programs = pieces + unit_blocks * shares + blocks
        low, high = (-math.inf, math.inf) if saturation is None else saturation[1:]
        low, high = rounded(low, x.dtype), rounded(high, x.dtype)
        self._compares = saturation is not None
        self._units = units if has_units else 0
        self._grid = (programs, 1, 1)
        self._here = _stream(self._where)
        self._memory = (_table(starts, places, x.device), *_workspace(x.device, self._here, self._units))
        self._places = tuple(one.data_ptr() for one in self._memory)
        self._numbers = (
            n, low, high, programs, pieces, outer, units, inner, unit_blocks, shares, samples, features, blocks
        )  # fmt: skip
        self._constants = {
            "COMPARES": self._compares,
            "HAS_UNITS": has_units,
            "WIDE": not x.dtype.is_floating_point,
            "TILE": TILE,
            "PIECES": _FEW_PIECES if pieces <= _FEW_PIECES else fused.MOST_PIECES,
            **tiles,
            "SAMPLES": MAX_SAMPLES,
            "FEATURES": _FEATURES,
            "BLOCKS": _BLOCKS,
        }
        self._direct = tuple(self._constants.values())
        self._launch: Callable[..., Any] | None = None

    def __call__(
        self,
        row: torch.Tensor,
        x: torch.Tensor,
        saturation: Saturation | None,
        unit_dim: int | None,
        sample_dim: int | None,
    ) -> torch.Tensor | Literal[False] | None:
        """Measure x, if the plan is for its kind."""
        if (saturation is not None) is not self._compares or not self._holds(x, saturation, unit_dim, sample_dim):
            return False
        if _stream(self._where) != self._here:
            return False
        at = x.data_ptr()
        compared = at if saturation is None else saturation[0].data_ptr()
        mask = torch.empty(self._units, dtype=torch.bool, device=x.device) if self._units else None
        if self._launch is None or (at | compared) & _ALIGNED:
            return self._first(row, x, x if saturation is None else saturation[0], mask)
        dead = 0 if mask is None else mask.data_ptr()
        self._launch(
            at, compared, row.data_ptr(), dead, *self._places, *self._numbers, *self._direct, stream=self._here
        )
        return mask

    def _first(
        self, row: torch.Tensor, x: torch.Tensor, compared: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Launched by Triton, which compiles the kernel for what it has not met."""
        dead = self._memory[-1] if mask is None else mask.view(torch.int8)
        compiled = fused.measure[self._grid](x, compared, row, dead, *self._memory, *self._numbers, **self._constants)
        interpreted = compiled is None
        if not interpreted and not (x.data_ptr() | compared.data_ptr()) & _ALIGNED:
            self._launch = compiled[self._grid]
        return mask


class CopyPlan(Kind):
    """`CudaPlan` for tensors that have to be copied first, which costs a launch: those that are not dense, and those of
    small dtypes."""

    __slots__ = ("_plan",)

    def __init__(
        self, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
    ) -> None:
        super().__init__(x, saturation, unit_dim, sample_dim)
        self._plan = CudaPlan(*_copied(x, saturation), unit_dim, sample_dim)

    def __call__(
        self,
        row: torch.Tensor,
        x: torch.Tensor,
        saturation: Saturation | None,
        unit_dim: int | None,
        sample_dim: int | None,
    ) -> torch.Tensor | Literal[False] | None:
        """Measure x, if the plan is for its kind."""
        if not self._holds(x, None, unit_dim, sample_dim) or (saturation is None) is not (self._bounds is None):
            return False
        if saturation is not None and not (saturation[1:] == self._bounds and _alike(saturation[0], x)):
            return False
        return self._plan(row, *_copied(x, saturation), unit_dim, sample_dim)


def _alike(t: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether t can be compared element by element where x can be read."""
    return t is x or (t.shape == x.shape and t.dtype is x.dtype and t.device == x.device and is_plain(t))


def _copied(x: torch.Tensor, saturation: Saturation | None) -> tuple[torch.Tensor, Saturation | None]:
    copy = _copy(x)
    if saturation is None:
        return copy, None
    t, low, high = saturation
    return copy, (copy if t is x else _copy(t), rounded(low, x.dtype), rounded(high, x.dtype))


def _copy(x: torch.Tensor) -> torch.Tensor:
    return x.detach().to(x.dtype if x.dtype in DTYPES else torch.float32).contiguous()


def plan_for(
    row: torch.Tensor, x: torch.Tensor, saturation: Saturation | None, unit_dim: int | None, sample_dim: int | None
) -> CudaPlan | CopyPlan | None:
    """The plan for tensors like x; None for those that the kernel does not read: empty, too large, or of dtypes that
    neither it nor float32 holds."""
    if row.dtype is not torch.float64 or not is_plain(x) or not 0 < x.numel() <= LARGEST:
        return None
    if x.dtype not in DTYPES and (x.dtype.itemsize > 2 or x.dtype.is_complex):
        return None
    if saturation is not None and not _alike(saturation[0], x):
        return None
    as_it_is = x.dtype in DTYPES and torch.ops.aten.is_non_overlapping_and_dense(x)
    if saturation is not None:
        as_it_is = as_it_is and saturation[0].stride() == x.stride()
    return (CudaPlan if as_it_is else CopyPlan)(x, saturation, unit_dim, sample_dim)
