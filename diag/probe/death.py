"""Units dead over a window of steps: dead, sleeping, revived."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass
class _Units:
    zero_steps: np.ndarray
    dead: np.ndarray
    revived: np.ndarray


@dataclass
class Death:
    """Tracks, per site and call, for how many steps each unit has been zero for every sample.

    A unit is dead once it was zero throughout `window` steps, sleeping while it is zero but not yet dead, and revived
    when it fires in the step although it had been dead before.
    """

    window: int = 10
    _masks: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)
    _units: dict[tuple[int, int], _Units] = field(default_factory=dict)
    _merged: set[tuple[int, int]] = field(default_factory=set)

    def see(self, site: int, call: int, mask: torch.Tensor) -> None:
        """One measurement: `mask` is true for the units that were zero in it; in a step all must agree."""
        key = (site, call)
        before = self._masks.get(key)
        if before is None or before.shape != mask.shape:
            self._masks[key] = mask
        else:
            self._masks[key] = before & mask
            self._merged.add(key)

    def end_step(self) -> tuple[list[tuple[int, int, int, int, int, int]], dict[tuple[int, int], int]]:
        """Close the step.

        Returns rows (site, call, units, dead, sleeping, revived), and the zero units of the sites that were
        measured several times.
        """
        if not self._masks:
            return [], {}
        keys = list(self._masks)
        sizes = [self._masks[key].numel() for key in keys]
        devices = {mask.device for mask in self._masks.values()}
        if len(devices) == 1:
            flat = torch.cat(list(self._masks.values())).cpu().numpy()
            parts = np.split(flat, np.cumsum(sizes)[:-1])
        else:
            parts = [self._masks[key].cpu().numpy() for key in keys]
        rows = [(*key, *self._advance(key, zero)) for key, zero in zip(keys, parts, strict=True)]
        joint = {key: int(parts[keys.index(key)].sum()) for key in self._merged}
        self._masks.clear()
        self._merged.clear()
        return rows, joint

    def _advance(self, key: tuple[int, int], zero: np.ndarray) -> tuple[int, int, int, int]:
        units = self._units.get(key)
        if units is None or units.zero_steps.size != zero.size:
            units = _Units(np.zeros(zero.size, np.int32), np.zeros(zero.size, bool), np.zeros(zero.size, bool))
            self._units[key] = units
        revived = units.dead & ~zero
        units.revived |= revived
        units.revived &= ~zero
        units.zero_steps = np.where(zero, units.zero_steps + 1, 0)
        units.dead = units.zero_steps >= self.window
        dead = int(units.dead.sum())
        return zero.size, dead, int(zero.sum()) - dead, int(units.revived.sum())
