"""The tensors inside whatever a module returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch._C._functorch import is_functorch_wrapped_tensor, peek_interpreter_stack
from torch._subclasses.fake_tensor import FakeTensor

from diag.probe.shards import is_partial_sum

_DEPTH = 6


def find_tensors(value: Any, path: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, torch.Tensor]]:
    """Every floating or complex tensor inside, with where it was: `[1][0]`, `[logits]`."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() or value.is_complex():
            yield path, value
    elif depth == 0 or value is None:
        return
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from find_tensors(one, f"{path}[{key}]", depth - 1)
    elif isinstance(value, (tuple, list)):
        for index, one in enumerate(value):
            yield from find_tensors(one, f"{path}[{index}]", depth - 1)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from find_tensors(getattr(value, field.name, None), f"{path}[{field.name}]", depth - 1)


def find_inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every floating or complex tensor that a call is given, with the suffix of its site: `:input`, `:input.1[0]`."""
    for name, value in (*((str(place or ""), one) for place, one in enumerate(args)), *kwargs.items()):
        for where, tensor in find_tensors(value):
            yield ":input" + (f".{name}" if name else "") + where, tensor


def leaves(args: tuple[Any, ...]) -> list[torch.Tensor]:
    """The tensors among these that are to get a gradient of their own."""
    return [one for one in args if isinstance(one, torch.Tensor) and one.requires_grad and one.is_leaf]


def is_hollow(tensor: torch.Tensor) -> bool:
    """Whether the tensor has a shape and no numbers."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)


def is_measurable(tensor: torch.Tensor) -> bool:
    """Whether the tensor holds numbers to be read: it is no functorch wrapper, fake, nested or meta tensor."""
    # Within a transformation even what is computed from a plain tensor comes out wrapped.
    if peek_interpreter_stack() is not None or is_functorch_wrapped_tensor(tensor):
        return False
    if tensor.is_meta or tensor.is_nested:
        return False
    return type(tensor) is torch.Tensor or not (isinstance(tensor, FakeTensor) or is_partial_sum(tensor))
