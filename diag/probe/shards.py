"""The part of a distributed tensor that lies on this rank, and whether it counts beside those of the others."""

from __future__ import annotations

import functools
import sys
from typing import Any, NamedTuple

import torch


class Part(NamedTuple):
    """counts: this rank's part is no copy of one that another of `ranks` counts. units: they are divided among ranks.
    ranks: those over which the tensor is distributed."""

    counts: bool
    units: bool
    ranks: tuple[int, ...]


def as_dtensor(tensor: torch.Tensor) -> Any:
    """The tensor if it is a DTensor, else None; loads nothing that is not loaded."""
    module = sys.modules.get("torch.distributed.tensor")
    return tensor if module is not None and isinstance(tensor, module.DTensor) else None


def is_partial_sum(tensor: torch.Tensor) -> bool:
    """Whether the ranks hold addends whose sum nobody has computed yet."""
    whole = as_dtensor(tensor)
    return whole is not None and any(one.is_partial() for one in whole.placements)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What of it lies here; no communication."""
    whole = as_dtensor(tensor)
    part: torch.Tensor = tensor if whole is None else whole._local_tensor
    # What a collective has returned may still be on its way.
    return part.wait() if hasattr(part, "wait") and hasattr(part, "elem") else part


def part_of(tensor: torch.Tensor, unit_dim: int | None) -> Part | None:
    """How this rank's part stands to the others'; None for a tensor that is not distributed."""
    whole = as_dtensor(tensor)
    if whole is None:
        return None
    place = whole.device_mesh.get_coordinate() or [0] * len(whole.placements)
    copies = (index for index, one in zip(place, whole.placements, strict=True) if one.is_replicate())
    # Not `is_shard`, which a tensor that is divided twice over the same dimension denies.
    shards = [one for one in whole.placements if not (one.is_replicate() or one.is_partial())]
    sharded = {one.dim % tensor.ndim for one in shards} if tensor.ndim else set()
    units = unit_dim is not None and unit_dim % tensor.ndim in sharded
    return Part(not any(copies), units, ranks_of(whole.device_mesh))


@functools.cache
def ranks_of(mesh: Any) -> tuple[int, ...]:
    """The ranks of a mesh, in its order."""
    return tuple(mesh.mesh.flatten().tolist())
