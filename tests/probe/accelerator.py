"""An accelerator made of software: tensors that lie on another device and run there, and what waits for it.

The numbers are computed on the CPU, but only through tensors whose device is `soft`: an operation that mixes
them with the host's fails as it does on a GPU, and every one that would make the host wait is written down. The
backward pass runs in a thread of its own, as it does there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = "soft:0"
_READS = "_local_scalar_dense nonzero masked_select is_nonzero equal unique _unique2 repeat_interleave".split()
_COPIES = ("_to_copy", "copy_")

waits: list[str] = []
"""What made the host wait, in order."""
operations: list[str] = []
"""Everything that ran on the device: a launch each."""
_in_flight: list[tuple[torch.Tensor, torch.Tensor]] = []


class Event:
    """A mark in the device's work: copies that were begun before it have arrived when it is synchronized with."""

    def __init__(self, device: torch.device) -> None:
        self._copies = list(_in_flight)
        _in_flight.clear()

    def synchronize(self) -> None:
        """Let the copies arrive."""
        for target, source in self._copies:
            target.copy_(source)


class OnDevice(torch.Tensor):
    """A tensor of the accelerator; `held` is where its numbers really are."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnDevice:
        like = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, **like, device=DEVICE)
        made.held = held
        return made

    def __init__(self, held: torch.Tensor) -> None:
        pass

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def _is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == "soft"


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on whichever side its tensors are."""
    name = func.overloadpacket.__name__
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    ours = [one for one in tensors if isinstance(one, OnDevice)]
    theirs = [one for one in tensors if not isinstance(one, OnDevice) and one.ndim]
    if (
        name == "copy_"
        and ours
        and not isinstance(args[0], OnDevice)
        and (kwargs.get("non_blocking") or args[2:] == (True,))
    ):
        operations.append(name)
        _in_flight.append((args[0], args[1].held.clone()))
        return args[0].fill_(torch.nan)  # whoever reads it too early sees that
    target = kwargs.get("device")
    to_device = _is_ours(target) or (bool(ours) and target is None)
    if not ours and not to_device:
        return func(*args, **{key: one for key, one in kwargs.items() if key != "pin_memory"})
    if name in _READS:
        waits.append(name)
    elif name in ("index", "index_put", "index_put_") and any(
        one is not None and (one.dtype is torch.bool or not isinstance(one, OnDevice)) for one in args[1]
    ):
        waits.append(f"{name} with a mask or an index of the host")
    elif name in _COPIES:
        if bool(ours) != to_device or theirs:
            waits.append(f"{name} between host and device")
    elif theirs:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    operations.append(name)
    held_args, held_kwargs = tree_map_only(OnDevice, lambda one: one.held, (args, dict(kwargs)))
    if target is not None:
        held_kwargs["device"] = "cpu"
    out = func(*held_args, **held_kwargs)
    if not to_device:
        return tree_map_only(torch.Tensor, lambda one: one.clone(), out)
    wrapped = tree_map_only(torch.Tensor, OnDevice, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if ours else wrapped


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


@contextmanager
def accelerator() -> Iterator[None]:
    """Inside, `device=DEVICE` makes tensors of the accelerator. Only for a process of its own: torch keeps it."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend("soft")
    with _Mode():
        yield
