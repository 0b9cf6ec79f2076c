"""Where measurements wait until the step ends: preallocated rows on the device of the tensors they describe."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from diag.stats.fields import WIDTH

_CHUNK = 512


class Buffer:
    """Rows of float64 numbers on one device, handed out in order and read back at once.

    addresses, arrays: of the rows that lie on the host, for `kind.Quick`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rows: list[torch.Tensor] = []
        self._blocks: list[torch.Tensor] = []
        self.used = 0
        self.addresses: list[int] = []
        self.arrays: list[NDArray[np.float64]] = []

    def row(self) -> torch.Tensor:
        """The next free row; what it holds is to be overwritten."""
        if self.used == len(self._rows):
            dtype = torch.float32 if self._device.type == "mps" else torch.float64
            # Not filled, which could come after what another stream writes.
            block = torch.empty((_CHUNK, WIDTH), dtype=dtype, device=self._device)
            self._blocks.append(block)
            self._rows += block.unbind(0)
            if block.is_cpu:
                self.arrays += list(block.numpy())
                self.addresses += range(block.data_ptr(), block.data_ptr() + 8 * WIDTH * _CHUNK, 8 * WIDTH)
        row = self._rows[self.used]
        self.used += 1
        return row

    def in_use(self) -> list[torch.Tensor]:
        """The rows in use, in pieces of shape (rows, WIDTH)."""
        full, rest = divmod(self.used, _CHUNK)
        return self._blocks[:full] + ([self._blocks[full][:rest]] if rest else [])

    def drain(self) -> list[torch.Tensor]:
        """The same; all are free again, and will be overwritten."""
        pieces = self.in_use()
        self.used = 0
        return pieces
