"""Units dead over a window of steps: dead, sleeping, revived."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

Key = tuple[int, int]


class Silent(NamedTuple):
    """Of one step, which units were zero: sites and calls, how many units each has, their masks one after the other
    (in one tensor, if they are of one device), and those measured several times. on_host: no mask is of a device."""

    keys: tuple[Key, ...]
    sizes: list[int]
    masks: list[torch.Tensor]
    merged: set[Key]
    on_host: bool


@dataclass
class Death:
    """Tracks, per site and call, for how many steps each unit has been zero for every sample.

    A unit is dead once it was zero throughout `window` steps, sleeping while it is zero but not yet dead, and revived
    when it fires in the step although it had been dead before.
    """

    window: int = 10
    _masks: dict[Key, torch.Tensor] = field(default_factory=dict)
    _merged: set[Key] = field(default_factory=set)
    _slots: dict[Key, slice] = field(default_factory=dict)
    _places: dict[tuple[Key, ...], slice | np.ndarray] = field(default_factory=dict)
    _zero_steps: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    _revived: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    kept: list[tuple[int, tuple[Key, ...], list[int], np.ndarray]] | None = None
    """If a list: step, keys, sizes and packed masks of every step, for what other ranks will say of the same units."""

    def see(self, site: int, call: int, mask: torch.Tensor) -> None:
        """One measurement: `mask` is true for the units that were zero in it; in a step all must agree."""
        key = (site, call)
        before = self._masks.get(key)
        if before is None or before.shape != mask.shape:
            self._masks[key] = mask
        else:
            self._masks[key] = before & mask
            self._merged.add(key)

    def seal(self) -> Silent:
        """What was seen of the open step, and a new one begins."""
        masks = list(self._masks.values())
        sizes = [mask.numel() for mask in masks]
        on_host = all(mask.is_cpu for mask in masks)
        if not on_host and len({mask.device for mask in masks}) == 1:
            masks = [torch.cat(masks)]
        silent = Silent(tuple(self._masks), sizes, masks, self._merged, on_host)
        self._masks, self._merged = {}, set()
        return silent

    def end_step(self, step: int = 0) -> tuple[list[tuple[int, int, int, int, int, int]], dict[Key, int]]:
        """Close the step, waiting for the device; see `advance`."""
        silent = self.seal()
        return self.advance(step, silent, [mask.cpu().numpy() for mask in silent.masks])

    def advance(
        self, step: int, silent: Silent, masks: list[np.ndarray]
    ) -> tuple[list[tuple[int, int, int, int, int, int]], dict[Key, int]]:
        """Take in a sealed step, the next in order, and its masks as the host has them.

        Returns rows (site, call, units, dead, sleeping, revived), and the zero units of the sites that were
        measured several times.
        """
        if not silent.keys:
            return [], {}
        keys, sizes = silent.keys, silent.sizes
        zero = masks[0] if len(masks) == 1 else np.concatenate(masks)
        zero = zero.astype(bool, copy=False)
        if self.kept is not None:
            self.kept.append((step, keys, sizes, np.packbits(zero)))
        # All sites at once: a handful of operations on a long array takes as long as on a short one.
        zeros, dead, revived = (_sums(one, sizes) for one in (zero, *self._advance(self._place(keys, sizes), zero)))
        rows = [
            (*key, size, died, count - died, woken)
            for key, size, count, died, woken in zip(keys, sizes, zeros, dead, revived, strict=True)
        ]
        return rows, {key: count for key, count in zip(keys, zeros, strict=True) if key in silent.merged}

    def _advance(self, place: slice | np.ndarray, zero: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which units are dead and which revived, now that these were zero."""
        before = self._zero_steps[place]
        revived = (self._revived[place] | (before >= self.window)) & ~zero
        steps = (before + 1) * zero
        self._zero_steps[place], self._revived[place] = steps, revived
        return steps >= self.window, revived

    def _place(self, keys: tuple[Key, ...], sizes: list[int]) -> slice | np.ndarray:
        """Where the units of these sites stand, one after the other. A site whose width has changed begins anew."""
        changed = [
            (key, size)
            for key, size in zip(keys, sizes, strict=True)
            if (slot := self._slots.get(key)) is None or slot.stop - slot.start != size
        ]
        if changed:
            self._places.clear()
            for key, size in changed:
                start = len(self._zero_steps)
                self._slots[key] = slice(start, start + size)
                self._zero_steps = np.concatenate([self._zero_steps, np.zeros(size, np.int32)])
                self._revived = np.concatenate([self._revived, np.zeros(size, bool)])
        if keys not in self._places:
            if len(self._places) > 16:
                self._places.clear()
            slots = [self._slots[key] for key in keys]
            adjacent = all(one.stop == other.start for one, other in pairwise(slots))
            self._places[keys] = (
                slice(slots[0].start, slots[-1].stop)
                if adjacent
                else np.concatenate([np.arange(one.start, one.stop) for one in slots])
            )
        return self._places[keys]


def _sums(flags: np.ndarray, sizes: list[int]) -> list[int]:
    """How many flags are set in each of the parts."""
    total = np.concatenate([[0], np.cumsum(flags)])
    ends = np.cumsum(sizes)
    sums: list[int] = (total[ends] - total[ends - sizes]).tolist()
    return sums
