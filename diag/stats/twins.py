"""Units that start alike and stay alike: equal rows of a weight."""

from __future__ import annotations

import math

import torch

from diag.stats.plain import real, strided, without_autocast

TWIN_LIMIT = 1 << 22  # elements of a weight that are looked at
BLOCK, DEVICE_BLOCK = 1 << 16, 1 << 18  # elements that are looked at together on the host; elsewhere, in few launches


def twin_rows(w: torch.Tensor) -> torch.Tensor:
    """How many rows of a weight exactly equal another row: units that start alike and stay alike.

    Rows are sorted by a fixed pseudo-random projection, so that equal ones become neighbors, and neighbors are
    compared element by element. Of more than TWIN_LIMIT elements only the first columns are looked at.

    Returns:
        float64, 0-dim, on the device of w; NaN for fewer than two dimensions and for empty weights.
    """
    with torch._C.DisableTorchFunction(), torch.no_grad(), without_autocast(w.device.type):
        if w.is_meta or w.ndim < 2 or w.numel() == 0:
            device = "cpu" if w.is_meta else w.device
            return torch.full((), math.nan, dtype=torch.float64, device=device)
        flat = strided(w.detach()).flatten(1)
        flat = flat[:, : max(1, TWIN_LIMIT // flat.shape[0])]
        if flat.is_complex():
            flat = torch.view_as_real(flat.resolve_conj()).flatten(1)
        key, largest = _projected(flat)
        key, order = torch.sort(key)
        # Equal rows may differ in the last digits of their projection: the sum's order depends on the row's place.
        near = (key[1:] - key[:-1]) <= 1e-9 * largest * flat.shape[1]
        if w.device.type == "cpu":
            return torch.tensor(_alike(flat, near, order), dtype=torch.float64)
        parts = zip(*(one.split(_rows(flat)) for one in (order[1:], order[:-1])), strict=True)
        alike = near & torch.cat([(flat[behind] == flat[before]).all(1) for behind, before in parts])
        edge = torch.zeros(1, dtype=torch.bool, device=w.device)
        return (torch.cat([edge, alike]) | torch.cat([alike, edge])).sum().double()


def _rows(flat: torch.Tensor) -> int:
    """How many rows are looked at together, so that copies of them take little memory."""
    return max(1, (BLOCK if flat.is_cpu else DEVICE_BLOCK) // flat.shape[1])


def _projected(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's projection, in float64, and the largest finite magnitude of all; some rows at a time."""
    place = torch.arange(1, flat.shape[1] + 1, dtype=torch.float64, device=flat.device)
    direction = torch.frac(torch.sin(place * 12.9898) * 43758.5453)
    keys, largest = [], []
    for part in flat.split(_rows(flat)):
        wide = real(part).double()
        keys.append(wide @ direction)
        largest.append(wide.nan_to_num(0.0, 0.0, 0.0).abs_().amax())
    return torch.cat(keys), torch.stack(largest).amax()


def _alike(flat: torch.Tensor, near: torch.Tensor, order: torch.Tensor) -> int:
    """How many rows equal a neighbor in this order; only those whose projections are near are compared."""
    places = near.nonzero().flatten()
    equal = torch.zeros(len(order), dtype=torch.bool)
    for some in places.split(_rows(flat)):
        same = (flat[order[some]] == flat[order[some + 1]]).all(1)
        equal[some[same]] = True
        equal[some[same] + 1] = True
    return int(equal.sum())
