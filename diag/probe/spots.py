"""Where outputs are recorded, and which of their dimensions are units and samples."""

from __future__ import annotations

import torch

from diag.probe.frames import Frame, Spot, sample_dim_of
from diag.probe.sites import Site, Sites, unit_dim_of
from diag.trace.shapes import shape_text

_LAYERS = ("layer", "normalization", "recurrent", "embedding")


class Spots:
    """Finds the spot of an output; remembers the dimension of the units in the shapes that layers have put out."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._layouts: dict[tuple[int, ...], int | None] = {}

    def find(self, frame: Frame, suffix: str, op: str, role: str, tensor: torch.Tensor) -> Spot:
        """The spot of this tensor, at a site that is met for the first time or is known."""
        site = self._sites.get(frame.root, frame.path, suffix)
        if site is None:
            site = self._new_site(frame, suffix, op, role, tensor)
        shape = tuple(tensor.shape)
        known = role in _LAYERS or shape in self._layouts
        unit_dim = unit_dim_of(op, tensor, self._layouts)
        if role in _LAYERS:
            self._layouts[shape] = unit_dim
        spot = Spot(site, tensor.shape, tensor.device, unit_dim, sample_dim_of(frame.module, suffix, tensor, unit_dim))
        # A layer that is yet to come may tell the dimension of the units.
        if known:
            frame.spots[suffix] = spot
        return spot

    def _new_site(self, frame: Frame, suffix: str, op: str, role: str, tensor: torch.Tensor) -> int:
        trainable = any(p.requires_grad for p in frame.module.parameters(recurse=frame.leaf and frame.opaque))
        module, shape = type(frame.module).__name__, shape_text(tensor.shape)
        return self._sites.add(Site(frame.root, frame.path, suffix, "output", module, op, role, trainable, shape=shape))
