"""Which ranks train one model, and how they divide the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diag.probe.shards import as_dtensor, ranks_of

if TYPE_CHECKING:
    from diag.probe.probe import Probe

KNOWN = "known to be shared with other ranks by data parallelism, by tensor parallelism, or by both with `fully_shard`"


@dataclass(frozen=True)
class Sharing:
    """Which ranks train one model. parties: of each rank, which part of the batch it has; gradients are averaged over
    parts. Ranks that have the same one divide its computation among them, by tensor parallelism."""

    ranks: tuple[int, ...]
    parties: tuple[int, ...]

    @property
    def batches(self) -> int:
        """Into how many parts the batch is divided."""
        return len(set(self.parties))


def sharing_of(probe: Probe) -> Sharing | None:
    """How the watched models are shared; None where they are not, or in a way that is not known."""
    roots = [root.model for root in probe.sites.roots]
    whole = [one for root in roots for one in map(as_dtensor, root.parameters()) if one is not None]
    if probe.sites.data_ranks is not None:
        ranks = probe.sites.data_ranks
        return None if whole else Sharing(ranks, tuple(range(len(ranks))))
    if not whole:
        return None
    meshes = {ranks_of(one) for root in roots for module in root.modules() for one in _data_meshes(module)}
    largest = max((one.device_mesh for one in whole), key=lambda mesh: mesh.size())
    if len(meshes) > 1:
        return None
    parties = _parties(largest.mesh, set(*meshes))
    return None if parties is None else Sharing(*zip(*sorted(parties.items()), strict=True))


def _parties(mesh: Any, together: set[int]) -> dict[int, int] | None:
    """Of each rank of a mesh its part of the batch. together: ranks of which each has one; none: all have the same."""
    places = _places(mesh)
    if not together:
        return dict.fromkeys(places, 0)
    if not together <= places.keys():
        return None
    divides = [dim for dim in range(mesh.ndim) if len({places[rank][dim] for rank in together}) > 1]
    seen: dict[tuple[int, ...], int] = {}
    parties = {rank: seen.setdefault(tuple(place[dim] for dim in divides), len(seen)) for rank, place in places.items()}
    return parties if len(seen) == len(together) else None


def _places(mesh: Any) -> dict[int, tuple[int, ...]]:
    """Every rank's coordinates."""
    return {int(mesh[tuple(place)]): tuple(place) for place in (mesh >= 0).nonzero().tolist()}


def _data_meshes(module: Any) -> list[Any]:
    """The meshes over which `fully_shard` divides the batch, of what it shards at this module."""
    if not hasattr(module, "set_reshard_after_forward"):
        return []
    state = module._get_fsdp_state()
    groups = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]
    return [one.mesh_info.mesh for one in groups if one is not None]
