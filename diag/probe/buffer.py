"""Where measurements wait until the step ends: preallocated rows on the device of the tensors they describe."""

from __future__ import annotations

import numpy as np
import torch

from diag.stats.fields import WIDTH

_CHUNK = 512


class Buffer:
    """Rows of float64 numbers on one device, handed out in order and read back at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._chunks: list[list[torch.Tensor]] = []
        self._blocks: list[torch.Tensor] = []
        self.used = 0

    def row(self) -> torch.Tensor:
        """The next free row; what it holds is to be overwritten."""
        if self.used == len(self._blocks) * _CHUNK:
            dtype = torch.float32 if self._device.type == "mps" else torch.float64
            block = torch.full((_CHUNK, WIDTH), torch.nan, dtype=dtype, device=self._device)
            self._blocks.append(block)
            self._chunks.append(list(block.unbind(0)))
        row = self._chunks[self.used // _CHUNK][self.used % _CHUNK]
        self.used += 1
        return row

    def drain(self) -> np.ndarray:
        """The rows in use, shape (rows, WIDTH); then all are free again. The one synchronization of a step."""
        used = (self.used + _CHUNK - 1) // _CHUNK
        left = self.used
        parts = [np.empty((0, WIDTH))]
        for block in self._blocks[:used]:
            parts.append(block[:left].cpu().double().numpy())
            left -= _CHUNK
        rows = np.concatenate(parts)
        self.used = 0
        return rows
