"""Numbers on their way to the host: one copy per step and device, and on CUDA nobody waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

ASYNCHRONOUS = {"cuda"}
"""Device types whose copies run beside the host; of the others a copy is waited for."""


def _staging(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Host memory that a device can copy to beside its work."""
    return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=True)


def _event(device: torch.device) -> Any:
    """A mark in the device's work so far; whoever synchronizes with it knows that all before it is done."""
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event


class _Copy:
    """The tensors of one device in one flat host tensor."""

    def __init__(self, device: torch.device, tensors: Sequence[torch.Tensor]) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._shapes = [tuple(one.shape) for one in tensors]
        flat = torch.cat([one.reshape(-1).to(dtype) for one in tensors])
        self._event = None
        if device.type in ASYNCHRONOUS:
            self._host = _staging(flat.shape, dtype)
            self._host.copy_(flat, non_blocking=True)
            self._event = _event(device)
        else:
            self._host = flat.cpu()

    def arrays(self) -> list[np.ndarray]:
        if self._event is not None:
            self._event.synchronize()
        flat, parts, start = self._host.double().numpy(), [], 0
        for shape in self._shapes:
            size = int(np.prod(shape, dtype=np.int64))
            parts.append(flat[start : start + size].reshape(shape))
            start += size
        return parts


class Arrivals:
    """Real tensors of any devices, of which host arrays are wanted. late: some may still be on their way."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._arrays: list[np.ndarray | None] = [None] * len(tensors)
        places: dict[torch.device, list[int]] = {}
        for index, one in enumerate(tensors):
            if one.device.type == "cpu":
                self._arrays[index] = one.detach().numpy().copy()  # the host's rows are used anew before they are read
            else:
                places.setdefault(one.device, []).append(index)
        self._copies = [
            (indices, _Copy(device, [tensors[index] for index in indices])) for device, indices in places.items()
        ]
        self.late = any(device.type in ASYNCHRONOUS for device in places)

    def arrays(self) -> list[np.ndarray]:
        """All of them, in the order they were given; waits for those that are late. From devices as float64."""
        for indices, copy in self._copies:
            for index, one in zip(indices, copy.arrays(), strict=True):
                self._arrays[index] = one
        self._copies.clear()
        return [one for one in self._arrays if one is not None]
